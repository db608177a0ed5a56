"""GF-CF against its equation with a dense singular value decomposition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from recsys_zoo import create
from recsys_zoo.itemlists import ItemLists
from recsys_zoo.models.retrieval import gfcf
from recsys_zoo.models.retrieval.gfcf import _right_singular_vectors
from recsys_zoo.nn.sparse import scipy_csr
from tests import toys


def scores(train, users: int, items: int, **settings) -> torch.Tensor:
    model = create("gfcf", toys.ranking(users, items), **settings)
    model.fit(train)
    return model.score(torch.arange(users)).double()


def dense(r: torch.Tensor, alpha: float, vectors: int) -> torch.Tensor:
    """The equation, in float64; items and users all have an interaction."""
    of_user, of_item = r.sum(1), r.sum(0)
    n = r / (of_user[:, None] * of_item).sqrt()
    v = torch.linalg.svd(n, full_matrices=False)[2][:vectors].T
    ideal = (v @ v.T) * (of_item.sqrt() / of_item.sqrt()[:, None])
    return r @ (n.T @ n + alpha * ideal)


@pytest.mark.parametrize("vectors", [1, 3, 8, 11, 12, 256])
def test_equal_to_the_dense_equation(vectors):
    train = toys.random_lists(17, 12, 0.4)
    r = toys.matrix(train, 12)
    assert bool((r.sum(0) > 0).all() and (r.sum(1) > 0).all())
    found = scores(train, 17, 12, vectors=vectors, alpha=0.3)
    torch.testing.assert_close(found, dense(r, 0.3, vectors), rtol=1e-4, atol=1e-5)


def test_without_weight_of_the_ideal_filter_the_linear_one_is_left():
    train = toys.random_lists(17, 12, 0.4)
    found = scores(train, 17, 12, alpha=0.0)
    torch.testing.assert_close(found, dense(toys.matrix(train, 12), 0.0, 0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["gfcf", "bspm"])
def test_few_users_at_a_time_where_there_are_many(name, monkeypatch):
    """The first product has a number for every user and every user that is scored: only so many."""
    train, sizes = toys.random_lists(40, 12, 0.3), []
    model = create(name, toys.ranking(40, 12), vectors=3)
    model.fit(train)
    whole = model.score(torch.arange(40))
    linear = type(model)._linear
    monkeypatch.setattr(gfcf, "_AT_ONCE", 7 * 40 + 5)
    monkeypatch.setattr(type(model), "_linear", lambda self, columns: (sizes.append(columns.shape[1]),
                                                                      linear(self, columns))[1])
    torch.testing.assert_close(model.score(torch.arange(40)), whole)
    assert set(sizes) == {7, 40 % 7}


def test_hand_example():
    """R = (1, 1), (0, 1): N = (1/sqrt 2, 1/2), (0, 1/sqrt 2); N^T N = (1/2, a), (a, 3/4) with a = 1/sqrt 8.

    Both vectors pass, so the ideal filter is the identity.
    """
    a = 1 / math.sqrt(8)
    found = scores(toys.lists([[1, 1], [0, 1]]), 2, 2, alpha=0.5)
    expected = torch.tensor([[0.5 + a + 0.5, a + 0.75 + 0.5], [a, 0.75 + 0.5]], dtype=torch.float64)
    torch.testing.assert_close(found, expected)


def test_items_without_users_score_nothing():
    found = scores(toys.lists([[1, 1, 0], [0, 1, 0]]), 2, 3)
    assert found[:, 2].tolist() == [0, 0]


def test_vectors_of_singular_values_of_zero_are_left_out():
    same = scipy_csr(toys.lists([[1, 1, 0], [1, 1, 0], [1, 1, 0]]), 3)
    v = _right_singular_vectors(same, 3)
    assert abs(v.ravel()).tolist() == pytest.approx([0.5**0.5, 0.5**0.5, 0], abs=1e-6)


@pytest.mark.parametrize("shape", [(40, 9), (9, 40)])
def test_singular_vectors_by_the_smaller_side_are_those_of_the_whole(monkeypatch, shape):
    """Up to their signs, which no score depends on."""
    matrix = scipy_csr(toys.random_lists(*shape, 0.4), shape[1])
    whole = _right_singular_vectors(matrix, 9)
    monkeypatch.setattr(gfcf, "_DENSE", 0)
    found = _right_singular_vectors(matrix, 9)
    assert found.shape == whole.shape
    np.testing.assert_allclose(abs((found * whole).sum(0)), 1, atol=1e-4)


def test_nothing_learnt_from_scores_nothing():
    """With more users and items than vectors."""
    assert not scores(ItemLists.of(*torch.zeros((2, 0), dtype=torch.int64), 300, 320), 300, 320).any()
