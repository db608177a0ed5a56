"""EASE against the conditions of its ridge regression and a dense inverse."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recsys_zoo import create
from recsys_zoo.errors import InputError
from recsys_zoo.models.retrieval import ease
from tests import toys

TRAIN = toys.random_lists(30, 12, 0.3)
R = toys.matrix(TRAIN, 12)


def fitted(train, users: int, items: int, l2: float):
    model = create("ease", toys.ranking(users, items), l2=l2)
    model.fit(train)
    return model


@pytest.mark.parametrize("rows", [1, 5, 12, 1024])
@pytest.mark.parametrize("l2", [0.5, 20.0])
def test_weights_are_those_of_the_inverse(monkeypatch, l2, rows):
    monkeypatch.setattr(ease, "_ROWS", rows)
    p = torch.linalg.inv(R.T @ R + l2 * torch.eye(12))
    expected = (-p / p.diagonal()).fill_diagonal_(0)
    model = fitted(TRAIN, 30, 12, l2)
    torch.testing.assert_close(model.weight.double(), expected, rtol=1e-4, atol=1e-5)
    assert model.weight.diagonal().tolist() == [0] * 12
    torch.testing.assert_close(model.score(torch.arange(30)).double(), R @ expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("l2", [0.5, 20.0])
def test_the_gradient_of_the_ridge_regression_is_zero_off_the_diagonal(l2):
    """Of |R - R B|^2 + l2 |B|^2: 2 (l2 B - R^T (R - R B))."""
    b = fitted(TRAIN, 30, 12, l2).weight.double()
    gradient = 2 * (l2 * b - R.T @ (R - R @ b))
    assert gradient.clone().fill_diagonal_(0).abs().max() < 1e-4
    assert gradient.diagonal().abs().min() > 1e-2


def test_identity_gives_no_weights():
    model = fitted(toys.lists(np.eye(4, dtype=int).tolist()), 4, 4, 1.0)
    assert model.weight.abs().max() == 0
    assert model.score(torch.arange(4)).abs().max() == 0


def test_hand_example():
    """Gram (2, 1), (1, 1) + 1 = (3, 1), (1, 2); P = (2, -1), (-1, 3) / 5; B_01 = 1/3, B_10 = 1/2."""
    model = fitted(toys.lists([[1, 1], [1, 0]]), 2, 2, 1.0)
    torch.testing.assert_close(model.weight, torch.tensor([[0, 1 / 3], [1 / 2, 0]]))
    torch.testing.assert_close(model.score(torch.arange(2)), torch.tensor([[1 / 2, 1 / 3], [0, 1 / 3]]))


def test_too_many_items_for_the_memory_are_refused_before_it_is_taken(monkeypatch):
    monkeypatch.setattr(ease, "memory_bytes", lambda: 3 * 10**9)
    model = create("ease", toys.ranking(1, 40_981))
    monkeypatch.setattr(torch, "empty", None)
    with pytest.raises(InputError, match=r"40981 items need 7.2 GB, and this machine has 3.0 GB; keep fewer"):
        model.fit(toys.lists([[1]]))


def test_a_penalty_that_rounding_swallows_is_refused_and_leaves_nothing_of_an_earlier_fit():
    users = 100
    model = fitted(toys.lists([[1, 0], [0, 1]] * (users // 2)), users, 2, 1e-9)
    model.score(torch.arange(2))
    with pytest.raises(InputError, match="l2 = 1e-09 is too small to invert these items; raise it"):
        model.fit(toys.lists([[1, 1]] * users))
    with pytest.raises(InputError, match="not fitted"):
        model.score(torch.arange(2))
