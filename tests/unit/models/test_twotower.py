"""Two towers: the loss against a loop over the batch, histories without the pair's item, no id anywhere."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from recsys_zoo import create
from recsys_zoo.batch import Pairs
from recsys_zoo.models.retrieval.twotower import TwoTower
from tests import toys

USERS, ITEMS = 12, 16
TRAIN = toys.random_lists(USERS, ITEMS, 0.3)


def made(**settings) -> TwoTower:
    small = {"dim": 5, "hidden": [7], "content_dim": 6, **settings}
    model = create("twotower", toys.ranking(USERS, ITEMS), seed=1, **small)
    model.content.give(toys.random_lists(ITEMS, 9, 0.4), 9)
    model.prepare(TRAIN)
    return model


def pairs() -> Pairs:
    user, item = TRAIN.pairs()
    rows = torch.randperm(len(user), generator=torch.Generator().manual_seed(0))[:20]
    return Pairs(user[rows], item[rows], torch.zeros(20, 0, dtype=torch.int64), torch.ones(20))


@pytest.mark.parametrize("log_q", [True, False])
def test_the_loss_is_that_of_a_loop(log_q):
    model, batch = made(log_q=log_q, temperature=0.3), pairs()
    content, counts = model.content.vectors, torch.bincount(TRAIN.items, minlength=ITEMS)
    total = 0.0
    for user, pos in zip(batch.user.tolist(), batch.pos.tolist(), strict=True):
        own = TRAIN.of_users(torch.tensor([user]))[1].tolist()
        rest = [content[item] for item in own if item != pos]
        mean = torch.stack(rest).mean(0) if rest else torch.zeros(6)
        u = F.normalize(model.user_tower(mean[None]), dim=1)
        logits = {}
        for place, item in enumerate(batch.pos.tolist()):
            if item in own and not (place == batch.pos.tolist().index(pos) and item == pos):
                continue
            cos = float((u @ F.normalize(model.item_tower(content[item][None]), dim=1).t()).detach())
            logits[place] = cos / 0.3 - log_q * math.log(counts[item] / counts.sum())
        mine = logits[batch.pos.tolist().index(pos)]
        total += math.log(sum(math.exp(value) for value in logits.values())) - mine
    found = model.losses(batch)["in_batch_softmax"]
    assert float(found.detach()) == pytest.approx(total / len(batch), rel=1e-4)


def test_scores_are_cosines_of_the_towers_and_have_no_id():
    model = made()
    users, items, metric = model.placed()
    assert metric == "dot"
    torch.testing.assert_close(users.norm(dim=1), torch.ones(USERS))
    content = model.content.vectors
    for user in range(USERS):
        own = TRAIN.of_users(torch.tensor([user]))[1]
        mean = content[own].mean(0) if len(own) else torch.zeros(6)
        expected = F.normalize(model.user_tower(mean[None]), dim=1)[0]
        torch.testing.assert_close(users[user], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(items, F.normalize(model.item_tower(content), dim=1))
    sizes = {size for parameter in model.parameters() for size in parameter.shape}
    assert not sizes & {USERS, ITEMS, USERS + 2, ITEMS + 2}


def test_columns_of_users_are_added_to_their_histories():
    columns = (*toys.ranking(USERS, ITEMS).columns, toys.categorical("age", 6, side="user"),
               toys.bag("likes", 5, 3, side="user"))
    schema = toys.ranking(USERS, ITEMS).model_copy(update={"columns": columns})
    told = toys.random_lists(USERS, 4 + 3, 0.3)
    model = create("twotower", schema, seed=1, dim=5, hidden=[7], content_dim=6, user_columns=True)
    model.content.give(toys.random_lists(ITEMS, 9, 0.4), 9)
    model.told.hold(told)
    model.prepare(TRAIN)
    content, users = model.content.vectors, model.vectors()[0]
    for user in range(USERS):
        means = []
        for lists, rows in ((TRAIN, content), (told, model.values)):
            own = lists.of_users(torch.tensor([user]))[1]
            means.append(rows[own].mean(0) if len(own) else torch.zeros(6))
        torch.testing.assert_close(users[user], model.user_tower(sum(means)[None])[0], rtol=1e-4, atol=1e-5)
    model.losses(pairs())["in_batch_softmax"].backward()
    assert bool(model.values.grad.any())
    assert not hasattr(made(user_columns=True), "told")  # where users have none


def test_equal_shares_of_the_items_make_the_correction_nothing():
    even = toys.lists([[int((item - user) % ITEMS < 4) for item in range(ITEMS)] for user in range(ITEMS)])
    losses = []
    for log_q in (True, False):
        model = create("twotower", toys.ranking(ITEMS, ITEMS), seed=1, content_dim=6, log_q=log_q)
        model.content.give(toys.random_lists(ITEMS, 9, 0.4), 9)
        model.prepare(even)
        user, item = even.pairs()
        batch = Pairs(user, item, torch.zeros(len(user), 0, dtype=torch.int64), torch.ones(len(user)))
        losses.append(float(model.losses(batch)["in_batch_softmax"].detach()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
