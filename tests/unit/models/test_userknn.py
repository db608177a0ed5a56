"""UserKNN against loops over users and items, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from recsys_zoo import create
from tests import toys
from tests.unit.nn.test_neighbors import naive


def scores(train, users: int, items: int, **settings) -> torch.Tensor:
    model = create("userknn", toys.ranking(users, items), **settings)
    model.fit(train)
    return model.score(torch.arange(users))


def test_hand_example():
    """Cosines of (1,1,0), (1,0,1), (0,0,1): 1/2, 0 and 1/sqrt 2."""
    found = scores(toys.lists([[1, 1, 0], [1, 0, 1], [0, 0, 1]]), 3, 3)
    far, near = 0.5, 1 / math.sqrt(2)
    expected = torch.tensor([[far, 0, far], [far, far, near], [near, 0, near]])
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("shrink", [0.0, 3.0])
@pytest.mark.parametrize("kind", ["cosine", "pearson", "jaccard"])
def test_equal_to_the_double_loop(kind, shrink):
    train = toys.random_lists(12, 10, 0.35)
    r = toys.matrix(train, 10).numpy()
    expected = naive(r, kind, shrink, 4) @ r
    found = scores(train, 12, 10, similarity=kind, shrink=shrink, neighbors=4)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_weights_stand_in_the_similarity_alone():
    """Of 4 users three have item 0: ln(4/4) = 0; two have items 1 and 2: a = ln(4/3).

    Users 0 and 1 share item 2: a^2 / (a x a sqrt 2). The vote of user 1 is 1 for item 0 too.
    """
    train = toys.lists([[1, 0, 1, 0], [1, 1, 1, 0], [1, 1, 0, 1], [0, 0, 0, 0]])
    found = scores(train, 4, 4, weights="tfidf", neighbors=1)
    assert found[0].tolist() == pytest.approx([1 / math.sqrt(2), 1 / math.sqrt(2), 1 / math.sqrt(2), 0])
