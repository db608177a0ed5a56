"""MF: its losses by hand and by the functions of losses/, its L2 term, its scores."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from recsys_zoo import create
from recsys_zoo.batch import Pairs
from recsys_zoo.losses import ranking
from tests import toys

USER = torch.tensor([[1.0, 2.0], [0.0, -1.0]])
ITEM = torch.tensor([[3.0, 0.0], [1.0, 1.0], [0.0, 2.0]])


def made(name: str = "mf", **settings):
    """Two users and three items with known vectors."""
    model = create(name, toys.ranking(2, 3), embedding={"dim": 2}, **settings)
    model.user_table.load_rows("user", torch.cat([torch.zeros(2, 2), USER]))
    model.item_table.load_rows("item", torch.cat([torch.zeros(2, 2), ITEM]))
    return model


def pairs(negatives: int = 2) -> Pairs:
    neg = torch.tensor([[1, 2], [0, 1]])[:, :negatives]
    return Pairs(torch.tensor([0, 1]), torch.tensor([0, 2]), neg, torch.ones(2))


def test_bpr_by_hand():
    """User 0: 3 against 3 and 4; user 1: -2 against 0 and -1."""
    loss = made(negatives=2, l2=0.0).losses(pairs())
    expected = [math.log(2), math.log1p(math.e), math.log1p(math.e**2), math.log1p(math.e)]
    assert set(loss) == {"bpr"}
    assert float(loss["bpr"].detach()) == pytest.approx(sum(expected) / 4)


def test_the_l2_term_by_hand():
    """Squares: users 5 + 1; positives 9 + 4; negatives 2 + 4 + 9 + 2: 36 / 2 rows."""
    assert float(made(negatives=2, l2=0.1).losses(pairs())["l2"].detach()) == pytest.approx(0.05 * 36 / 2)


@pytest.mark.parametrize("name", ["mf.ccl", "mf.softmax", "mf.in_batch", "mf.directau"])
def test_presets_are_the_losses_of_cosines(name):
    model = made(name, **({"negatives": 2} if name in ("mf.ccl", "mf.softmax") else {}))
    batch, user, item = pairs(), F.normalize(USER, dim=1), F.normalize(ITEM, dim=1)
    pos, neg, t = item[batch.pos], item[batch.neg], model.cfg.temperature
    good, bad = (user * pos).sum(1), (user[:, None] * neg).sum(2)
    right = {
        "mf.ccl": lambda: ranking.cosine_contrastive(good, bad, 0.9, 150.0),
        "mf.softmax": lambda: ranking.sampled_softmax(good / t, bad / t),
        "mf.in_batch": lambda: ranking.in_batch_softmax(user @ pos.t() / t, batch.pos),
        "mf.directau": lambda: ranking.alignment(user, pos)
        + (ranking.uniformity(user) + ranking.uniformity(pos)) / 2,
    }[name]()
    torch.testing.assert_close(sum(model.losses(batch).values()), right)


def test_cross_entropy_takes_inner_products():
    model = made(loss="cross_entropy", negatives=2, l2=0.0)
    good, bad = torch.tensor([3.0, -2.0]), torch.tensor([[3.0, 4.0], [0.0, -1.0]])
    torch.testing.assert_close(
        model.losses(pairs())["cross_entropy"], ranking.cross_entropy_with_negatives(good, bad)
    )


def test_scores_are_inner_products_or_cosines():
    users = torch.tensor([1, 0, 1])
    torch.testing.assert_close(made().scoring()(users), USER[users] @ ITEM.t())
    cosines = F.normalize(USER, dim=1)[users] @ F.normalize(ITEM, dim=1).t()
    for name in ("mf.ccl", "mf.directau"):
        torch.testing.assert_close(made(name).scoring()(users), cosines)


def test_tables_hold_every_user_and_item_and_nothing_else():
    model = create("mf", toys.ranking(20, 30), embedding={"dim": 4})
    assert model.num_parameters() == (21 + 31) * 4  # and one unknown row each
