"""BSPM against its differential equations, solved step by step with dense matrices."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from recsys_zoo import create
from tests import toys

USERS, ITEMS = 17, 12


def scores(train, users: int = USERS, items: int = ITEMS, **settings) -> torch.Tensor:
    model = create("bspm", toys.ranking(users, items), **settings)
    model.fit(train)
    return model.score(torch.arange(users)).double()


def filters(r: np.ndarray, vectors: int) -> tuple[np.ndarray, np.ndarray]:
    """P and F; users and items all have an interaction."""
    of_user, of_item = r.sum(1), r.sum(0)
    n = r / np.sqrt(of_user[:, None] * of_item)
    v = np.linalg.svd(n, full_matrices=False)[2][:vectors].T
    return n.T @ n, np.sqrt(of_item)[:, None] ** -1 * (v @ v.T) * np.sqrt(of_item)


def steps(derivative, start: np.ndarray, time: float, count: int, solver: str) -> list[np.ndarray]:
    """The points of an initial value problem, by Euler's method or the classical one of Runge and Kutta."""
    h, now, found = time / count if count else 0, start, []
    for _ in range(count):
        k1 = derivative(now)
        if solver == "euler":
            now = now + h * k1
        else:
            k2 = derivative(now + h / 2 * k1)
            k3 = derivative(now + h / 2 * k2)
            k4 = derivative(now + h * k3)
            now = now + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        found.append(now)
    return found


def naive(r: np.ndarray, cfg) -> np.ndarray:
    """User after user, as the authors' code goes on."""
    p, f = filters(r, cfg.vectors)
    found = []
    for own in r:
        ideal = own @ f * cfg.beta
        blurred = steps(lambda x: x @ p - x, own, cfg.blur_time, cfg.blur_steps, "euler")
        start = blurred[-1] + ideal if cfg.merge == "early" else blurred[-1]
        sharp = steps(lambda x: -(x @ p), start, cfg.sharpen_time, cfg.sharpen_steps, cfg.solver)
        last = np.mean([*blurred, *sharp], 0) if cfg.average else [*blurred, *sharp][-1]
        found.append(last if cfg.merge == "early" and sharp else last + ideal)
    return np.stack(found)


@pytest.mark.parametrize("settings", [
    {},
    {"vectors": 5},
    {"solver": "rk4", "sharpen_time": 2.5, "average": False, "beta": 0.2, "vectors": 6},
    {"solver": "rk4", "sharpen_steps": 2, "sharpen_time": 2.2, "merge": "late", "average": False},
    {"sharpen_steps": 3, "merge": "late", "beta": 0.0},
    {"blur_time": 1.5, "blur_steps": 4, "vectors": 2, "solver": "rk4"},
    {"sharpen_steps": 0, "vectors": 4, "average": False},
    {"sharpen_steps": 0, "blur_steps": 2, "blur_time": 0.8},
], ids=str)
def test_equal_to_the_equations_solved_for_each_user(settings):
    train = toys.random_lists(USERS, ITEMS, 0.4)
    r = toys.matrix(train, ITEMS).numpy()
    assert (r.sum(0) > 0).all()
    assert (r.sum(1) > 0).all()
    cfg = create("bspm", toys.ranking(USERS, ITEMS), **settings).cfg
    expected = torch.from_numpy(naive(r, cfg))
    torch.testing.assert_close(scores(train, **settings), expected, rtol=1e-4, atol=1e-5)


def test_hand_example():
    """R = (1, 1), (0, 1): P = (1/2, a), (a, 3/4) with a = 1/sqrt 8, and both vectors pass, so F = 1.

    Of the second user x = P (0, 1) + (0, 1) / 2 = (a, 5/4); P x = (7/4 a, 17/16), and one Euler step of
    length 1 is x - P x.
    """
    a = 1 / math.sqrt(8)
    settings = {"beta": 0.5, "sharpen_time": 1.0, "average": False}
    found = scores(toys.lists([[1, 1], [0, 1]]), 2, 2, **settings)[1]
    torch.testing.assert_close(found.float(), torch.tensor([-0.75 * a, 3 / 16]))  # computed in float32


def test_without_sharpening_it_is_gfcf():
    train = toys.random_lists(USERS, ITEMS, 0.4)
    other = create("gfcf", toys.ranking(USERS, ITEMS), alpha=0.3, vectors=5)
    other.fit(train)
    found = scores(train, sharpen_steps=0, beta=0.3, vectors=5)
    torch.testing.assert_close(found, other.score(torch.arange(USERS)).double(), rtol=1e-5, atol=1e-6)


def test_many_steps_come_to_the_exponential():
    train = toys.random_lists(USERS, ITEMS, 0.4)
    r = toys.matrix(train, ITEMS)
    p = torch.from_numpy(filters(r.numpy(), 1)[0])
    expected = r @ p @ torch.linalg.matrix_exp(-2.5 * p)
    last = {"beta": 0.0, "sharpen_time": 2.5, "average": False}
    found = scores(train, sharpen_steps=64, solver="rk4", **last)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    coarse = scores(train, **last)
    assert float((coarse - expected).abs().max()) > 0.1


def test_items_without_users_score_nothing():
    found = scores(toys.lists([[1, 1, 0], [0, 1, 0]]), 2, 3)
    assert found[:, 2].tolist() == [0, 0]
