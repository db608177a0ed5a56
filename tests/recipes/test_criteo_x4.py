"""Criteo_x4 from small files of both raw forms, and from a small real sample where it is."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from data_prep import RECIPES, criteo_x4, run, run_recipe
from recsys_zoo.data.encode import Encoder
from recsys_zoo.data.spec import ReadSpec
from recsys_zoo.data.store import Prepared
from recsys_zoo.errors import InputError

from .test_criteo_x1 import CATEGORIES, NUMBERS, Frames, fitted_to, note_of, publish, write_csv

BOARDS = {"criteo_x4_001": (10, 910_708), "criteo_x4_002": (2, 5_549_213)}
NAMES = ["Label", *NUMBERS, *CATEGORIES]


def log_lines(rows: int = 400) -> pl.DataFrame:
    """Rows of Criteo's log: counts (some negative, zero or missing) and tokens of eight hex digits."""
    rng = np.random.default_rng(2)
    counts = {c: np.floor(rng.exponential(20, rows)).astype(int) - 2 for c in NUMBERS}
    tokens = {c: [f"{n:08x}" for n in rng.zipf(1.5, rows) % 50] for c in CATEGORIES}
    frame = pl.DataFrame({"Label": (rng.random(rows) < 0.3).astype(int), **counts, **tokens})
    gone = rng.random((rows, len(NAMES))) < 0.1
    return frame.with_columns(pl.when(~pl.Series(gone[:, place])).then(pl.col(c)).alias(c)
                              for place, c in enumerate(NAMES) if place)


def cut(frame: pl.DataFrame) -> Frames:
    tenth = frame.height // 10
    return {"train": frame[2 * tenth:], "valid": frame[tenth:2 * tenth], "test": frame[:tenth]}


def category(column: str, value: int | str | None) -> str | None:
    """What a raw value counts as, by the rule of the contest's winners; None for the unknown value."""
    if value is None or value == 0:
        return None
    if column.startswith("C"):
        return str(value)
    return str(math.floor(math.log(value) ** 2)) if value > 2 else str(value)


def kept(train: pl.DataFrame, min_count: int) -> dict[str, set[str]]:
    """The values of each column that have a row of the table."""
    counts = {c: Counter(category(c, value) for value in train[c].to_list()) for c in NAMES[1:]}
    return {c: {v for v, n in found.items() if v and n >= min_count} for c, found in counts.items()}


def check(board: str, raw: Path, out: Path, splits: Frames) -> Prepared:
    """Prepare and compare every row of every split with plain loops."""
    known = kept(splits["train"], BOARDS[board][0])
    size = sum(map(len, known.values())) + 39
    data = run_recipe(fitted_to(RECIPES[board], splits, "Label", size), raw, out, say=lambda line: None)
    encoder, places = Encoder.open(data.folder / "encoding"), data.schema.id_slices()
    for name, frame in splits.items():
        split = data.split(name)
        assert split.labels[:, 0].tolist() == frame["Label"].to_list()
        for column in NAMES[1:]:
            texts = [category(column, value) for value in frame[column].to_list()]
            wanted = [text if text in known[column] else None for text in texts]
            assert encoder.decode(column, split.ids[:, places[column].start]) == wanted
    return data


def folds_by_definition(labels: list[int], salt: str) -> list[int]:
    """The fold of each row, one byte and one row at a time."""
    members: dict[int, list[int]] = {label: [] for label in sorted(set(labels))}
    for row, label in enumerate(labels):
        members[label].append(row)
    folds = [-1] * len(labels)
    for label, rows in members.items():
        for start in range(0, len(rows), 10):
            numbers = range(start, min(start + 10, len(rows)))
            drawn = sorted((unit(f"{salt}\x1f{label}\x1f{n}\x1f"), n) for n in numbers)
            for fold, (_, number) in enumerate(drawn):
                folds[rows[number]] = fold
    return folds


def unit(text: str) -> float:
    """FNV-1a, the finaliser of splitmix64, the upper 53 bits."""
    state = 0xCBF29CE484222325
    for byte in text.encode():
        state = (state ^ byte) * 0x100000001B3 % 2**64
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    state = (state ^ state >> 27) * 0x94D049BB133111EB % 2**64
    return ((state ^ state >> 31) >> 11) / 2**53


def split_anew(frame: pl.DataFrame, label: str, salt: str) -> Frames:
    folds = pl.Series(folds_by_definition(frame[label].to_list(), salt))
    chosen = {"train": folds >= 2, "valid": folds == 1, "test": folds == 0}
    return {name: frame.filter(member) for name, member in chosen.items()}


def fold_sizes(rows: int, positives: int) -> dict[str, dict[str, int]]:
    """Rows and positives of the splits when ten folds share each label and the first take what is left."""
    def size(total: int, fold: int) -> int:
        return total // 10 + (fold < total % 10)
    ones = {"train": sum(size(positives, f) for f in range(2, 10)), "valid": size(positives, 1),
            "test": size(positives, 0)}
    zeros = rows - positives
    all_rows = {"train": rows, "valid": ones["valid"] + size(zeros, 1), "test": ones["test"] + size(zeros, 0)}
    all_rows["train"] -= all_rows["valid"] + all_rows["test"]
    return {"rows": all_rows, "positives": ones}


@pytest.mark.parametrize("board", BOARDS)
def test_published_counts(board):
    """Values and an unknown row of each of 39 columns; rows and positives of ten stratified folds."""
    expected, spec = RECIPES[board].expected, RECIPES[board].spec
    assert {"rows": expected.rows, "positives": expected.positives} == fold_sizes(45_840_617, 11_745_438)
    assert expected.table_size == BOARDS[board][1]
    assert [c.name for c in spec.columns] == NAMES[1:]
    assert {(c.kind, c.min_count) for c in spec.columns} == {("categorical", BOARDS[board][0])}


@pytest.mark.parametrize("board", BOARDS)
def test_published_files(board, tmp_path, monkeypatch):
    splits = cut(log_lines())
    raw = write_csv(tmp_path / "raw" / "Criteo_x4", splits)
    publish(monkeypatch, criteo_x4, raw)
    assert note_of(check(board, tmp_path / "raw", tmp_path / "out", splits)) == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "raw"]


def test_zero_and_missing_are_the_unknown_value(tmp_path):
    splits = cut(log_lines())
    data = check("criteo_x4_002", write_csv(tmp_path / "raw", splits), tmp_path / "out", splits)
    assert note_of(data) == "; ".join(f"{name} is not the published file" for name in splits)
    raw = splits["train"]["I1"]
    ids = data.split("train").ids[:, data.schema.id_slices()["I1"].start]
    assert (raw == 0).sum() > 0
    assert set(ids[((raw == 0) | raw.is_null()).fill_null(True).to_numpy()]) == {1}


def test_raw_file_is_split_by_hash_and_noted(tmp_path):
    frame = log_lines()
    (tmp_path / "raw" / "dac").mkdir(parents=True)
    frame.write_csv(tmp_path / "raw" / "dac" / "train.txt", include_header=False, separator="\t")
    splits = split_anew(frame, "Label", "criteo_x4")
    data = check("criteo_x4_002", tmp_path / "raw", tmp_path / "out", splits)
    assert note_of(data) == ("split by the hash of row numbers; the rows of train, valid and test are not "
                             "those of Criteo_x4")


@pytest.mark.parametrize("rows", [1, 9, 10, 237])
def test_folds_follow_their_definition(rows):
    labels = np.random.default_rng(rows).integers(0, 2, rows).astype(np.uint8)
    assert criteo_x4.ten_folds(labels, "salt").tolist() == folds_by_definition(labels.tolist(), "salt")


def test_folds_share_rows_and_labels_over_many_blocks(monkeypatch):
    labels = (np.random.default_rng(0).random(12_345) < 0.25).astype(np.uint8)
    folds = criteo_x4.ten_folds(labels, "salt")
    for label in (0, 1):
        count = int((labels == label).sum())
        wanted = [count // 10 + (fold < count % 10) for fold in range(10)]
        assert np.bincount(folds[labels == label]).tolist() == wanted
    assert not np.array_equal(folds, criteo_x4.ten_folds(labels, "another salt"))
    monkeypatch.setattr(criteo_x4, "_BLOCKS", 7)
    np.testing.assert_array_equal(criteo_x4.ten_folds(labels, "salt"), folds)


@pytest.mark.parametrize(("change", "sentence"), [
    (lambda lines: [*lines[:5], "1\t2\t3", *lines[6:]], r"train\.txt, line 6: has 3 of 40 fields"),
    (lambda lines: ["\t" + lines[0].split("\t", 1)[1], *lines[1:]], r"train\.txt: row 1 has no Label"),
    (lambda lines: ["x\t" + lines[0].split("\t", 1)[1], *lines[1:]], r"train\.txt: damaged, or not what its"),
])
def test_damaged_raw_file(tmp_path, change, sentence):
    log_lines(50).write_csv(tmp_path / "train.txt", include_header=False, separator="\t")
    lines = (tmp_path / "train.txt").read_text().splitlines()
    (tmp_path / "train.txt").write_text("\n".join(change(lines)) + "\n")
    with pytest.raises(InputError, match=sentence):
        run("criteo_x4_001", raw=tmp_path, out=tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["train.txt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no disk that is always full")
def test_full_disk(tmp_path):
    log_lines(50).write_csv(tmp_path / "train.csv")
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch" / "train.parquet").symlink_to("/dev/full")
    rows = criteo_x4.table(tmp_path / "train.csv", NAMES, ReadSpec(separator=","))
    with pytest.raises(InputError, match=r"scratch: cannot write: No space left on device; free"):
        criteo_x4.write_all({"train": (tmp_path / "train.csv", rows)}, [pl.col("I1")], tmp_path / "scratch")


def test_blank_lines_are_no_rows(tmp_path):
    splits = cut(log_lines(100))
    raw = write_csv(tmp_path / "raw", splits)
    header, rest = (raw / "train.csv").read_bytes().split(b"\n", 1)
    (raw / "train.csv").write_bytes(header + b"\n\n" + rest + b"\n\n")
    check("criteo_x4_002", raw, tmp_path / "out", splits)  # the rows that there are without them


def test_missing_files_and_column(tmp_path):
    with pytest.raises(InputError, match=r"has no train\.csv, valid\.csv and test\.csv and no train\.txt; "):
        run("criteo_x4_001", raw=tmp_path, out=tmp_path / "out")
    raw = write_csv(tmp_path / "raw", {n: f.rename({"I7": "J7"}) for n, f in cut(log_lines(50)).items()})
    with pytest.raises(InputError, match=r"train\.csv: no column named 'I7'"):
        run("criteo_x4_001", raw=raw, out=tmp_path / "out")


@pytest.mark.parametrize("board", BOARDS)
def test_real_sample_in_both_forms(board, data_dir, tmp_path):
    frame = pl.read_parquet(data_dir("criteo_sample") / "first_10000_rows.parquet")[:1500]
    frame = frame.rename({"label": "Label"})
    check(board, write_csv(tmp_path / "csv", cut(frame)), tmp_path / "a", cut(frame))
    (tmp_path / "txt").mkdir()
    frame.write_csv(tmp_path / "txt" / "train.txt", include_header=False, separator="\t")
    check(board, tmp_path / "txt", tmp_path / "b", split_anew(frame, "Label", "criteo_x4"))


@pytest.mark.parametrize("published", [True, False])
def test_the_table_size_is_asserted_of_the_published_split_alone(published, tmp_path, monkeypatch):
    """Other rows in training have other vocabularies: of an own split, only rows and positives are known."""
    raw, lines = tmp_path / "raw", log_lines()
    if published:
        splits = cut(lines)
        publish(monkeypatch, criteo_x4, write_csv(raw, splits))
    else:
        raw.mkdir()
        lines.write_csv(raw / "train.txt", include_header=False, separator="\t")
        splits = split_anew(lines, "Label", "criteo_x4")
    recipe = fitted_to(RECIPES["criteo_x4_002"], splits, "Label", 1)
    if published:
        with pytest.raises(InputError, match="table size"):
            run_recipe(recipe, raw, tmp_path / "out", say=lambda line: None)
    else:
        data = run_recipe(recipe, raw, tmp_path / "out", say=lambda line: None)
        assert "are not those of Criteo_x4" in note_of(data)
