"""Nearest neighbours against double loops over dense rows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from recsys_zoo.nn import neighbors
from recsys_zoo.nn.neighbors import nearest, weighted
from recsys_zoo.nn.sparse import scipy_csr
from tests import toys


def similarity(a, b, kind: str, shrink: float) -> float:
    if kind == "pearson":
        a, b = a - a.mean(), b - b.mean()
    dot, squares = float(a @ b), (float(a @ a), float(b @ b))
    if kind == "jaccard":
        return dot / (sum(squares) - dot + shrink)
    below = math.sqrt(squares[0] * squares[1]) + shrink
    return dot / below if below > 1e-12 else 0.0


def naive(x, kind: str, shrink: float, k: int):
    """For each row a sorted list of all others, best first, smaller numbers first among equals."""
    found = np.zeros((len(x), len(x)))
    for i, row in enumerate(x):
        others = [(j, other) for j, other in enumerate(x) if j != i]
        rated = [(-np.float32(round(similarity(row, other, kind, shrink), 12)), j) for j, other in others]
        for negative, j in sorted(rated)[:k]:
            if negative < 0:
                found[i, j] = -negative
    return found


@pytest.mark.parametrize("rows", [2, 1024])
@pytest.mark.parametrize("k", [1, 3, 50])
@pytest.mark.parametrize("shrink", [0.0, 2.5])
@pytest.mark.parametrize("kind", ["cosine", "pearson", "jaccard"])
def test_equal_to_the_double_loop(monkeypatch, kind, shrink, k, rows):
    monkeypatch.setattr(neighbors, "_ROWS", rows)
    x = scipy_csr(toys.random_lists(14, 9, 0.4), 9, "float64")
    found = nearest(x, kind, shrink, k).toarray()
    np.testing.assert_allclose(found, naive(x.toarray(), kind, shrink, k), rtol=1e-6, atol=1e-9)
    assert (found > 0).sum(1).max() <= k


def test_hand_example():
    """(1,1,0), (1,0,1), (1,1,1): cosines 1/2, 2/sqrt 6; with shrink 1 halves of 3; jaccards 1/3, 2/3."""
    x = scipy_csr(toys.lists([[1, 1, 0], [1, 0, 1], [1, 1, 1]]), 3)
    expected = np.array([[0, 0.5, 2 / 6**0.5], [0.5, 0, 2 / 6**0.5], [2 / 6**0.5, 2 / 6**0.5, 0]])
    np.testing.assert_allclose(nearest(x, "cosine", 0, 2).toarray(), expected, rtol=1e-6)
    assert nearest(x, "cosine", 1, 2)[0, 1] == pytest.approx(1 / 3)
    assert nearest(x, "jaccard", 0, 2)[0].toarray().tolist() == [pytest.approx([0, 1 / 3, 2 / 3])]
    # pearson of rows 0 and 1: (2 - 2 x 2) / 3 < 0; row 2 does not vary
    assert nearest(x, "pearson", 0, 2).nnz == 0


def test_of_equal_neighbours_the_first_is_kept():
    x = scipy_csr(toys.lists([[1], [1], [1], [1]]), 1)
    found = nearest(x, "cosine", 0, 2).toarray().tolist()
    assert found == [[0, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 0], [1, 1, 0, 0]]


def test_weights_hand_example():
    """Documents (1,1) and (1,0) of 2, and one more: df 2, 1; idf ln(3/3) = 0 and ln(3/2); lengths 2, 1, 0."""
    x = scipy_csr(toys.lists([[1, 1], [1, 0], [0, 0]]), 2, "float64")
    idf = math.log(1.5)
    np.testing.assert_allclose(weighted(x, "tfidf").toarray(), [[0, idf], [0, 0], [0, 0]])
    length = 2.2 / (1.2 * (0.25 + 0.75 * 2 / 1) + 1)
    np.testing.assert_allclose(weighted(x, "bm25").toarray(), [[0, idf * length], [0, 0], [0, 0]])
    assert weighted(x, "none") is x


def test_weights_are_never_negative():
    x = scipy_csr(toys.lists([[1], [1], [1]]), 1)
    assert weighted(x, "tfidf").data.tolist() == [0, 0, 0]  # ln(3 / 4) below 0
