"""Rankings learnt from pairs: examples, metrics against loops, a training that resumes bit for bit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from recsys_zoo.batch import Pairs
from recsys_zoo.data.store import Prepared, Split
from recsys_zoo.errors import InputError
from recsys_zoo.itemlists import ItemLists
from recsys_zoo.losses.ranking import bpr
from recsys_zoo.metrics.ranking import METRICS
from recsys_zoo.models.base import Model, ModelConfig
from recsys_zoo.nn.embedding import Embedding
from recsys_zoo.rankruns import begin
from recsys_zoo.runs import RunConfig
from recsys_zoo.schema import Column, Schema
from recsys_zoo.tasks.negatives import NegativesInRelease
from recsys_zoo.tasks.ranking import (
    ListExamples,
    PairExamples,
    RankedExamples,
    RankingTask,
    ReleasedPairExamples,
)
from recsys_zoo.train.callbacks import Callback
from recsys_zoo.train.config import TrainConfig
from recsys_zoo.train.trainer import Trainer

USERS, ITEMS = 150, 30


def data() -> Prepared:
    """Users and items of three blocks; a user takes half of the items of the block, and a fifth of others."""
    draw = np.random.default_rng(0)
    inside = np.arange(USERS)[:, None] % 3 == np.arange(ITEMS) % 3
    chosen = draw.random((USERS, ITEMS)) < np.where(inside, 0.6, 0.05)
    user, item = np.nonzero(chosen)
    columns = [Column(name=n, kind="categorical", side=n, vocab_size=size + 2) for n, size in
               (("user", USERS), ("item", ITEMS))]
    schema = Schema(dataset="blocks", columns=tuple(columns), labels=(), user="user", item="item",
                    interactions=True)
    part = draw.integers(0, 4, len(user))
    rows = {"train": part > 1, "valid": part == 1, "test": part == 0}
    splits = {name: Split(schema, np.stack([user[kept], item[kept]], 1) + 2, None, np.zeros((kept.sum(), 0)))
              for name, kept in rows.items()}
    return Prepared.in_memory(schema, splits)


class Factors(Model):
    """s = <p_u, q_i>."""

    def __init__(self, schema: Schema) -> None:
        super().__init__(ModelConfig(embedding={"dim": 4, "init_std": 0.3}), schema)
        self.user = Embedding(schema.of_side("user"), self.cfg.embedding)
        self.item = Embedding(schema.of_side("item"), self.cfg.embedding)

    def losses(self, pairs: Pairs) -> dict[str, Tensor]:
        u = self.user.rows("user", pairs.user + 2)
        pos, neg = (self.item.rows("item", ids + 2) for ids in (pairs.pos, pairs.neg))
        return {"bpr": bpr((u * pos).sum(1), (u[:, None] * neg).sum(2))}

    def scoring(self) -> Callable[[Tensor], Tensor]:
        items = self.item.rows("item", torch.arange(ITEMS) + 2)
        return lambda users: self.user.rows("user", users + 2) @ items.t()


def model(held: Prepared) -> Factors:
    torch.manual_seed(1)
    return Factors(held.schema)


def config(**more) -> TrainConfig:
    return TrainConfig(**{"epochs": 12, "batch_size": 32, "lr": 0.05, "monitor": "recall@5", "patience": 12,
                          "plateau_factor": 1.0, "device": "cpu", "save_every_s": 0.0, **more})


def task(held: Prepared, **more) -> RankingTask:
    return RankingTask(held, **{"negatives": 3, "ks": (5,), **more})


def test_a_batch_holds_the_pairs_asked_for_and_negatives_that_are_none_of_the_users():
    held = data()
    examples = task(held).train
    seen = held.lists("train")
    pairs = set(zip(*(t.tolist() for t in seen.pairs()), strict=True))
    assert len(examples) == len(pairs) == len(held.split("train"))
    rows = torch.tensor([5, 0, 5, 17])
    batch = examples.batch(rows)
    users, items = seen.pairs()
    assert torch.equal(batch.user, users[rows])
    assert torch.equal(batch.pos, items[rows])
    assert batch.neg.shape == (4, 3)
    drawn = zip(batch.user.repeat_interleave(3).tolist(), batch.neg.flatten().tolist(), strict=True)
    assert not pairs & set(drawn)
    assert batch.weight.tolist() == [1.0] * 4
    assert len(batch.rows(1, 3)) == 2
    assert len(examples.first(7)) == 7


def test_users_are_drawn_alike_and_their_items_too():
    """Whatever the number of their items, each within five standard deviations; a part has its own users."""
    held = data()
    torch.manual_seed(5)
    examples, lists = task(held, positives="users").train, held.lists("train")
    assert len(lists.counts.unique()) > 1
    assert len(examples) == len(held.split("train"))
    batch = examples.batch(torch.zeros(200_000, dtype=torch.int64))
    pairs = torch.stack([batch.user, batch.pos], 1).unique(dim=0, return_counts=True)
    assert torch.equal(pairs[0], torch.stack(lists.pairs(), 1).unique(dim=0))
    chance = 1 / (lists.counts > 0).sum() / lists.counts[pairs[0][:, 0]]
    spread = (200_000 * chance * (1 - chance)).sqrt()
    assert bool(((pairs[1] - 200_000 * chance).abs() < 5 * spread).all())
    assert not {*map(tuple, pairs[0].tolist())} & set(zip(
        batch.user.repeat_interleave(3).tolist(), batch.neg.flatten().tolist(), strict=True))
    few = examples.first(int(lists.counts[0]) + 1).on(torch.device("cpu"))
    drawn = few.batch(torch.zeros(1000, dtype=torch.int64))
    first = [user for user in range(USERS) if lists.counts[user]][:2]
    assert drawn.user.unique().tolist() == first
    kept = lists.of_users(torch.tensor(first[1:]))[1][:1]
    assert torch.equal(drawn.pos[drawn.user == first[1]].unique(), kept)


def test_own_items_are_drawn_where_it_is_said():
    """All items alike, those of training among them, within five standard deviations."""
    held = data()
    torch.manual_seed(4)
    batch = task(held, negatives=100 * ITEMS, drawn_from="items").train.batch(torch.arange(3))
    for row in batch.neg:
        counts = torch.bincount(row, minlength=ITEMS)
        assert 50 < int(counts.min()) <= int(counts.max()) < 150


def test_pairs_at_which_nothing_else_is_in_release_are_no_examples():
    lists = ItemLists.of(torch.tensor([0, 0, 1]), torch.tensor([0, 2, 1]), 2, 3)
    first = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    moment = first[lists.items]  # every item was taken by its first user alone
    examples = ReleasedPairExamples(lists, NegativesInRelease(lists, moment, first), 4)
    batch = examples.batch(torch.arange(2))
    assert list(zip(batch.user.tolist(), batch.pos.tolist(), strict=True)) == [(0, 2), (1, 1)]
    assert batch.neg.tolist() == [[1] * 4, [0] * 4]
    assert len(examples.first(1)) == 1
    with pytest.raises(InputError, match="at the moment of no pair there is one that its user has not"):
        ReleasedPairExamples(lists, NegativesInRelease(lists, moment, first, 0.5), 4)


@pytest.mark.parametrize("own", [False, True])
def test_the_models_setting_decides_it(own):
    held = data()
    said = {"board": held.schema.dataset, "data": held.schema.dataset,
            "model": {"name": "simplex", "own_negatives": own, "negatives": 50}}
    batch = begin(RunConfig.parse(said, "test").resolved(), held)[0].train.batch(torch.arange(20))
    pairs = set(zip(*(t.tolist() for t in held.lists("train").pairs()), strict=True))
    drawn = zip(batch.user.repeat_interleave(50).tolist(), batch.neg.flatten().tolist(), strict=True)
    assert bool(pairs & set(drawn)) == own


def test_a_list_holds_all_items_of_a_user():
    lists = ItemLists.of(torch.tensor([0, 2, 2, 2, 3]), torch.tensor([4, 7, 0, 3, 1]), 5, 8)
    examples = ListExamples(lists)
    assert len(examples) == 3
    assert examples.mib == lists.mib
    batch = examples.batch(torch.tensor([1, 2, 0]))
    assert batch.items.tolist() == [[0, 3, 7], [1, -1, -1], [4, -1, -1]]
    assert batch.weight.tolist() == [1.0] * 3
    assert batch.rows(1, 3).items.tolist() == [[1, -1, -1], [4, -1, -1]]
    assert examples.first(2).batch(torch.tensor([0, 1])).items.tolist() == [[4, -1, -1], [0, 3, 7]]
    held = data()
    drawn = task(held, lists=True).train
    assert drawn.lists.items.tolist() == held.lists("train").items.tolist()


def test_without_negatives_there_are_none():
    batch = task(data(), negatives=0).train.batch(torch.tensor([3, 4]))
    assert batch.neg.shape == (2, 0)


def test_metrics_are_those_of_a_loop():
    held = data()
    ranked, factors = task(held), model(held)
    found = ranked.evaluate(factors, ranked.valid, 0).metrics
    seen, valid = held.lists("train"), held.lists("valid")
    scores = factors.scoring()(torch.arange(USERS)).detach()
    recalls = []
    for user in range(USERS):
        own, taken = (set(lists.of_users(torch.tensor([user]))[1].tolist()) for lists in (valid, seen))
        if own - taken:
            order = sorted(set(range(ITEMS)) - taken, key=lambda item: -float(scores[user, item]))
            recalls.append(len(set(order[:5]) & own) / len(own - taken))
    assert found["recall@5"] == pytest.approx(np.mean(recalls))
    assert set(found) == {f"{name}@5" for name in METRICS}


def test_the_first_users_alone():
    relevant = ItemLists.of(torch.tensor([1, 1, 3, 4]), torch.tensor([0, 2, 1, 5]), 6, 6)
    seen = ItemLists.of(torch.tensor([3]), torch.tensor([1]), 6, 6)
    examples = RankedExamples(relevant, seen)
    assert len(examples) == 2
    assert [t.tolist() for t in examples.first(1).relevant.pairs()] == [[1, 1], [0, 2]]
    assert len(examples.first(9)) == 2


@pytest.mark.parametrize("mode", ["autograd", "exact", "rows"])
def test_a_training_finds_the_blocks(mode):
    held = data()
    ranked, factors = task(held), model(held)
    before = ranked.evaluate(factors, ranked.valid, 0).metrics["recall@5"]
    fit = Trainer(ranked, config(table_update=mode)).fit(factors)
    assert fit.valid["recall@5"] > 2 * before
    assert fit.valid["recall@5"] > 0.5  # 5 of the 7 unseen items of a block, if that is known, are 0.6


class Stop(Callback):
    def __init__(self, step: int) -> None:
        self.left = step

    def on_step_end(self, info) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.mark.parametrize("step", [3, 40])
def test_a_training_that_goes_on_ends_bit_for_bit_the_same(tmp_path, step):
    """The negatives of the steps to come are those that would have been drawn."""
    held = data()
    whole, parts = model(held), model(held)
    Trainer(task(held), config(epochs=4)).fit(whole)
    with pytest.raises(KeyboardInterrupt):
        Trainer(task(held), config(epochs=4), tmp_path / "state", [Stop(step)]).fit(parts)
    parts = model(held)
    Trainer(task(held), config(epochs=4), tmp_path / "state").fit(parts, resume=True)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, parts.state_dict()[name])


def test_scores_that_are_no_numbers_end_the_training():
    held = data()
    factors = model(held)
    with torch.no_grad():
        next(factors.item.parameters()).fill_(float("nan"))
    ranked = task(held)
    assert ranked.evaluate(factors, ranked.valid, 0).metrics == {}
    fit = Trainer(ranked, config()).fit(factors)
    assert fit.status == "dead"


def test_examples_on_a_device():
    held = data()
    examples = task(held).train.on(torch.device("cpu"))
    assert isinstance(examples, PairExamples)
    torch.manual_seed(3)
    one = examples.batch(torch.tensor([1, 2]))
    torch.manual_seed(3)
    two = task(held).train.batch(torch.tensor([1, 2]))
    assert torch.equal(one.neg, two.neg)
    ranked = task(held)
    assert ranked.evaluate(model(held), ranked.valid.on(torch.device("cpu")), 0) == ranked.evaluate(
        model(held), ranked.valid, 0)


def test_learning_from_two_splits_masks_both():
    held = data()
    both = task(held, train=("train", "valid"), valid="test")
    assert len(both.train) == len(held.split("train")) + len(held.split("valid"))
    relevant, seen = (set(zip(*(t.tolist() for t in lists.pairs()), strict=True)) for lists in
                      (both.valid.relevant, both.valid.seen))
    assert not relevant & seen


def test_without_a_pair_that_lacks_an_item_there_is_nothing_to_learn():
    """Negatives by popularity: only items with a training pair can be drawn, and every user has them all."""
    held = data()
    ids = np.array([[2, 2], [2, 3], [3, 2], [3, 3]])
    splits = {name: held.split(name) for name in held.names} | {
        "train": Split(held.schema, ids, None, np.zeros((4, 0)))}
    weight = torch.zeros(ITEMS)
    weight[:2] = 1
    with pytest.raises(InputError, match="blocks: no training pair is left, since no user lacks an item"):
        RankingTask(Prepared.in_memory(held.schema, splits), 1, weight)
