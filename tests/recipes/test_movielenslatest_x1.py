"""MovielensLatest_x1 from small files of the published form."""

from __future__ import annotations

import pytest

from data_prep import RECIPES, movielenslatest_x1, run, run_recipe
from recsys_zoo.errors import InputError

from .test_criteo_x1 import ROWS, check_categories, distinct, fitted_to, note_of, numbered, publish, write_csv

FIELDS = ["user_id", "item_id", "tag_id"]


def test_published_counts():
    """90,236 training values and three unknown rows; one positive to two sampled negatives."""
    expected, spec = RECIPES["movielenslatest_x1"].expected, RECIPES["movielenslatest_x1"].spec
    assert sum(expected.rows.values()) == 2_006_859
    assert sum(expected.positives.values()) * 3 == 2_006_859
    assert expected.table_size == 90_236 + 3
    assert [(c.name, c.side) for c in spec.columns] == [
        ("user_id", "user"), ("item_id", "item"), ("tag_id", "context")]
    assert (spec.user, spec.item, spec.group) == ("user_id", "item_id", "user_id")


def test_values(tmp_path, monkeypatch):
    frames = numbered(FIELDS, ROWS)
    raw = write_csv(tmp_path / "raw", frames)
    publish(monkeypatch, movielenslatest_x1, raw)
    recipe = fitted_to(movielenslatest_x1.RECIPE, frames, "label", distinct(frames["train"], FIELDS) + 3)
    data = run_recipe(recipe, raw, tmp_path / "out")
    assert note_of(data) == ""
    check_categories(data, frames, FIELDS)
    groups = dict(zip(frames["test"]["user_id"], data.split("test").group, strict=True))
    assert [groups[user] for user in frames["test"]["user_id"]] == data.split("test").group.tolist()
    assert len(set(groups.values())) == len(groups)


def test_other_data_are_refused(tmp_path):
    raw = write_csv(tmp_path / "raw", numbered(FIELDS, ROWS))
    with pytest.raises(InputError, match=r"rows of valid 20 instead of 401,372.*get MovielensLatest_x1\.zip"):
        run("movielenslatest_x1", raw=raw, out=tmp_path / "out")
