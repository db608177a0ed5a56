"""A validation split cut from the training pairs, and splits that are given as files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from recsys_zoo.data.prepare import prepare
from recsys_zoo.data.spec import DataSpec, SplitSpec
from recsys_zoo.data.split import hash_unit
from recsys_zoo.data.store import Prepared
from recsys_zoo.errors import InputError
from tests.unit.data.test_interactions import Row, drawn, made, pairs, spec


@pytest.mark.parametrize("rule", [
    {"method": "column", "column": "part", "names": {"train": "train", "test": "test"}},
    {"method": "user", "user": "user", "column": "at", "last": {"test": 1}},
    {"method": "time", "column": "at", "fractions": {"train": 0.8, "test": 0.2}},
], ids=["column", "user", "time"])
def test_valid_is_cut_from_training_pairs_by_a_hash(tmp_path, rule):
    """As a loop over the training pairs of the same data without the cut, test and row order untouched."""
    whole = made(drawn(), tmp_path, spec(rule))
    before = {name: pairs(whole, name) for name in ("train", "test")}
    data = made(drawn(), tmp_path, spec({**rule, "cut_valid": 0.3, "salt": "s"}))
    unit = {pair: hash_unit([np.array([part]) for part in pair], "s:valid")[0] for pair in before["train"]}
    stays = {user: max((p for p in unit if p[0] == user), key=unit.get) for user, _ in unit}
    held = [pair for pair in before["train"] if unit[pair] < 0.3 and stays[pair[0]] != pair]
    assert 10 < len(held) < len(unit) / 2
    assert pairs(data, "valid") == held
    assert pairs(data, "train") == [pair for pair in before["train"] if pair not in held]
    assert pairs(data, "test") == before["test"]
    assert list(data.names) == ["train", "test", "valid"]
    frame = pl.read_parquet(data.folder / "encoding" / "item.parquet")
    counts = Counter(item for _, item in pairs(data, "train"))
    assert frame["count"].to_list() == [counts[item] for item in frame["value"]]
    words = SplitSpec.model_validate(data.record["spec"]["split"]).words
    assert words.endswith("; valid 0.3 of train, by hash (salt 's')")


@pytest.mark.parametrize("test", [0.2, 0.5])
def test_the_share_that_is_cut_does_not_hang_on_a_split_by_the_same_keys(tmp_path, test):
    rows = [{"user": f"u{u}", "item": f"i{i}"} for u in range(60) for i in range(40)]
    for fractions in ({"train": 1 - test, "test": test}, {"test": test, "train": 1 - test}):
        rule = {"method": "hash", "keys": ["user", "item"], "fractions": fractions, "cut_valid": 0.1}
        data = made(rows, tmp_path, spec(rule))
        rest = len(rows) - len(data.split("test"))
        assert len(data.split("valid")) == pytest.approx(0.1 * rest, abs=3 * (0.09 * rest) ** 0.5)


def test_a_cut_that_the_column_gives_too_and_one_of_nothing_are_refused(tmp_path):
    rows = [{**row, "part": "valid" if n % 7 == 0 else row["part"]} for n, row in enumerate(drawn())]
    with pytest.raises(InputError, match="no split named 'valid'"):
        made(rows, tmp_path, spec({"method": "column", "column": "part", "cut_valid": 0.2}))
    with pytest.raises(InputError, match="cuts no training pair off; give more data or a larger share"):
        made(drawn(), tmp_path, spec({"method": "column", "column": "part", "cut_valid": 1e-9}))


def given_files(folder: Path, train: list[Row], test: list[Row], rule: DataSpec, **more: Any) -> Prepared:
    """Data whose splits are files."""
    for name, rows in (("train", train), ("test", test)):
        pl.DataFrame(rows).write_parquet(folder / f"{name}.parquet")
    files = {name: [folder / "test.parquet"] for name in ("test", *more)}
    return prepare([folder / "train.parquet"], rule, folder / "out", split_files=files)


def test_valid_is_cut_from_given_files_too(tmp_path):
    train, test = ([row for row in drawn() if row["part"] == name] for name in ("train", "test"))
    data = given_files(tmp_path, train, test, spec({"cut_valid": 0.2}))
    assert 5 < len(data.split("valid")) < 0.4 * len(data.split("train"))
    with pytest.raises(InputError, match="there are files of valid; leave them out, or cut_valid"):
        given_files(tmp_path, train, test, spec({"cut_valid": 0.2}), valid=True)


@pytest.mark.parametrize(("split", "said"), [
    ({"method": "user", "user": "user", "cut_valid": 0.1}, "gives valid too; remove it there, or cut_valid"),
    ({"method": "users", "user": "user", "fractions": {"train": 0.8, "test": 0.2}, "cut_valid": 0.1},
     "asks about users who are held out; give fractions for valid"),
    ({"method": "hash", "keys": ["item"], "fractions": {"train": 0.8, "test": 0.2}, "cut_valid": 0.1},
     "hold items out; give fractions for valid"),
    ({"method": "hash", "cut_valid": 1.0}, "less than 1"),
])
def test_what_gives_valid_already_has_none_cut_off(split, said):
    with pytest.raises(InputError, match=said):
        spec(split)


def test_files_whose_users_are_written_otherwise_are_refused(tmp_path):
    """The ids of the test file are booleans, those of train numbers: no user would be known."""
    train = [{"user": user, "item": item} for user, item in ((0, "a"), (1, "b"), (0, "b"), (1, "c"))]
    test = [{"user": False, "item": "c"}, {"user": True, "item": "a"}]
    with pytest.raises(InputError, match="split 'test': none of its users has a training row; write"):
        given_files(tmp_path, train, test, spec({}))
    assert not (tmp_path / "out").exists()


def test_users_who_are_held_out_may_be_given_by_files(tmp_path):
    parts = {"train": "a", "valid_given": "b", "valid": "b", "test_given": "c", "test": "c"}
    for number, (name, user) in enumerate(parts.items()):
        rows = [{"user": user, "item": f"i{number}{n}"} for n in range(3)]
        pl.DataFrame(rows).write_parquet(tmp_path / f"{name}.parquet")
    files = {name: [tmp_path / f"{name}.parquet"] for name in parts}
    data = prepare([], spec({}), tmp_path / "out", split_files=files)
    assert set(data.names) == set(parts)
