"""MF: its losses by hand and by the functions of losses/, its L2 term, its scores."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from recsys_zoo import create
from recsys_zoo.batch import Pairs
from recsys_zoo.errors import InputError
from recsys_zoo.itemlists import ItemLists
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


def learnt(*pairs: tuple[int, int]) -> ItemLists:
    """Training pairs of two users and three items."""
    user, item = torch.tensor(pairs).t()
    return ItemLists.of(user, item, 2, 3)


def test_a_softmax_over_the_batch_takes_off_log_q_and_leaves_out_what_the_user_has():
    """User 0 has the items 0 and 1, user 1 the items 1 and 2: each rates at q = 1/4, 2/4, 1/4."""
    model = made("mf.in_batch", temperature=1.0)
    model.prepare(learnt((0, 0), (0, 1), (1, 1), (1, 2)))
    batch = Pairs(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 2]), torch.zeros(3, 0).long(), torch.ones(3))
    cosines = F.normalize(USER, dim=1) @ F.normalize(ITEM, dim=1).t()
    s = cosines - torch.tensor([0.25, 0.5, 0.25]).log()
    rows = [F.cross_entropy(s[0, [0, 2]], torch.tensor(0)),  # item 1 is user 0's own
            F.cross_entropy(s[1, [1, 0]], torch.tensor(0)),  # item 2 is user 1's own
            F.cross_entropy(s[1, [2, 0]], torch.tensor(0))]
    torch.testing.assert_close(model.losses(batch)["in_batch_softmax"], sum(rows) / 3)
    assert not any("own_items" in name for name in model.state_dict())


def test_negatives_by_popularity_and_their_correction():
    """Two users of item 1, one of item 2, none of item 0, which is never drawn; rates 2^p : 1."""
    model = made("mf.softmax", negatives=2, sampler="popularity", popularity_power=0.5, temperature=1.0)
    train = learnt((0, 1), (1, 1), (1, 2))
    weight = model.negatives_by(train)
    assert weight.tolist() == pytest.approx([0, 2**0.5, 1])
    model.prepare(train)
    log_q = (weight / weight.sum()).log().float()
    batch = Pairs(torch.tensor([0, 1]), torch.tensor([1, 2]), torch.tensor([[2, 2], [1, 1]]), torch.ones(2))
    cosines = F.normalize(USER, dim=1) @ F.normalize(ITEM, dim=1).t() - log_q
    good = cosines.gather(1, batch.pos[:, None]).squeeze(1)
    right = ranking.sampled_softmax(good, cosines.gather(1, batch.neg))
    torch.testing.assert_close(model.losses(batch)["sampled_softmax"], right)
    assert made().negatives_by(train) is None


@pytest.mark.parametrize("name", ["mf", "mf.softmax", "lightgcn", "simgcl", "xsimgcl"])
def test_the_hard_sampler_learns_from_the_best_scored_candidate(name):
    """The same loss and gradients as with those candidates given, whatever the model scores by."""
    layers = {} if name.startswith("mf") else {"layers": 2}
    quiet = {"noise": 0.0} if "simgcl" in name else {}
    schema, common = toys.ranking(2, 12), {"embedding": {"dim": 4}, **layers, **quiet}
    hard = create(name, schema, seed=1, negatives=2, sampler="hard", candidates=3, **common)
    given = create(name, schema, seed=1, negatives=2, **common)
    train = ItemLists.of(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 2]), 2, 12)
    for model in (hard, given):
        model.prepare(train)
    assert (hard.negatives, given.negatives) == (6, 2)
    drawn = torch.tensor([[3, 4, 5, 6, 7, 8], [9, 10, 11, 0, 3, 4]])
    batch = Pairs(torch.tensor([0, 1]), torch.tensor([0, 2]), drawn, torch.ones(2))
    scores = given.scoring()(batch.user).gather(1, drawn).view(2, 2, 3)
    best = drawn.view(2, 2, 3).gather(2, scores.argmax(2, keepdim=True)).squeeze(2)
    fewer = Pairs(batch.user, batch.pos, best, batch.weight)
    for model, pairs in ((hard, batch), (given, fewer)):
        sum(model.losses(pairs).values()).backward()
    for one, other in zip(hard.parameters(), given.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_a_loss_without_negatives_has_no_sampler():
    with pytest.raises(InputError, match="draws no negatives"):
        create("mf.in_batch", toys.ranking(2, 3), sampler="hard")


@pytest.mark.parametrize("name", ["mf", "lightgcn", "cml", "simplex", "neumf", "ultragcn"])
@pytest.mark.parametrize("side", ["user", "item"])
def test_one_side_can_be_frozen(name, side):
    model = create(name, toys.ranking(4, 6), embedding={"dim": 4, "frozen": [side]})
    own = {"user": model.user_table, "item": model.item_table}
    for column, table in own.items():
        assert [t.weight.requires_grad for t in table.tables()] == [column != side]


def test_frozen_vectors_stay_out_of_the_ball_of_cml():
    model = create("cml", toys.ranking(4, 6), embedding={"dim": 4, "frozen": ["item"]})
    model.item_table.load_rows("item", torch.full((8, 4), 3.0))
    model.user_table.load_rows("user", torch.full((6, 4), 3.0))
    model.after_step()
    users, items = model.vectors()
    assert float(items.norm(dim=1).min()) == 6
    assert float(users.detach().norm(dim=1).max()) == pytest.approx(1)


def test_columns_without_vectors_are_named():
    with pytest.raises(InputError, match="no column with vectors here named 'year'"):
        create("mf", toys.ranking(4, 6), embedding={"frozen": ["year"]})
    with pytest.raises(InputError, match="users and items have vectors of one width"):
        create("mf", toys.ranking(4, 6), embedding={"widths": {"user": 8}})
