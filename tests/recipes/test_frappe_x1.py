"""Frappe_x1 from both raw layouts: small files of the same form, and the real ones where they are."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from data_prep import RECIPES, Expected, Recipe, frappe_x1, run, run_recipe
from recsys_zoo.data.encode import Encoder
from recsys_zoo.data.store import Prepared
from recsys_zoo.errors import InputError

COLUMNS = ["label", "user", "item", "daytime", "weekday", "isweekend", "homework", "cost", "weather",
           "country", "city"]
ROWS = {"train": 60, "valid": 20, "test": 20}


def frames() -> dict[str, pl.DataFrame]:
    """Three splits of random ids in one shared id space, as BARS has them."""
    rng = np.random.default_rng(0)
    found = {}
    for name, rows in ROWS.items():
        columns = {c: rng.integers(10 * place, 10 * place + 6, rows) for place, c in enumerate(COLUMNS[1:])}
        found[name] = pl.DataFrame({"label": np.arange(rows) % 3 == 0, **columns}).cast(pl.Int64)
    return found


def bars_csv(frame: pl.DataFrame, end: str = "\r\n") -> bytes:
    lines = [",".join(frame.columns), *(",".join(map(str, row)) for row in frame.iter_rows()), ""]
    return end.join(lines).encode()


@pytest.fixture
def small(monkeypatch) -> Recipe:
    """The recipe with the counts and checksums of the small files."""
    data = frames()
    monkeypatch.setattr(frappe_x1, "MD5", {n: hashlib.md5(bars_csv(f)).hexdigest() for n, f in data.items()})
    positives = {name: int(frame["label"].sum()) for name, frame in data.items()}
    values = sum(data["train"][c].n_unique() for c in COLUMNS[1:])
    return dataclasses.replace(frappe_x1.RECIPE, expected=Expected(ROWS, positives, values + 10))


def write_csv(folder: Path, end: str = "\r\n") -> Path:
    folder.mkdir(parents=True)
    for name, frame in frames().items():
        (folder / f"{name}.csv").write_bytes(bars_csv(frame, end))
    return folder


def write_parquet(folder: Path, train: str) -> Path:
    folder.mkdir()
    for name, frame in frames().items():
        frame.cast(pl.Int32).write_parquet(folder / f"{train if name == 'train' else name}.parquet")
    return folder


def note_of(data: Prepared) -> str:
    return data.record["spec"]["note"]


def test_columns_and_roles():
    spec = RECIPES["frappe_x1"].spec
    assert [c.name for c in spec.columns] == COLUMNS[1:]
    assert {c.kind for c in spec.columns} == {"categorical"}
    assert {c.min_count for c in spec.columns} == {1}
    assert (spec.user, spec.item, spec.group) == ("user", "item", "user")
    sides = {c.name: c.side for c in spec.columns}
    assert sides.pop("user") == "user"
    assert sides.pop("item") == "item"
    assert set(sides.values()) == {"context"}


def test_published_counts():
    """benchmarks of BARS: rows, positives, and 5,379 training values with one unknown row a column."""
    expected = RECIPES["frappe_x1"].expected
    assert expected.rows == {"train": 202_027, "valid": 57_722, "test": 28_860}
    assert expected.positives == {"train": 67_604, "valid": 19_063, "test": 9_536}
    assert expected.table_size == 5_379 + 10


@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_published_files_carry_no_note(small, tmp_path, end):
    data = run_recipe(small, write_csv(tmp_path / "raw", end), tmp_path / "out")
    assert note_of(data) == ""
    assert data.folder == tmp_path / "out"
    for name, frame in frames().items():
        np.testing.assert_array_equal(data.split(name).labels[:, 0], frame["label"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "raw"]


def test_unpacked_archive_is_found(small, tmp_path):
    write_csv(tmp_path / "raw" / "Frappe_x1")
    assert len(run_recipe(small, tmp_path / "raw", tmp_path / "out").split("test")) == 20


def test_both_layouts_give_the_same_ids(small, tmp_path):
    one = run_recipe(small, write_csv(tmp_path / "csv"), tmp_path / "a")
    two = run_recipe(small, write_parquet(tmp_path / "parquet", "train"), tmp_path / "b")
    assert one.data_digest == two.data_digest
    for name in ROWS:
        np.testing.assert_array_equal(one.split(name).ids, two.split(name).ids)


def test_redrawn_negatives_are_noted(small, tmp_path, monkeypatch):
    monkeypatch.setitem(frappe_x1.MD5, "train", "0" * 32)
    said = []
    raw = write_parquet(tmp_path / "raw", "train_resampled_negatives")
    data = run_recipe(small, raw, tmp_path / "out", say=said.append)
    assert note_of(data) == "train negatives re-drawn"
    assert note_of(Prepared.open(tmp_path / "out")) == "train negatives re-drawn"
    assert "note: train negatives re-drawn" in said[-1]
    assert any("valid.parquet: the published valid.csv" in line for line in said)
    assert any("not the published train.csv" in line for line in said)


def test_changed_files_are_noted(small, tmp_path):
    raw = write_csv(tmp_path / "raw")
    frame = frames()["test"].with_columns(item=pl.col("item").reverse())
    (raw / "test.csv").write_bytes(bars_csv(frame))
    assert note_of(run_recipe(small, raw, tmp_path / "out")) == "test is not the published file"


@pytest.mark.parametrize(("field", "change", "sentence"), [
    ("rows", {"valid": 21}, "rows of valid 20 instead of 21"),
    ("positives", {"test": 8}, "positives of test 7 instead of 8"),
    ("table_size", 5389, "table size 70 instead of 5,389"),
])
def test_other_counts_are_refused(small, tmp_path, field, change, sentence):
    wanted = {**getattr(small.expected, field), **change} if isinstance(change, dict) else change
    recipe = dataclasses.replace(small, expected=dataclasses.replace(small.expected, **{field: wanted}))
    with pytest.raises(InputError, match=f"not the published data: {sentence}; get Frappe_x1.zip"):
        run_recipe(recipe, write_csv(tmp_path / "raw"), tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["raw"]


def test_a_refused_preparation_leaves_the_old_one(small, tmp_path):
    raw = write_csv(tmp_path / "raw")
    before = run_recipe(small, raw, tmp_path / "out").data_digest
    (raw / "test.csv").write_bytes(bars_csv(frames()["test"].head(5)))
    with pytest.raises(InputError, match="rows of test 5 instead of 20"):
        run_recipe(small, raw, tmp_path / "out")
    assert Prepared.open(tmp_path / "out").data_digest == before


def test_a_folder_of_something_else_is_left_alone(small, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="exists and is not a prepared folder; choose another --out"):
        run_recipe(small, write_csv(tmp_path / "raw"), tmp_path / "out")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"


def test_missing_files(small, tmp_path):
    raw = write_csv(tmp_path / "raw")
    (raw / "valid.csv").unlink()
    with pytest.raises(InputError, match=r"has no train\.csv, valid\.csv and test\.csv and no such Parquet"):
        run_recipe(small, raw, tmp_path / "out")
    with pytest.raises(InputError, match=r"nowhere: no such folder; get Frappe_x1\.zip from https://"):
        run_recipe(small, tmp_path / "nowhere", tmp_path / "out")


def test_missing_column_and_empty_field(small, tmp_path):
    raw = write_csv(tmp_path / "raw")
    content = (raw / "train.csv").read_bytes()
    (raw / "train.csv").write_bytes(content.replace(b"weather", b"wether"))
    with pytest.raises(InputError, match=r"train\.csv: no column named 'weather'; did you mean \['wether'"):
        run_recipe(small, raw, tmp_path / "out")
    (raw / "train.csv").write_bytes(content + b"1,2,,4,5,6,7,8,9,10,11\r\n")
    with pytest.raises(InputError, match=r"train\.csv: row 61 has an empty field"):
        run_recipe(small, raw, tmp_path / "out")


def test_without_raw_it_says_where_to_get_the_files(tmp_path):
    with pytest.raises(InputError, match=r"no direct download; get Frappe_x1\.zip .*, then use --raw DIR"):
        run("frappe_x1", raw=None, out=tmp_path / "out")


def test_real_validation_and_test_are_the_published_files(data_dir):
    folder = data_dir("frappe_x1")
    for name in ("valid", "test"):
        assert frappe_x1.csv_md5(folder / f"{name}.parquet") == frappe_x1.MD5[name]


@pytest.mark.slow
def test_real_files(data_dir, tmp_path):
    """Counts and table size are asserted by the recipe itself; here the ids are read back to raw values."""
    folder = data_dir("frappe_x1")
    data = run("frappe_x1", raw=folder, out=tmp_path / "out")
    assert data.schema.table_size == 5_389
    assert note_of(data) == "train negatives re-drawn"
    encoder = Encoder.open(tmp_path / "out" / "encoding")
    raw = {"train": "train_resampled_negatives", "valid": "valid", "test": "test"}
    train = pl.read_parquet(folder / "train_resampled_negatives.parquet")
    for name, file in raw.items():
        frame, split = pl.read_parquet(folder / f"{file}.parquet"), data.split(name)
        np.testing.assert_array_equal(split.labels[:, 0], frame["label"])
        for place, column in enumerate(COLUMNS[1:]):
            known = frame[column].is_in(train[column].unique().to_list())
            expected = pl.Series(np.where(known, frame[column].cast(pl.String), None)).to_list()
            assert encoder.decode(column, split.ids[:, place]) == expected
