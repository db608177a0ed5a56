"""KKBox_x1 from small files of the published form."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from data_prep import RECIPES, Recipe, kkbox_x1, run, run_recipe
from recsys_zoo.data.encode import Encoder
from recsys_zoo.errors import InputError

from .test_criteo_x1 import Frames, fitted_to, note_of, publish, write_csv

WORDS = ["msno", "song_id", "source_system_tab", "source_screen_name", "source_type", "city", "gender",
         "registered_via", "language"]
LISTS = ["genre_ids", "artist_name"]
ORDER = [*WORDS, *LISTS, "isrc", "bd"]


def frames() -> Frames:
    """Events with gaps, ages out of range, names in quotes, and a column that no board uses."""
    rng = np.random.default_rng(4)
    found = {}
    for name, rows in (("train", 600), ("valid", 80), ("test", 80)):
        words = {c: [f"{c}{n}" for n in rng.zipf(1.6, rows) % 25] for c in WORDS}
        lists = {c: [" ".join(f"{c[0]}{n}" for n in rng.zipf(1.5, k) % 30) for k in rng.integers(1, 6, rows)]
                 for c in LISTS}
        lists["artist_name"] = [text.replace(" ", ", ", 1) for text in lists["artist_name"]]
        countries = rng.choice(["TW", "US", "NA"], rows)
        frame = pl.DataFrame({
            "label": rng.integers(0, 2, rows), **words, **lists, "song_length": rng.integers(1, 9, rows),
            "isrc": [f"{country}X{n:07d}" for n, country in enumerate(countries)],
            "bd": rng.choice([-43, 0, 1, 10, 11, 20, 25, 30, 31, 40, 41, 51, 60, 61, 95, 96, 1051], rows)})
        gone = rng.random((rows, len(ORDER))) < 0.08
        gone[:, 0] = False  # every event has its user
        found[name] = frame.with_columns(pl.when(~pl.Series(gone[:, place])).then(pl.col(c)).alias(c)
                                         for place, c in enumerate(ORDER)).with_columns(
            source_system_tab=pl.col("source_system_tab").replace("source_system_tab1", "null"))
    return found


def age_class(age: int | None) -> str | None:
    if age is None or age < 1 or age > 95:
        return None
    return str(1 + sum(age > last for last in (10, 20, 30, 40, 50, 60)))


def values(column: str, value: str | int | None) -> list[str]:
    """The categories of one field; none for what counts as missing."""
    if column == "bd":
        value = age_class(value)
    if value is None or value == "null":
        return []
    if column in LISTS:
        return str(value).split(" ")
    return [str(value)[:2] if column == "isrc" else str(value)]


def kept(train: pl.DataFrame, most: int | None = None) -> dict[str, set[str]]:
    """The values seen ten times, among the first `most` of every list."""
    counts = {c: Counter(v for value in train[c].to_list() for v in values(c, value)[:most]) for c in ORDER}
    return {c: {v for v, n in found.items() if n >= 10} for c, found in counts.items()}


def small() -> Recipe:
    size = sum(map(len, kept(frames()["train"]).values())) + 13
    return fitted_to(kkbox_x1.RECIPE, frames(), "label", size)


def test_published_counts():
    """The published table holds 13 unknown rows, as here, and a padding row of each of two lists."""
    expected, spec = RECIPES["kkbox_x1"].expected, RECIPES["kkbox_x1"].spec
    assert sum(expected.rows.values()) == 7_377_418
    assert sum(expected.positives.values()) / 7_377_418 == pytest.approx(0.5035, abs=5e-5)
    assert expected.table_size == 92_247 - 2
    assert [c.name for c in spec.columns] == ORDER
    assert {c.min_count for c in spec.columns} == {10}
    assert {c.name: c.max_len for c in spec.columns if c.kind == "bag"} == dict.fromkeys(LISTS, 3)


def test_every_field(tmp_path, monkeypatch):
    raw = write_csv(tmp_path / "raw" / "KKBox_x1", frames())
    publish(monkeypatch, kkbox_x1, raw)
    data = run_recipe(small(), tmp_path / "raw", tmp_path / "out")
    assert note_of(data) == ""
    encoder, places = Encoder.open(data.folder / "encoding"), data.schema.id_slices()
    known = kept(frames()["train"])
    for name, frame in frames().items():
        split = data.split(name)
        assert split.labels[:, 0].tolist() == frame["label"].to_list()
        for column in ORDER:
            ids = split.ids[:, places[column]]
            raw = [values(column, value)[:3] for value in frame[column].to_list()]
            if column not in LISTS:  # a field without a value is the unknown one, a list is just empty
                raw = [found or [""] for found in raw]
            assert (ids > 0).sum(1).tolist() == [len(found) for found in raw]
            wanted = [v if v in known[column] else None for found in raw for v in found]
            assert encoder.decode(column, ids[ids > 0]) == wanted


def test_words_behind_the_third_count():
    """Otherwise the published table size would not come out; the files hold such words."""
    known, first = kept(frames()["train"]), kept(frames()["train"], 3)
    for column in ORDER:
        assert first[column] <= known[column]
        assert (first[column] < known[column]) == (column in LISTS)


def test_ages_and_countries_that_are_kept():
    """All seven classes of ages; NA is a country and not a gap, null is a gap and not a tab."""
    known = kept(frames()["train"])
    assert known["bd"] == set("1234567")
    assert known["isrc"] == {"TW", "US", "NA"}
    assert "null" not in known["source_system_tab"]


def test_an_age_that_is_no_number(tmp_path):
    changed = {name: frame.with_columns(bd=pl.lit("young")) for name, frame in frames().items()}
    raw = write_csv(tmp_path / "raw", changed)
    with pytest.raises(InputError, match=r"train\.csv: damaged, or not what its name says \("):
        run_recipe(small(), raw, tmp_path / "out")


def test_other_data_and_missing_files(tmp_path: Path):
    raw = write_csv(tmp_path / "raw", frames())
    with pytest.raises(InputError, match=r"rows of train 600 instead of 5,901,932.* of 92,245; get KKBox"):
        run("kkbox_x1", raw=raw, out=tmp_path / "out")
    (raw / "test.csv").unlink()
    with pytest.raises(InputError, match=r"has no train\.csv, valid\.csv and test\.csv; get KKBox_x1\.zip"):
        run("kkbox_x1", raw=raw, out=tmp_path / "out")
