"""NeuMF: scores against its formula one pair at a time, and what its parts reduce to."""

from __future__ import annotations

import math

import pytest
import torch

from recsys_zoo import create
from recsys_zoo.batch import Pairs
from recsys_zoo.models.retrieval import neumf
from tests import toys

USERS, ITEMS, DIM = 5, 7, 3


def made(**settings):
    given = {"embedding": {"dim": DIM, "init_std": 0.7}, "hidden": [4, 2], "negatives": 2, **settings}
    return create("neumf", toys.ranking(USERS, ITEMS), seed=1, **given).eval()


def by_formula(model, user: int, item: int) -> float:
    """h . [p * q ; MLP(p' ; q')], with one matrix for the joined vectors."""
    row, column = model.user_rows(torch.tensor(user)), model.item_rows(torch.tensor(item))
    z = torch.cat([row[DIM:], column[DIM:]])
    first = torch.cat([model.of_user.weight, model.of_item.weight], 1)
    z = torch.relu(first @ z + model.of_user.bias)
    for layer in model.rest.layers:
        if isinstance(layer, torch.nn.Linear):
            z = torch.relu(layer.weight @ z + layer.bias)
    return float((model.head(torch.cat([row[:DIM] * column[:DIM], z]))).detach())


@pytest.mark.parametrize("hidden", [[4], [4, 2], [5, 3, 2]])
@pytest.mark.parametrize("block", [1, 1 << 22])
def test_scores_are_those_of_the_formula(monkeypatch, hidden, block):
    """With one item at a time, and all at once."""
    monkeypatch.setattr(neumf, "_BLOCK", block)
    model, users = made(hidden=hidden), torch.tensor([4, 0])
    found = model.scoring()(users)
    assert not found.requires_grad
    expected = torch.tensor([[by_formula(model, u, i) for i in range(ITEMS)] for u in users.tolist()])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_loss_is_that_of_the_scores():
    model = made()
    pairs = Pairs(torch.tensor([0, 3]), torch.tensor([1, 2]), torch.tensor([[4, 0], [6, 6]]), torch.ones(2))
    total = 0.0
    for user, pos, negatives in zip(pairs.user.tolist(), pairs.pos.tolist(), pairs.neg.tolist(), strict=True):
        total += math.log1p(math.exp(-by_formula(model, user, pos)))
        total += sum(math.log1p(math.exp(by_formula(model, user, j))) for j in negatives)
    assert float(model.losses(pairs)["cross_entropy"].detach()) == pytest.approx(total / 2, rel=1e-5)


def test_without_the_perceptron_it_is_a_weighted_inner_product():
    model = made()
    with torch.no_grad():
        model.head.weight[:, DIM:] = 0
    users, items = model.vectors()
    expected = (users[:, :DIM] * model.head.weight[0, :DIM]) @ items[:, :DIM].t() + model.head.bias
    torch.testing.assert_close(model.scoring()(torch.arange(USERS)), expected.detach())
