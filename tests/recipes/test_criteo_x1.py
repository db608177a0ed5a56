"""Criteo_x1 from small files of the published form; what the tests of the other BARS files share."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import pytest

from data_prep import RECIPES, Expected, Recipe, criteo_x1, run, run_recipe
from recsys_zoo.data.encode import Encoder
from recsys_zoo.data.store import Prepared
from recsys_zoo.errors import InputError

ROWS = {"train": 60, "valid": 20, "test": 20}
Frames = dict[str, pl.DataFrame]


def write_csv(folder: Path, frames: Frames) -> Path:
    """One CSV file a split, with a header."""
    folder.mkdir(parents=True)
    for name, frame in frames.items():
        frame.write_csv(folder / f"{name}.csv")
    return folder


def fitted_to(recipe: Recipe, frames: Frames, label: str, table_size: int) -> Recipe:
    """The recipe with the counts of these frames."""
    expected = Expected({name: frame.height for name, frame in frames.items()},
                        {name: int(frame[label].cast(pl.Int64).sum()) for name, frame in frames.items()},
                        table_size)
    return dataclasses.replace(recipe, expected=expected)


def publish(monkeypatch: pytest.MonkeyPatch, module: ModuleType, raw: Path) -> None:
    """Make the files in `raw` the published ones."""
    for name in module.MD5:
        content = (raw / f"{name}.csv").read_bytes()
        monkeypatch.setitem(module.MD5, name, hashlib.md5(content).hexdigest())


def note_of(data: Prepared) -> str:
    return data.record["spec"]["note"]


def numbered(columns: list[str], rows: dict[str, int], seed: int = 0) -> Frames:
    """Random ids in one id space over all columns, six values a column, as AFN's files have them."""
    rng = np.random.default_rng(seed)
    return {name: pl.DataFrame({
        "label": np.arange(count) % 3 == 0,
        **{c: rng.integers(6 * place, 6 * place + 6, count) for place, c in enumerate(columns)},
    }).cast(pl.Int64) for name, count in rows.items()}


def distinct(frame: pl.DataFrame, columns: list[str]) -> int:
    return sum(len(set(frame[column].to_list())) for column in columns)


def check_categories(data: Prepared, frames: Frames, columns: list[str]) -> None:
    """Every id of every split stands for its raw value, or for nothing where training lacks the value."""
    encoder, places = Encoder.open(data.folder / "encoding"), data.schema.id_slices()
    for name, frame in frames.items():
        np.testing.assert_array_equal(data.split(name).labels[:, 0], frame["label"])
        for column in columns:
            seen = set(frames["train"][column].to_list())
            wanted = [str(value) if value in seen else None for value in frame[column].to_list()]
            assert encoder.decode(column, data.split(name).ids[:, places[column].start]) == wanted


NUMBERS = [f"I{n}" for n in range(1, 14)]
CATEGORIES = [f"C{n}" for n in range(1, 27)]


def frames() -> Frames:
    """Numbers between 0 and 1, ids below them."""
    rng = np.random.default_rng(1)
    return {name: frame.with_columns(pl.Series(c, rng.random(frame.height).round(6)) for c in NUMBERS)
            .select("label", *NUMBERS, *CATEGORIES) for name, frame in numbered(CATEGORIES, ROWS).items()}


def small() -> Recipe:
    return fitted_to(criteo_x1.RECIPE, frames(), "label", distinct(frames()["train"], CATEGORIES) + 26)


def test_published_counts():
    """The published table counts 13 weights of numeric columns and an unknown row of each of 26 columns."""
    expected, spec = RECIPES["criteo_x1"].expected, RECIPES["criteo_x1"].spec
    assert sum(expected.rows.values()) == 45_840_617
    assert sum(expected.positives.values()) == 11_745_438
    assert expected.table_size == 2_086_316 - 13
    assert [(c.name, c.kind, c.min_count) for c in spec.columns] == [
        *((name, "numeric", 1) for name in NUMBERS), *((name, "categorical", 1) for name in CATEGORIES)]


def test_values_and_numbers(tmp_path, monkeypatch):
    raw = write_csv(tmp_path / "raw", frames())
    publish(monkeypatch, criteo_x1, raw)
    data = run_recipe(small(), raw, tmp_path / "out")
    assert note_of(data) == ""
    check_categories(data, frames(), CATEGORIES)
    for name, frame in frames().items():
        np.testing.assert_array_equal(data.split(name).numeric, frame.select(NUMBERS).to_numpy().astype("f4"))


def test_ids_written_as_floats_are_the_same_ids(tmp_path):
    whole = run_recipe(small(), write_csv(tmp_path / "whole", frames()), tmp_path / "a")
    floats = {name: frame.cast(dict.fromkeys(CATEGORIES, pl.Float64)) for name, frame in frames().items()}
    raw = write_csv(tmp_path / "floats", floats)
    assert b".0," in (raw / "train.csv").read_bytes()
    assert run_recipe(small(), raw, tmp_path / "b").data_digest == whole.data_digest


def test_unpacked_archive_is_found_and_other_files_are_noted(tmp_path, monkeypatch):
    raw = write_csv(tmp_path / "raw" / "Criteo_x1", frames())
    publish(monkeypatch, criteo_x1, raw)
    monkeypatch.setitem(criteo_x1.MD5, "valid", "0" * 32)
    said: list[str] = []
    data = run_recipe(small(), tmp_path / "raw", tmp_path / "out", say=said.append)
    assert note_of(data) == "valid is not the published file"
    assert any("the published train.csv (md5 " in line for line in said)
    found = hashlib.md5((raw / "valid.csv").read_bytes()).hexdigest()
    assert any(f"not the published valid.csv (md5 {found} instead of {'0' * 32})" in line for line in said)


def test_other_data_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"rows of train 60 instead of 33,003,326.*table size \d+ instead of "
                                         r"2,086,303; get Criteo_x1\.zip from https://"):
        run("criteo_x1", raw=write_csv(tmp_path / "raw", frames()), out=tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["raw"]


def test_missing_file(tmp_path):
    raw = write_csv(tmp_path / "raw", frames())
    (raw / "valid.csv").unlink()
    with pytest.raises(InputError, match=r"has no train\.csv, valid\.csv and test\.csv; get Criteo_x1\.zip"):
        run_recipe(small(), raw, tmp_path / "out")
