"""The counting floors against hand counts and dictionaries."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import polars as pl
import pytest
import torch

from recsys_zoo.data.store import Split
from recsys_zoo.errors import InputError
from recsys_zoo.metrics.binary import auc
from recsys_zoo.models.floors import FLOORS, BaseRate, ColumnRates, PairMemory, seen_pairs
from recsys_zoo.schema import Column, Schema

SCHEMA = Schema(
    dataset="toy",
    labels=("click",),
    user="user",
    item="item",
    columns=(
        Column(name="user", kind="categorical", side="user", vocab_size=5),
        Column(name="item", kind="categorical", side="item", vocab_size=6),
        Column(name="tags", kind="bag", side="item", vocab_size=4, max_len=2),
    ),
)


def split(
    rows: list[tuple[int, int]],
    labels: list[int],
    tags: list[tuple[int, int]] | None = None,
    weight: list[float] | None = None,
) -> Split:
    bags = tags or [(0, 0)] * len(rows)
    ids = np.array([[*row, *bag] for row, bag in zip(rows, bags, strict=True)], np.int32)
    return Split(SCHEMA, ids, None, np.array(labels, np.float32), np.array(weight) if weight else None)


TRAIN = split([(2, 2), (2, 2), (3, 2), (3, 3), (4, 3), (1, 4), (2, 4)], [1, 0, 0, 1, 1, 1, 0])
BASE = 4 / 7


def test_base_rate():
    assert BaseRate().fit(TRAIN).predict(TRAIN).tolist() == [BASE] * 7
    weighted = split([(2, 2), (2, 3)], [1, 0], weight=[3, 1])
    assert BaseRate().fit(weighted).rate == 0.75


def test_pair_memory_by_hand():
    test = split([(2, 2), (3, 2), (4, 2), (2, 3), (1, 4), (2, 5), (4, 3), (3, 1)], [0] * 8)
    item2, item3, item4 = (1 + BASE) / 4, (2 + BASE) / 3, (1 + BASE) / 3
    expected = [
        0.5,  # the pair occurs with both labels
        0.0,
        item2,
        item3,
        item4,  # the unknown user is not one user, so not a pair
        BASE,  # item without training rows
        1.0,
        BASE,
    ]  # unknown item
    assert PairMemory().fit(TRAIN).predict(test).tolist() == pytest.approx(expected, abs=1e-15)
    assert seen_pairs(TRAIN, test).tolist() == [True, True, False, False, False, False, True, False]


def test_pair_memory_with_weights_and_without_known_pairs():
    train = split([(2, 2), (2, 2), (3, 3)], [1, 0, 1], weight=[1, 3, 0])
    found = PairMemory().fit(train).predict(split([(2, 2), (3, 3)], [0, 0]))
    assert found.tolist() == pytest.approx([0.25, 0.25])  # a pair of weight 0 is no memory; base rate 1/4
    unknown = split([(1, 2), (2, 1)], [1, 0])
    assert PairMemory().fit(unknown).predict(unknown).tolist() == pytest.approx([0.75, 0.25])
    assert not seen_pairs(unknown, unknown).any()


def test_column_rates_by_hand():
    train = split([(2, 2), (2, 3), (3, 2)], [1, 0, 0], tags=[(2, 3), (2, 0), (0, 0)])
    logit = lambda p: math.log(p / (1 - p))  # noqa: E731
    base = 1 / 3
    user2, item2 = (1 + base) / 3, (1 + base) / 3  # a click in two rows, one row at the base rate
    tag2, tag3 = (1 + base) / 3, (1 + base) / 2
    z = logit(base) + (logit(user2) - logit(base)) + (logit(item2) - logit(base))
    z += (logit(tag2) + logit(tag3)) / 2 - logit(base)
    test = split([(2, 2), (4, 5), (1, 1)], [0] * 3, tags=[(3, 2), (0, 0), (1, 0)])
    found = ColumnRates().fit(train).predict(test)
    assert found.tolist() == pytest.approx([1 / (1 + math.exp(-z)), base, base], abs=1e-12)


def test_floors_of_random_rows_equal_dictionaries():
    rng = np.random.default_rng(0)
    rows = [tuple(r) for r in rng.integers(1, (5, 6), (400, 2)).tolist()]
    labels = rng.integers(0, 2, 400).tolist()
    train, test = split(rows[:300], labels[:300]), split(rows[300:], labels[300:])
    pair, item = defaultdict(list), defaultdict(list)
    for (u, i), y in zip(rows[:300], labels[:300], strict=True):
        item[i].append(y)
        if u > 1 and i > 1:
            pair[u, i].append(y)
    base = np.mean(labels[:300])
    expected = [
        np.mean(pair[u, i]) if (u, i) in pair else (sum(item[i]) + base) / (len(item[i]) + 1)
        for u, i in rows[300:]
    ]
    assert PairMemory().fit(train).predict(test).tolist() == pytest.approx(expected, abs=1e-12)
    assert seen_pairs(train, test).tolist() == [r in pair for r in rows[300:]]


@pytest.mark.parametrize("floor", FLOORS.values(), ids=list(FLOORS))
def test_every_floor_gives_probabilities_and_never_reads_test_labels(floor):
    rng = np.random.default_rng(1)
    rows = [tuple(r) for r in rng.integers(1, (5, 6), (60, 2)).tolist()]
    train = split(rows, rng.integers(0, 2, 60).tolist())
    fitted = floor().fit(train)
    found = fitted.predict(split(rows, [0] * 60))
    assert found.dtype == torch.float64
    assert found.shape == (60,)
    assert ((found >= 0) & (found <= 1)).all()
    assert torch.equal(found, fitted.predict(split(rows, [1] * 60)))
    assert torch.equal(found, fitted.predict(split(rows, [0] * 60)))  # predicting leaves the counts alone


def test_floors_say_what_they_cannot_do():
    plain = Schema(dataset="plain", labels=("a",), columns=SCHEMA.columns)
    with pytest.raises(InputError, match="no user or no item column"):
        PairMemory().fit(Split(plain, TRAIN.ids, None, TRAIN.labels))


@pytest.mark.parametrize("floor", FLOORS.values())
def test_floors_count_the_label_they_are_told(floor):
    two = Schema(**{**SCHEMA.model_dump(), "dataset": "two", "labels": ("a", "b")})
    labels = np.concatenate([1 - TRAIN.labels, TRAIN.labels], 1)
    found = floor().fit(Split(two, TRAIN.ids, None, labels), 1).predict(TRAIN)
    assert torch.equal(found, floor().fit(TRAIN).predict(TRAIN))


def test_floors_of_one_class_stay_finite():
    train = split([(2, 2), (3, 3)], [1, 1])
    assert all(floor().fit(train).predict(train).isfinite().all() for floor in FLOORS.values())


def test_counts_alone_reach_0970_on_frappe(data_dir):
    folder = data_dir("frappe_x1")
    names = {"train": "train_resampled_negatives", "test": "test"}
    frames = {name: pl.read_parquet(folder / f"{file}.parquet") for name, file in names.items()}
    columns = [c for c in frames["train"].columns if c != "label"]
    values = {c: np.unique(frames["train"][c].to_numpy()) for c in columns}
    schema = Schema(
        dataset="frappe_x1",
        labels=("label",),
        user="user",
        item="item",
        columns=tuple(Column(name=c, kind="categorical", vocab_size=len(values[c]) + 2) for c in columns),
    )

    def encoded(frame: pl.DataFrame) -> Split:
        ids = []
        for c in columns:
            raw = frame[c].to_numpy()
            at = np.searchsorted(values[c], raw).clip(max=len(values[c]) - 1)
            ids.append(np.where(values[c][at] == raw, at + 2, 1))
        return Split(schema, np.stack(ids, 1), None, frame["label"].to_numpy())

    train, test = encoded(frames["train"]), encoded(frames["test"])
    labels = torch.from_numpy(test.labels[:, 0])
    assert schema.table_size == 5389
    seen = seen_pairs(train, test)
    assert (int(seen.sum()), len(test)) == (8344, 28860)
    assert labels[seen].all()  # every repeated pair is a positive
    found = {name: auc(floor().fit(train).predict(test), labels) for name, floor in FLOORS.items()}
    # train negatives re-drawn
    assert found["base_rate"] == 0.5
    assert found["column_rates"] == pytest.approx(0.9238, abs=5e-5)
    assert found["pair_memory"] == pytest.approx(0.9701, abs=5e-5)
