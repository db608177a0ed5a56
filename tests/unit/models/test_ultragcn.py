"""UltraGCN: weights and losses against loops over its formulas, and its reductions."""

from __future__ import annotations

import math

import pytest
import torch

from recsys_zoo import create
from recsys_zoo.batch import Pairs
from recsys_zoo.itemlists import ItemLists
from recsys_zoo.models import vectors
from recsys_zoo.nn import neighbors
from tests import toys

USERS, ITEMS = 9, 7


def made(train: ItemLists, items: int = ITEMS, **settings):
    tables = {"dim": 3, "init_std": 0.7}
    given = {"embedding": tables, "negatives": 2, "neighbors": 3, **settings}
    model = create("ultragcn", toys.ranking(len(train), items), seed=1, **given)
    model.prepare(train)
    return model


def batch() -> Pairs:
    return Pairs(torch.tensor([0, 3, 3]), torch.tensor([1, 2, 5]), torch.tensor([[4, 0], [6, 6], [0, 1]]),
                 torch.ones(3))


def log_loss(score: float, positive: bool) -> float:
    return math.log1p(math.exp(-score if positive else score))


def test_omega_by_hand():
    """Users {0, 1} and {1}: G = [[1, 1], [1, 2]] with sums 2 and 3."""
    model = made(toys.lists([[1, 1], [0, 1]]), 2, neighbors=2)
    rows = [[1 * 3**0.5 / 2 / 3**0.5, 1 * 3**0.5 / 2 / 4**0.5],
            [1 * 4**0.5 / 3 / 3**0.5, 2 * 4**0.5 / 3 / 4**0.5]]
    dense = torch.zeros(2, 2).scatter_(1, model.near, model.omega)
    torch.testing.assert_close(dense, torch.tensor(rows))
    one = made(toys.lists([[1, 1], [0, 1]]), 2, neighbors=1)
    assert one.near.tolist() == [[0], [1]]  # 0.5 against 0.433; the diagonal is kept


@pytest.mark.parametrize("rows", [2, 1024])
def test_items_that_stand_together_are_those_of_a_dense_product(monkeypatch, rows):
    monkeypatch.setattr(neighbors, "_ROWS", rows)
    train = toys.random_lists(USERS, ITEMS, 0.4)
    r = toys.matrix(train, ITEMS).double()
    weight = torch.rand(ITEMS) + 0.1
    near, counts = neighbors.together(train, weight, 3)
    for item, row in enumerate(r.t() @ r):
        order = sorted(range(ITEMS), key=lambda j: (-float(row[j] * weight[j].double()), j))
        kept = sorted(j for j in order[:3] if row[j])
        assert near[item, : len(kept)].tolist() == kept
        assert counts[item].tolist() == [float(row[j]) for j in kept] + [0.0] * (3 - len(kept))


@pytest.mark.parametrize("cost", [0, 64])
def test_losses_are_those_of_loops(monkeypatch, cost):
    """With the vectors gathered, and by a product with all items."""
    monkeypatch.setattr(vectors, "GATHER_COST", cost)
    train = toys.random_lists(USERS, ITEMS, 0.4)
    w1, w2, w3, w4, weight, lam = 0.3, 0.8, 0.2, 0.9, 5.0, 0.7
    model = made(train, w1=w1, w2=w2, w3=w3, w4=w4, negative_weight=weight, item_weight=lam)
    p, q = (v.detach().double() for v in model.vectors())
    r = toys.matrix(train, ITEMS).double()
    du, di, g = r.sum(1), r.sum(0), (r.t() @ r).sum(0)
    found, pairs, total, items = model.losses(batch()), batch(), 0.0, 0.0

    def beta(u: int, i: int) -> float:
        return float(((du[u] + 1) / (di[i] + 1)).sqrt() / du[u])

    for u, i, negatives in zip(pairs.user.tolist(), pairs.pos.tolist(), pairs.neg.tolist(), strict=True):
        total += (w1 + w2 * beta(u, i)) * log_loss(float(p[u] @ q[i]), True)
        for j in negatives:
            total += weight / 2 * (w3 + w4 * beta(u, j)) * log_loss(float(p[u] @ q[j]), False)
        omega = (r.t() @ r)[i] * (g[i] + 1).sqrt() / g[i] / (g + 1).sqrt()
        best = sorted(range(ITEMS), key=lambda j: (-float(omega[j]), j))[:3]
        items += lam * sum(float(omega[j]) * log_loss(float(p[u] @ q[j]), True) for j in best)
    expected = {"pairs": total, "items": items}
    assert {k: float(v.detach()) for k, v in found.items()} == pytest.approx(expected, rel=1e-5)


def test_both_ways_have_equal_gradients(monkeypatch):
    train, found = toys.random_lists(USERS, ITEMS, 0.4), []
    for cost in (0, 64):
        monkeypatch.setattr(vectors, "GATHER_COST", cost)
        model = made(train)
        found.append(torch.autograd.grad(sum(model.losses(batch()).values()), list(model.parameters())))
    for gathered, product in zip(*found, strict=True):
        torch.testing.assert_close(gathered, product)


def test_without_graph_weights_it_is_weighted_cross_entropy_of_mf():
    train = toys.random_lists(USERS, ITEMS, 0.4)
    model = made(train, w1=1, w2=0, w3=1, w4=0, negative_weight=2, item_weight=0)
    mf = create("mf", toys.ranking(USERS, ITEMS), embedding={"dim": 3}, loss="cross_entropy", negatives=2,
                l2=0)
    mf.load_state_dict(model.state_dict())
    found = model.losses(batch())
    assert set(found) == {"pairs"}
    torch.testing.assert_close(found["pairs"] / 3, mf.losses(batch())["cross_entropy"])


def test_weights_are_those_of_the_lists_prepared_last():
    model = made(toys.random_lists(USERS, ITEMS, 0.4))
    model.prepare(toys.random_lists(USERS, ITEMS, 0.6, seed=5))
    again = made(toys.random_lists(USERS, ITEMS, 0.6, seed=5))
    for name in ("near", "omega", "beta_user", "beta_item"):
        assert torch.equal(getattr(model, name), getattr(again, name)), name
