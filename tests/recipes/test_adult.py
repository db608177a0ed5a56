"""Adult from small files of both raw layouts, and from the real ones where they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from data_prep import RECIPES, Recipe, adult, run, run_recipe
from recsys_zoo.data.encode import Encoder
from recsys_zoo.errors import InputError

from .test_criteo_x1 import Frames, fitted_to

CATEGORIES = ["workclass", "education", "occupation", "relationship", "race", "sex", "native-country"]
NUMBERS = ["age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week"]


def people() -> Frames:
    """Official training and test rows of the columns of adult.data; some work classes are not known."""
    rng = np.random.default_rng(0)
    found = {}
    for name, rows in (("train", 200), ("test", 50)):
        words = {c: [f"{c} {n}" for n in rng.integers(0, 3, rows)] for c in CATEGORIES}
        words["workclass"] = [None if n % 9 == 0 else v for n, v in enumerate(words["workclass"])]
        status = rng.choice(["Never-married", "Divorced"], rows)
        frame = pl.DataFrame({**words, **{c: rng.integers(0, 99, rows) for c in NUMBERS},
                              "marital-status": status, "income": rng.choice([">50K", "<=50K"], rows)})
        found[name] = frame.select(adult.FIELDS)
    return found


def write_uci(folder: Path, frames: Frames) -> Path:
    """As UCI has them: no header, comma and blank, ? for missing; the test file opens with a remark."""
    folder.mkdir()
    for name, file, first, stop in (("train", "adult.data", "", ""),
                                    ("test", "adult.test", "|1x3 Cross validator\n", ".")):
        rows = [["?" if value is None else str(value) for value in row] for row in frames[name].iter_rows()]
        (folder / file).write_text(first + "".join(f"{', '.join(row)}{stop}\n" for row in rows) + "\n")
    return folder


def write_parquet(folder: Path, frames: Frames) -> Path:
    folder.mkdir()
    for name, frame in frames.items():
        frame.write_parquet(folder / f"{name}.parquet")
    return folder


def is_valid(row: int) -> bool:
    """Whether this training row (from 0) is held out, from the definition of the hash."""
    state = 0xCBF29CE484222325
    for byte in f"adult\x1f{row}\x1f".encode():
        state = (state ^ byte) * 0x100000001B3 % 2**64
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    state = (state ^ state >> 27) * 0x94D049BB133111EB % 2**64
    return ((state ^ state >> 31) >> 11) / 2**53 >= 0.9


def split_by_definition(frames: Frames) -> Frames:
    held = pl.Series([is_valid(row) for row in range(frames["train"].height)])
    train = frames["train"]
    return {"train": train.filter(~held), "valid": train.filter(held), "test": frames["test"]}


def small() -> Recipe:
    splits = split_by_definition(people())
    labels = {name: pl.DataFrame({"both": [(income == ">50K") + (status == "Never-married") for income, status
                                           in zip(f["income"], f["marital-status"], strict=True)]})
              for name, f in splits.items()}
    values = sum(len(set(splits["train"][c].drop_nulls())) for c in CATEGORIES)
    return fitted_to(adult.RECIPE, labels, "both", values + len(CATEGORIES))


def test_labels_are_no_inputs():
    spec = RECIPES["adult"].spec
    kinds = {c.source or c.name: c.kind for c in spec.columns}
    assert kinds == {c: "categorical" for c in CATEGORIES} | {c: "numeric" for c in NUMBERS}
    assert [label.name for label in spec.labels] == ["income_above_50k", "never_married"]


def test_counts_of_the_official_files():
    expected = RECIPES["adult"].expected
    assert expected.rows["train"] + expected.rows["valid"] == 32_561
    assert expected.positives["train"] + expected.positives["valid"] == 7_841 + 10_683
    assert (expected.rows["test"], expected.positives["test"]) == (16_281, 3_846 + 5_434)
    assert expected.rows["valid"] == sum(is_valid(row) for row in range(32_561))


def test_both_layouts_give_the_same_data(tmp_path):
    one = run_recipe(small(), write_uci(tmp_path / "uci", people()), tmp_path / "a")
    two = run_recipe(small(), write_parquet(tmp_path / "parquet", people()), tmp_path / "b")
    assert one.data_digest == two.data_digest
    encoder, places = Encoder.open(one.folder / "encoding"), one.schema.id_slices()
    for name, frame in split_by_definition(people()).items():
        split = one.split(name)
        assert split.labels[:, 0].tolist() == [value == ">50K" for value in frame["income"]]
        assert split.labels[:, 1].tolist() == [value == "Never-married" for value in frame["marital-status"]]
        for column in CATEGORIES:
            own = column.replace("-", "_")
            assert encoder.decode(own, split.ids[:, places[own].start]) == frame[column].to_list()


def test_numbers_are_standardised_by_training_rows(tmp_path):
    data = run_recipe(small(), write_uci(tmp_path / "uci", people()), tmp_path / "out")
    splits = split_by_definition(people())
    order = [c for c in adult.FIELDS if c in NUMBERS]
    train = splits["train"].select(order).to_numpy().astype(float)
    wanted = (splits["test"].select(order).to_numpy() - train.mean(0)) / train.std(0)
    np.testing.assert_allclose(data.split("test").numeric, wanted, rtol=1e-5, atol=1e-6)  # float32


@pytest.mark.parametrize(("old", "new", "sentence"), [
    (", >50K\n", ", 60K\n", r"adult\.data: a row has income '60K' and marital status '(Never|Divorced)"),
    (", >50K\n", "\n", r"adult\.data, line \d+: has 14 fields instead of 15; get adult\.data"),
])
def test_damaged_file(tmp_path, old, new, sentence):
    raw = write_uci(tmp_path / "raw", people())
    path = raw / "adult.data"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=sentence):
        run_recipe(small(), raw, tmp_path / "out")


def test_missing_file(tmp_path):
    raw = write_uci(tmp_path / "raw", people())
    (raw / "adult.test").unlink()
    with pytest.raises(InputError, match=r"holds neither adult\.data and adult\.test nor train\.parquet"):
        run_recipe(small(), raw, tmp_path / "out")


def test_real_files(data_dir, tmp_path):
    """Counts and table size are asserted by the recipe; here one column is read back."""
    folder = data_dir("adult")
    data = run("adult", raw=folder, out=tmp_path / "out")
    encoder, place = Encoder.open(data.folder / "encoding"), data.schema.id_slices()["occupation"].start
    test = pl.read_parquet(folder / "test.parquet")
    assert encoder.decode("occupation", data.split("test").ids[:, place]) == test["occupation"].to_list()
    assert data.split("test").labels.sum(0).tolist() == [3_846, 5_434]
