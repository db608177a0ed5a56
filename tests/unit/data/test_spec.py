"""The schema file: defaults, refusals that name the setting, the columns it asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from recsys_zoo.data.spec import DataSpec, SplitSpec
from recsys_zoo.errors import InputError

from .tables import SPEC, toy_spec

TEXT = """
dataset = "mine"
labels = ["click", {name = "liked", column = "rating", above = 3, drop_equal = true}]
weight = "w"
group = "user"
user = "user"

[split]
method = "time"
column = "day"
cuts = {valid = 2020-05-01, test = 2020-06-01}

[[columns]]
name = "user"

[[columns]]
name = "money"
source = "price"
kind = "numeric"
"""


def test_a_toml_file_is_read(tmp_path: Path):
    (tmp_path / "s.toml").write_text(TEXT)
    spec = DataSpec.load(tmp_path / "s.toml")
    assert [label.raw for label in spec.labels] == ["click", "rating"]
    assert spec.labels[1].above == 3
    assert spec.labels[1].drop_equal
    assert spec.split.cuts == {"valid": "2020-05-01", "test": "2020-06-01"}
    assert spec.split.splits == ("train", "valid", "test")
    assert spec.raw_columns() == ("user", "price", "click", "rating", "w", "day")
    assert spec.raw_columns(prediction=True) == ("user", "price")


def test_a_spec_survives_json():
    spec = toy_spec()
    assert DataSpec.parse(spec.model_dump(mode="json"), "again") == spec


def test_every_setting_says_what_it_means():
    def settings(cls: type) -> list:
        return [(cls.__name__, name, field) for name, field in cls.model_fields.items()]
    from recsys_zoo.data.spec import ColumnSpec, LabelSpec, ReadSpec
    for cls in (DataSpec, ColumnSpec, LabelSpec, SplitSpec, ReadSpec):
        for owner, name, field in settings(cls):
            assert field.description, f"{owner}.{name} has no description"


def _refusal(column: dict | None = None, **changes: object) -> str:
    columns = [*SPEC["columns"], *([column] if column else [])]
    with pytest.raises(InputError) as error:
        DataSpec.parse({**SPEC, "columns": columns, **changes}, "s.toml")
    text = str(error.value)
    assert text.startswith("s.toml: ")
    assert "\n" not in text
    return text


@pytest.mark.parametrize(("column", "said"), [
    ({"name": "x", "kind": "numeric", "rule": "quantile"}, "rule='quantile' does not fit kind='numeric'"),
    ({"name": "x", "rule": "standardise"}, "rule='standardise' does not fit kind='categorical'"),
    ({"name": "x", "kind": "bag", "rule": "log_square"}, "does not fit kind='bag'"),
    ({"name": "x", "max_len": 3}, "max_len belongs to"),
    ({"name": "x", "kind": "numeric", "min_count": 2}, "remove share_with and min_count"),
    ({"name": "x", "share_with": "item", "min_count": 2}, "set min_count on 'item'"),
    ({"name": "x", "share_with": "itme"}, "share_with='itme' is not a column"),
    ({"name": "x", "share_with": "seen"}, "share_with='seen' is not a column"),
    ({"name": "x", "share_with": "bucket"}, "share_with='bucket' is not a column"),
    ({"name": "x", "rule": "quantile", "share_with": "item"}, "has its own vocabulary"),
    ({"name": "x", "fill": 0}, "fill belongs to"),
    ({"name": "user"}, "column 'user' is listed twice"),
    ({"name": "x", "source": "click"}, "'click' is both a label and an input"),
    ({"name": "x", "min_cuont": 2}, "did you mean ['columns.8.min_count'"),
    ({"name": "x", "kind": "category"}, "kind = 'category'"),
])
def test_a_column_that_makes_no_sense_is_refused(column: dict, said: str):
    assert said in _refusal(column)


@pytest.mark.parametrize(("split", "said"), [
    ({"method": "time"}, "method='time' needs column"),
    ({"method": "column"}, "method='column' needs column"),
    ({"method": "user"}, "needs user"),
    ({"method": "hash", "fractions": {"train": 0.8, "test": 0.3}}, "must be above 0 and sum to 1"),
    ({"method": "hash", "fractions": {"a": 0.5, "b": 0.5}}, "have no 'train'"),
    ({"method": "time", "column": "t", "fractions": {"valid": 0.5, "train": 0.5}}, "must be the first"),
    ({"method": "time", "column": "t", "cuts": {"train": 1}}, "remove train"),
    ({"method": "user", "user": "u", "last": {"test": 1.5}}, "whole counts"),
    ({"method": "column", "column": "c", "names": {"0": "encoding"}}, "split name 'encoding'"),
    ({"method": "column", "column": "c", "names": {"0": "../x"}}, "split name '../x'"),
    ({"method": "release", "column": "at"}, "needs keys, the name of the column of items, and no other"),
    ({"method": "release", "keys": ["i"]}, "method='release' needs column, the name of the time column"),
    ({"method": "release", "keys": ["i"], "column": "at", "fractions": {"test": 0.5, "train": 0.5}},
     "must be the first"),
    ({"methd": "hash"}, "did you mean ['split.method'"),
])
def test_a_split_that_makes_no_sense_is_refused(split: dict, said: str):
    assert said in _refusal(split=split)


@pytest.mark.parametrize(("read", "said"), [
    ({"separator": "§"}, "read: separator='§': choose an ASCII character"),
    ({"separator": '"'}, "that is neither a quote nor the end of a line"),
    ({"separator": "\n"}, "that is neither a quote nor the end of a line"),
    ({"header": ["a", "b", "a"]}, "read: header names two columns 'a'; rename one"),
])  # fmt: skip
def test_text_that_cannot_be_read_so_is_refused(read: dict, said: str):
    assert said in _refusal(read=read)


def test_other_refusals():
    assert "user='price' is not the name of a categorical column" in _refusal(user="price")
    assert "label 'click' is listed twice" in _refusal(labels=["click", "click"])
    assert "drop_equal needs above" in _refusal(labels=[{"name": "y", "drop_equal": True}])
    assert "did you mean ['dataset']" in _refusal(datset="x")


def test_only_the_rule_in_use_asks_for_columns():
    split = {"method": "hash", "keys": ["user"], "column": "unused", "user": "unused"}
    assert "unused" not in toy_spec(split=split).raw_columns()
