"""Avazu_x1 from small files of the published form."""

from __future__ import annotations

import pytest

from data_prep import RECIPES, avazu_x1, run, run_recipe
from recsys_zoo.errors import InputError

from .test_criteo_x1 import ROWS, check_categories, distinct, fitted_to, note_of, numbered, publish, write_csv

FIELDS = [f"feat_{n}" for n in range(1, 23)]


def test_published_counts():
    """One value table with an unknown row of each of 22 columns, as published; the rates of the splits."""
    expected, spec = RECIPES["avazu_x1"].expected, RECIPES["avazu_x1"].spec
    assert sum(expected.rows.values()) == 40_428_967
    assert sum(expected.positives.values()) == 6_865_066
    rates = [round(100 * expected.positives[name] / expected.rows[name], 2) for name in expected.rows]
    assert rates == [17.50, 16.79, 15.25]
    assert expected.table_size == 1_298_599
    assert [(c.name, c.kind, c.min_count) for c in spec.columns] == [(n, "categorical", 1) for n in FIELDS]


def test_values(tmp_path, monkeypatch):
    frames = numbered(FIELDS, ROWS)
    raw = write_csv(tmp_path / "raw" / "Avazu_x1", frames)
    publish(monkeypatch, avazu_x1, raw)
    recipe = fitted_to(avazu_x1.RECIPE, frames, "label", distinct(frames["train"], FIELDS) + 22)
    data = run_recipe(recipe, tmp_path / "raw", tmp_path / "out")
    assert note_of(data) == ""
    check_categories(data, frames, FIELDS)


def test_other_data_are_refused(tmp_path):
    raw = write_csv(tmp_path / "raw", numbered(FIELDS, ROWS))
    with pytest.raises(InputError, match=r"positives of test 7 instead of 1,232,985.*get Avazu_x1\.zip"):
        run("avazu_x1", raw=raw, out=tmp_path / "out")
