"""iALS against its loss, dense solutions and hand examples."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from recsys_zoo import create
from recsys_zoo.errors import InputError
from recsys_zoo.itemlists import ItemLists
from recsys_zoo.models.retrieval import ials
from recsys_zoo.models.retrieval.ials import IALSConfig, half_step
from tests import toys

USERS, ITEMS = 20, 14
TRAIN = toys.random_lists(USERS, ITEMS, 0.3)
R = toys.matrix(TRAIN, ITEMS)


def config(**settings) -> IALSConfig:
    return IALSConfig(**{"dim": 6, "l2": 0.01, "alpha0": 0.2, **settings})


def factors(dim: int = 6, dtype=torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return tuple(torch.randn(n, dim, generator=g, dtype=dtype) for n in (USERS, ITEMS))


def loss(p, q, r, cfg: IALSConfig) -> float:
    s, (users, items) = p @ q.T, r.shape
    ridge = ((r.sum(1) + cfg.alpha0 * items) ** cfg.nu * (p**2).sum(1)).sum()
    ridge = ridge + ((r.sum(0) + cfg.alpha0 * users) ** cfg.nu * (q**2).sum(1)).sum()
    return float((r * (s - 1) ** 2).sum() + cfg.alpha0 * (s**2).sum() + cfg.l2 * ridge)


def transposed(train: ItemLists, users: int, items: int) -> ItemLists:
    return ItemLists.of(*reversed(train.pairs()), items, users)


@pytest.mark.parametrize("numbers", [1, 200, 1 << 20])
@pytest.mark.parametrize("nu", [0.0, 0.5, 1.0])
def test_a_half_step_with_one_block_is_the_dense_solution(monkeypatch, nu, numbers):
    """And so has no slope, whatever the size of a batch."""
    monkeypatch.setattr(ials, "_NUMBERS", numbers)
    (p, q), cfg = factors(), config(block=6, nu=nu)
    half_step(p, q, TRAIN, cfg)
    for u in range(USERS):
        own = q[R[u] > 0]
        ridge = cfg.l2 * (len(own) + cfg.alpha0 * ITEMS) ** nu
        left = own.T @ own + cfg.alpha0 * q.T @ q + ridge * torch.eye(6)
        torch.testing.assert_close(p[u], torch.linalg.solve(left, own.sum(0)))
    p.requires_grad_()
    s = p @ q.T
    squares = ((R.sum(1) + cfg.alpha0 * ITEMS) ** nu * (p**2).sum(1)).sum()
    total = (R * (s - 1) ** 2).sum() + cfg.alpha0 * (s**2).sum() + cfg.l2 * squares
    total.backward()
    assert p.grad.abs().max() < 1e-9


@pytest.mark.parametrize("block", [1, 4, 6])
def test_the_loss_never_rises(block):
    (p, q), cfg = factors(), config(block=block)
    by_item, found = transposed(TRAIN, USERS, ITEMS), [loss(*factors(), R, config())]
    for _ in range(8):
        half_step(p, q, TRAIN, cfg)
        found.append(loss(p, q, R, cfg))
        half_step(q, p, by_item, cfg)
        found.append(loss(p, q, R, cfg))
    assert all(later < earlier + 1e-9 for earlier, later in pairwise(found))
    assert found[-1] < 0.2 * found[0]


def test_blocks_reach_the_solution_of_all_coordinates():
    (p, q), (whole, _) = factors(), factors()
    for _ in range(120):
        half_step(p, q, TRAIN, config(block=2))
    half_step(whole, q, TRAIN, config(block=6))
    torch.testing.assert_close(p, whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("nu", "ridge"), [(0.0, 1.0), (1.0, 2.0), (2.0, 4.0)])
def test_hand_example(nu, ridge):
    """One user with one of two items, d = 1, q = (2, 1), alpha0 = 1/2, so |R_u| + alpha0 I = 2; lambda 1:
    p = 2 / (4 + (4 + 1) / 2 + 2^nu)."""
    p, q = torch.zeros(1, 1, dtype=torch.float64), torch.tensor([[2.0], [1.0]], dtype=torch.float64)
    half_step(p, q, toys.lists([[1, 0]]), config(dim=1, l2=1.0, alpha0=0.5, nu=nu))
    assert p.item() == pytest.approx(2 / (4 + 2.5 + ridge))


@pytest.mark.parametrize("block", [1, 2, 6])
def test_users_without_items_have_no_factor(block):
    """Exactly, however many coordinates move at once: all items are alike to them."""
    (p, q), cfg = factors(), config(block=block)
    half_step(p, q, TRAIN.first(3), cfg)
    counts = TRAIN.first(3).counts
    assert bool((p[counts == 0] == 0).all())
    assert bool((p[counts > 0] != 0).all())


def test_enough_dimensions_without_penalty_give_r_back():
    """alpha0 = 1 is (s - 1)^2 + s^2 on the ones: s = 1/2 there, and 0 elsewhere."""
    settings = {"dim": 16, "l2": 1e-7, "alpha0": 1.0, "epochs": 60, "init_std": 1.0}
    model = create("ials", toys.ranking(USERS, ITEMS), seed=1, **settings)
    model.fit(TRAIN)
    torch.testing.assert_close(model.score(torch.arange(USERS)).double(), R / 2, rtol=0, atol=0.01)


def test_fit_is_the_alternation_of_half_steps():
    model = create("ials", toys.ranking(USERS, ITEMS), seed=1, dim=6, epochs=2)
    model.fit(TRAIN)
    g = torch.Generator().manual_seed(model.seed)
    p, q = (0.1 / 6**0.5 * torch.randn(n, 6, generator=g) for n in (USERS, ITEMS))
    for _ in range(2):
        half_step(p, q, TRAIN, model.cfg)
        half_step(q, p, transposed(TRAIN, USERS, ITEMS), model.cfg)
    half_step(p, q, TRAIN, model.cfg)
    assert torch.equal(model.score(torch.arange(USERS)), p @ q.T)
    other = create("ials", toys.ranking(USERS, ITEMS), seed=2, dim=6, epochs=2)
    other.fit(TRAIN)
    assert not torch.equal(other.items, model.items)


def test_others_are_folded_in_by_the_dense_solution():
    """By (Q_u^T Q_u + alpha0 Q^T Q + ridge)^-1 Q_u^T 1, although the fit has solved block after block."""
    model = create("ials", toys.ranking(USERS, ITEMS), seed=1, dim=6, block=2, epochs=3)
    model.fit(TRAIN)
    q, cfg, lists = model.items.double(), model.cfg, toys.random_lists(5, ITEMS, 0.4, seed=7)
    expected = []
    for row in toys.matrix(lists, ITEMS):
        own = q[row > 0]
        ridge = cfg.l2 * (len(own) + cfg.alpha0 * ITEMS) ** cfg.nu
        matrix = own.T @ own + cfg.alpha0 * q.T @ q + ridge * torch.eye(6, dtype=torch.float64)
        expected.append(q @ torch.linalg.solve(matrix, own.sum(0)))
    torch.testing.assert_close(model.score_lists(lists).double(), torch.stack(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("l2", [1e-4, 1e-6])
def test_a_ridge_that_single_precision_loses_gives_the_solution_of_double_precision(l2):
    """More dimensions than rows of q: the ridge alone makes the systems regular."""
    cfg = IALSConfig(dim=64, block=64, l2=l2, nu=0.0)
    p, q = factors(64, torch.float32)
    exact = p.double()
    half_step(exact, q.double(), TRAIN, cfg)
    half_step(p, q, TRAIN, cfg)
    torch.testing.assert_close((p @ q.T).double(), exact @ q.double().T, rtol=2e-3, atol=2e-3)


def test_a_ridge_of_nothing_is_told_in_one_sentence():
    model = create("ials", toys.ranking(USERS, ITEMS), dim=64, nu=0.0, l2=1e-30)
    with pytest.raises(InputError, match=r"model\.l2: too small to make the regressions"):
        model.fit(TRAIN)
