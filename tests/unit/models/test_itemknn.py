"""ItemKNN against loops over users and items, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from recsys_zoo import create
from tests import toys
from tests.unit.nn.test_neighbors import naive

EXAMPLE = toys.lists([[1, 1, 0], [1, 0, 1], [1, 0, 1], [0, 0, 1]])


def scores(train, users: int, items: int, **settings) -> torch.Tensor:
    model = create("itemknn", toys.ranking(users, items), **settings)
    model.fit(train)
    return model.score(torch.arange(users))


def test_hand_example():
    """Items of users (0, 1, 2), (0), (1, 2, 3): cosines 1/sqrt 3, 2/3, 0."""
    plain = {"normalize": False, "item_mean": False}
    one, two = 1 / math.sqrt(3), 2 / 3
    expected = torch.tensor([[one, one, two], [two, one, two], [two, one, two], [two, 0, 0]])
    torch.testing.assert_close(scores(EXAMPLE, 4, 3, **plain), expected)
    # the nearest one alone: item 2 for items 0 and item 0 for items 1 and 2; shares of one are 1
    nearest = torch.tensor([[0.0, 1, 1], [1, 1, 1], [1, 1, 1], [1, 0, 0]])
    torch.testing.assert_close(scores(EXAMPLE, 4, 3, neighbors=1, item_mean=False), nearest)


def test_item_means_are_taken_off_and_added():
    """Means 3/4, 1/4, 3/4; the nearest one alone, as above: s_i = m_i + R_j - m_j."""
    found = scores(EXAMPLE, 4, 3, neighbors=1)
    nearest = torch.tensor([[0.0, 1, 1], [1, 1, 1], [1, 1, 1], [1, 0, 0]])
    torch.testing.assert_close(found, nearest + torch.tensor([0, 1 / 4 - 3 / 4, 0]))


@pytest.mark.parametrize("item_mean", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("shrink", [0.0, 3.0])
@pytest.mark.parametrize("kind", ["cosine", "pearson", "jaccard"])
def test_equal_to_the_double_loop(kind, shrink, normalize, item_mean):
    train = toys.random_lists(12, 10, 0.35)
    r = toys.matrix(train, 10).numpy()
    similar, mean = naive(r.T, kind, shrink, 4), r.mean(0)
    expected = np.zeros((12, 10))
    for u in range(12):
        for i in range(10):
            total = similar[i].sum() if normalize else 1.0
            for j in range(10):
                offset = mean[j] if item_mean else 0
                expected[u, i] += similar[i, j] * (r[u, j] - offset) / total if total else 0
            expected[u, i] += mean[i] if item_mean else 0
    settings = {"similarity": kind, "shrink": shrink, "neighbors": 4}
    found = scores(train, 12, 10, normalize=normalize, item_mean=item_mean, **settings)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_weights_replace_r_in_similarities_and_profiles():
    """tfidf of a user with 2 of 3 items: ln(3/3) = 0, with 1: ln(3/2), so only user 3 counts."""
    found = scores(EXAMPLE, 4, 3, weights="tfidf", item_mean=False, normalize=False)
    assert found.tolist() == [[0, 0, 0]] * 4
    train = toys.lists([[1, 1, 0, 0, 0], [1, 1, 1, 0, 0]])
    light, heavy = math.log(5 / 4), math.log(5 / 3)  # of user 1 with 3 items, of user 0 with 2
    with_third = light / math.sqrt(light**2 + heavy**2)  # of item 2 and item 0
    found = scores(train, 2, 5, weights="tfidf", item_mean=False, normalize=False)
    assert found[0].tolist() == pytest.approx([heavy, heavy, 2 * with_third * heavy, 0, 0])


@pytest.mark.parametrize("weights", ["none", "tfidf", "bm25"])
def test_lists_of_others_have_the_weights_of_users_of_the_fit(weights):
    train = toys.random_lists(12, 10, 0.35)
    model = create("itemknn", toys.ranking(12, 10), weights=weights, neighbors=4)
    model.fit(train)
    torch.testing.assert_close(model.score_lists(train), model.score(torch.arange(12)))
