"""SLIM against scikit-learn on all columns, the conditions of its optimum, and EASE."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import ElasticNet

from recsys_zoo import create
from recsys_zoo.models.retrieval import slim
from tests import toys

USERS, ITEMS = 40, 12
TRAIN = toys.random_lists(USERS, ITEMS, 0.3)
R = toys.matrix(TRAIN, ITEMS).numpy()


def weights(train=TRAIN, users: int = USERS, items: int = ITEMS, **settings) -> np.ndarray:
    model = create("slim", toys.ranking(users, items), **settings)
    model.fit(train)
    return model.weight.tensor().to_dense().double().numpy()


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize(("alpha", "l1_ratio"), [(0.005, 1e-6), (0.05, 0.1), (0.1, 0.5)])
def test_equal_to_elastic_nets_on_all_other_items(alpha, l1_ratio, positive):
    """Without the choice of items that it makes, and by dense coordinate descent."""
    found = weights(alpha=alpha, l1_ratio=l1_ratio, positive=positive)
    for item in range(ITEMS):
        others = np.delete(np.arange(ITEMS), item)
        net = ElasticNet(alpha=alpha, l1_ratio=l1_ratio, positive=positive, fit_intercept=False,
                         max_iter=100_000, tol=1e-10)
        net.fit(R[:, others], R[:, item])
        np.testing.assert_allclose(found[others, item], net.coef_, atol=1e-5)
        assert found[item, item] == 0


@pytest.mark.parametrize(("alpha", "l1_ratio"), [(0.005, 1e-6), (0.05, 0.1)])
def test_conditions_of_the_optimum(alpha, l1_ratio):
    """w >= 0; the slope of the loss is 0 where w > 0, and at least 0 where w = 0."""
    w = weights(alpha=alpha, l1_ratio=l1_ratio)
    assert w.min() >= 0
    assert np.diagonal(w).max() == 0
    assert 10 < (w > 0).sum() < ITEMS * (ITEMS - 1)
    slope = R.T @ (R @ w - R) / USERS + alpha * l1_ratio + alpha * (1 - l1_ratio) * w
    assert abs(slope[w > 0]).max() < 1e-5
    np.fill_diagonal(slope, 0)
    assert slope.min() > -1e-5


def test_without_l1_and_sign_it_is_ease():
    model = create("ease", toys.ranking(USERS, ITEMS), l2=0.05 * USERS)
    model.fit(TRAIN)
    found = weights(alpha=0.05, l1_ratio=0, positive=False)
    np.testing.assert_allclose(found, model.weight, atol=1e-4)


def test_hand_example():
    """Items of users (0, 1) and (0, 1, 2, 3) of 4, one weight each: (2/4 - a r) / (|R_j|^2/4 + a (1 - r)).

    That is 0.4 over 1/2 + 0.1 and over 1 + 0.1.
    """
    train = toys.lists([[1, 1], [1, 1], [0, 1], [0, 1]])
    found = weights(train, 4, 2, alpha=0.2, l1_ratio=0.5)
    np.testing.assert_allclose(found, [[0, 0.4 / 0.6], [0.4 / 1.1, 0]], atol=1e-6)


def test_scores_are_sums_of_weights():
    model = create("slim", toys.ranking(USERS, ITEMS), alpha=0.05, l1_ratio=0.1)
    model.fit(TRAIN)
    expected = torch.from_numpy(R @ weights(alpha=0.05, l1_ratio=0.1)).float()
    torch.testing.assert_close(model.score(torch.arange(USERS)), expected)


def test_what_does_not_converge_is_said_once(monkeypatch):
    monkeypatch.setattr(slim, "_SWEEPS", 2)
    with pytest.warns(UserWarning, match=r"of 12 items still moved after 2 sweeps; a larger alpha") as found:
        weights()
    assert len(found) == 1
