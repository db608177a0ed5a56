"""Avazu_x4 from small files of both raw forms, and from a small real sample where it is."""

from __future__ import annotations

import datetime
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from data_prep import RECIPES, avazu_x4, run, run_recipe
from recsys_zoo.data.encode import Encoder
from recsys_zoo.data.store import Prepared
from recsys_zoo.errors import InputError

from .test_criteo_x1 import Frames, fitted_to, note_of, publish, write_csv
from .test_criteo_x4 import cut, fold_sizes, split_anew

BOARDS = {"avazu_x4_001": (2, 3_750_975), "avazu_x4_002": (1, 8_373_415)}
TOKENS = ["site_id", "site_domain", "site_category", "app_id", "app_domain", "app_category", "device_id",
          "device_ip", "device_model"]
INTEGERS = ["C1", "banner_pos", "device_type", "device_conn_type", *(f"C{n}" for n in range(14, 22))]
ORDER = ["hour", "C1", "banner_pos", *TOKENS, "device_type", "device_conn_type",
         *(f"C{n}" for n in range(14, 22)), "weekday", "weekend"]


def clicks(rows: int = 400) -> pl.DataFrame:
    """Rows of Avazu's log over ten days from 21 October 2014, a Tuesday."""
    rng = np.random.default_rng(3)
    days, hours = np.sort(rng.integers(21, 31, rows)), rng.integers(0, 24, rows)
    times = [f"1410{day:02d}{hour:02d}" for day, hour in zip(days, hours, strict=True)]
    return pl.DataFrame({
        "id": [f"{n:020d}" for n in range(rows)], "click": rng.binomial(1, 0.2, rows), "hour": times,
        **{c: rng.zipf(1.7, rows) % 30 - 1 for c in INTEGERS},
        **{c: [f"{n:08x}" for n in rng.zipf(1.7, rows) % 40] for c in TOKENS}})


def fields(frame: pl.DataFrame) -> dict[str, list[str]]:
    """The 24 columns by the calendar of the standard library."""
    found = {column: [str(value) for value in frame[column]] for column in (*INTEGERS, *TOKENS)}
    times = [datetime.datetime.strptime(str(value), "%y%m%d%H") for value in frame["hour"]]
    return found | {"hour": [str(time.hour) for time in times],
                    "weekday": [time.strftime("%w") for time in times],
                    "weekend": [str(int(time.weekday() in (5, 6))) for time in times]}


def check(board: str, raw: Path, out: Path, splits: Frames) -> Prepared:
    """Prepare and compare every row of every split with plain loops."""
    counts = {column: Counter(values) for column, values in fields(splits["train"]).items()}
    known = {c: {v for v, n in found.items() if n >= BOARDS[board][0]} for c, found in counts.items()}
    size = sum(map(len, known.values())) + 24
    data = run_recipe(fitted_to(RECIPES[board], splits, "click", size), raw, out, say=lambda line: None)
    encoder, places = Encoder.open(data.folder / "encoding"), data.schema.id_slices()
    assert [c.name for c in data.schema.columns] == ORDER
    for name, frame in splits.items():
        split = data.split(name)
        assert split.labels[:, 0].tolist() == frame["click"].to_list()
        for column, values in fields(frame).items():
            wanted = [value if value in known[column] else None for value in values]
            assert encoder.decode(column, split.ids[:, places[column].start]) == wanted
    return data


@pytest.mark.parametrize("board", BOARDS)
def test_published_counts(board):
    """Values and an unknown row of each of 24 columns; rows and positives of ten stratified folds."""
    expected, spec = RECIPES[board].expected, RECIPES[board].spec
    assert {"rows": expected.rows, "positives": expected.positives} == fold_sizes(40_428_967, 6_865_066)
    assert expected.table_size == BOARDS[board][1]
    assert {(c.kind, c.min_count) for c in spec.columns} == {("categorical", BOARDS[board][0])}
    assert {c.rule for c in spec.columns} == {"none"}


@pytest.mark.parametrize("board", BOARDS)
def test_published_files(board, tmp_path, monkeypatch):
    splits = cut(clicks())
    raw = write_csv(tmp_path / "raw" / "Avazu_x4", splits)
    publish(monkeypatch, avazu_x4, raw)
    assert note_of(check(board, tmp_path / "raw", tmp_path / "out", splits)) == ""
    assert set(fields(splits["train"])["weekday"]) == set("0123456")


def test_raw_file_is_split_by_hash_and_noted(tmp_path):
    (tmp_path / "raw").mkdir()
    clicks().write_csv(tmp_path / "raw" / "train.csv")
    splits = split_anew(clicks(), "click", "avazu_x4")
    data = check("avazu_x4_002", tmp_path / "raw", tmp_path / "out", splits)
    assert note_of(data).endswith("the rows of train, valid and test are not those of Avazu_x4")


def test_published_training_file_alone_is_not_the_raw_file(tmp_path):
    raw = write_csv(tmp_path / "raw", cut(clicks(50)))
    (raw / "test.csv").unlink()
    with pytest.raises(InputError, match=r"has neither train\.csv, valid\.csv and test\.csv nor train\.csv "):
        run("avazu_x4_001", raw=raw, out=tmp_path / "out")


def test_damaged_time(tmp_path):
    frame = clicks(50).with_columns(hour=pl.col("hour").str.replace("14", "2014-"))
    raw = write_csv(tmp_path / "raw", cut(frame))
    with pytest.raises(InputError, match=r"train\.csv: damaged, or not what its name says \("):
        run("avazu_x4_001", raw=raw, out=tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["raw"]


@pytest.mark.parametrize("board", BOARDS)
def test_real_sample_in_both_forms(board, data_dir, tmp_path):
    folder = data_dir("avazu_sample")
    parts = [pl.read_parquet(folder / f"{name}.parquet") for name in ("train", "dev", "test")]
    frame = pl.concat(parts)[:2000]
    check(board, write_csv(tmp_path / "csv", cut(frame)), tmp_path / "a", cut(frame))
    (tmp_path / "one").mkdir()
    frame.write_csv(tmp_path / "one" / "train.csv")
    check(board, tmp_path / "one", tmp_path / "b", split_anew(frame, "click", "avazu_x4"))
