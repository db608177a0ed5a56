"""ExpoMF against loops over users and items in double precision."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from recsys_zoo import create
from recsys_zoo.models.retrieval import expomf
from recsys_zoo.models.retrieval.expomf import ExpoMFConfig, exposures
from tests import toys

USERS, ITEMS, DIM = 13, 9, 4
TRAIN = toys.random_lists(USERS, ITEMS, 0.3)
Y = toys.matrix(TRAIN, ITEMS).numpy()


def exposure(theta, beta, mu, y, cfg: ExpoMFConfig) -> np.ndarray:
    """a_ui of every pair, one after the other."""
    factor = {"normal": math.sqrt(cfg.precision / (2 * math.pi)),
              "authors": math.sqrt(cfg.precision / 2 * math.pi)}[cfg.density]
    a = np.ones_like(y)
    for u, i in zip(*np.nonzero(y == 0), strict=True):
        n = factor * math.exp(-cfg.precision * (theta[u] @ beta[i]) ** 2 / 2)
        a[u, i] = n * mu[i] / (n * mu[i] + 1 - mu[i])
    return a


def factors(rows, other, a, y, cfg: ExpoMFConfig) -> np.ndarray:
    found = np.zeros_like(rows)
    for u in range(len(rows)):
        left = cfg.l2 / cfg.precision * np.eye(rows.shape[1])
        right = np.zeros(rows.shape[1])
        for i in range(len(other)):
            left += a[u, i] * np.outer(other[i], other[i])
            right += a[u, i] * y[u, i] * other[i]
        found[u] = np.linalg.solve(left, right)
    return found


@pytest.mark.parametrize("settings", [
    {}, {"density": "authors"}, {"precision": 3.0, "exposure": 0.3, "prior": (2.0, 5.0)}], ids=str)
def test_a_fit_is_that_of_loops(monkeypatch, settings):
    monkeypatch.setattr(expomf, "_NUMBERS", 5 * ITEMS * DIM)  # several blocks
    model = create("expomf", toys.ranking(USERS, ITEMS), seed=1, dim=DIM, epochs=3, init_std=0.3, l2=0.05,
                   **settings)
    cfg, g = model.cfg, torch.Generator().manual_seed(model.seed)
    theta, beta = (0.3 * torch.randn(n, DIM, generator=g).double().numpy() for n in (USERS, ITEMS))
    mu = np.full(ITEMS, cfg.exposure)
    for _ in range(3):
        theta = factors(theta, beta, exposure(theta, beta, mu, Y, cfg), Y, cfg)
        a = exposure(theta, beta, mu, Y, cfg)
        beta = factors(beta, theta, a.T, Y.T, cfg)
        a = exposure(theta, beta, mu, Y, cfg)
        one, two = cfg.prior
        mu = (one + a.sum(0) - 1) / (one + two + USERS - 2)
    model.fit(TRAIN)
    np.testing.assert_allclose(model.score(torch.arange(USERS)).numpy(), theta @ beta.T, rtol=2e-3, atol=2e-4)


def test_what_was_clicked_was_looked_at_and_the_density_is_one_of_two():
    p = torch.zeros(USERS, DIM)
    q = torch.zeros(ITEMS, DIM)
    for density, factor in (("normal", 1 / math.sqrt(2 * math.pi)), ("authors", math.sqrt(math.pi / 2))):
        a = exposures(p, q, TRAIN, torch.full((1, ITEMS), 0.2), ExpoMFConfig(density=density)).numpy()
        assert (a[Y == 1] == 1).all()
        assert a[Y == 0] == pytest.approx(factor * 0.2 / (factor * 0.2 + 0.8), rel=1e-6)


def test_few_items_and_a_small_ridge_give_the_solution_of_double_precision():
    """60 items and 200 dimensions: the ridge alone makes the systems regular."""
    g = torch.Generator().manual_seed(0)
    p, q = (0.01 * torch.randn(n, 200, generator=g) for n in (50, 60))
    lists, mu = toys.random_lists(50, 60, 0.2), torch.full((1, 60), 0.01)
    cfg = ExpoMFConfig(l2=1e-5)
    found = expomf.regressed(p, q, lists, mu, cfg)
    a, own = exposures(p, q, lists, mu, cfg).double(), q.double()
    left = torch.einsum("ui,id,ie->ude", a, own, own) + cfg.l2 / cfg.precision * torch.eye(200).double()
    right = toys.matrix(lists, 60).double() @ own
    expected = torch.linalg.solve(left, right)
    torch.testing.assert_close((found.double() @ own.T), expected @ own.T, rtol=1e-4, atol=1e-5)
