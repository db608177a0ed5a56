"""Criteo_x4: display advertisements of one week in the stratified 8:1:1 split of BARS, 39 categories.

The two boards differ in the count below which a value is unknown: 10 (criteo_x4_001), 2 (criteo_x4_002). An
integer x becomes floor(ln(x)^2) above 2 and counts as a category. In the published tables a missing integer
and a zero share the unknown row; zeros are left empty here, so that the table sizes are the published ones.

The published split was drawn by scikit-learn 0.19.1 and is read from its files. From the raw file of Kaggle
the rows are split anew by `ten_folds`: as many rows and positives, but other rows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from recsys_zoo.data.spec import ColumnSpec, DataSpec, LabelSpec, ReadSpec
from recsys_zoo.errors import InputError

from .criteo_x1 import CATEGORIES, NUMBERS
from .published import compare, find_splits
from .recipe import Expected, Raw, Recipe, Say

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

MD5 = {"train": "4a53bb7cbc0e4ee25f9d6a73ed824b1a", "valid": "fba5428b22895016e790e2dec623cb56",
       "test": "cfc37da0d75c4d2d8778e76997df2976"}
NAMES = ("Label", *NUMBERS, *CATEGORIES)

_BLOCKS = 1 << 12  # blocks of ten rows that are drawn together
_ROW_GROUP = 1 << 14  # rows; readers hold several groups at once, larger ones cost memory


def _spec(board: str, min_count: int) -> DataSpec:
    integers = (ColumnSpec(name=name, rule="log_square", min_count=min_count) for name in NUMBERS)
    tokens = (ColumnSpec(name=name, min_count=min_count) for name in CATEGORIES)
    return DataSpec(dataset=board, labels=(LabelSpec(name="label", column="Label"),),
                    columns=(*integers, *tokens))


def gather(raw: Path, scratch: Path, say: Say) -> Raw:
    """The published train/valid/test.csv, else Kaggle's train.txt (tabs, no header) split by `ten_folds`."""
    splits = find_splits(raw, "Criteo_x4", MD5)
    if splits:
        tables = {name: (path, table(path, NAMES, ReadSpec(separator=","))) for name, path in splits.items()}
        return Raw(splits=write_all(tables, _fields(), scratch), note=compare(splits, MD5, say))
    kaggle = next((path for path in (raw / "train.txt", raw / "dac" / "train.txt") if path.is_file()), None)
    if kaggle is None:
        raise InputError(f"{raw}: has no train.csv, valid.csv and test.csv and no train.txt; {BY_HAND}")
    rows = table(kaggle, NAMES, ReadSpec(separator="\t", header=NAMES))
    return own_split(kaggle, rows, "Label", _fields(), "Criteo_x4", scratch, say)


def _fields() -> list[pl.Expr]:
    import polars as pl
    zero = [pl.col(name).is_in(["0", "0.0", "-0"]) for name in NUMBERS]
    integers = [pl.when(~empty).then(pl.col(name)).alias(name)
                for name, empty in zip(NUMBERS, zero, strict=True)]
    return [pl.col("Label"), *integers, *(pl.col(name) for name in CATEGORIES)]


def table(path: Path, names: Sequence[str], read: ReadSpec) -> pl.LazyFrame:
    """The rows of a file as texts, without blank lines; InputError for a short line and a missing column."""
    import polars as pl

    from recsys_zoo.data.read import check_lines, column_names
    from recsys_zoo.data.values import missing_column
    known = column_names(path, read)
    for name in names:
        if name not in known:
            raise missing_column(str(path), name, known)
    blank = check_lines(path, read)
    rows = pl.scan_csv(path, glob=False, infer_schema=False, separator=read.separator,
                       has_header=not read.header, new_columns=list(read.header) or None,
                       null_values=list(read.null_values) or None)
    return rows if blank == 0 else rows.filter(pl.any_horizontal(pl.all().is_not_null()))


def write_all(tables: dict[str, tuple[Path, pl.LazyFrame]], fields: Sequence[pl.Expr],
              scratch: Path) -> dict[str, Path]:
    """Stream `fields` of each split (its file, its rows) into Parquet.

    InputError for a damaged file and a full disk.
    """
    written = {name: scratch / f"{name}.parquet" for name in tables}
    for name, (path, rows) in tables.items():
        with streamed(path, scratch):
            rows.select(fields).sink_parquet(written[name], row_group_size=_ROW_GROUP)
    return written


def own_split(path: Path, rows: pl.LazyFrame, label: str, fields: Sequence[pl.Expr], name: str,
              scratch: Path, say: Say) -> Raw:
    """`fields` of each split: fold 0 of ten is test, fold 1 valid, folds 2 to 9 in file order train."""
    import polars as pl
    note = f"split by the hash of row numbers; the rows of train, valid and test are not those of {name}"
    say(f"{path}: {note}")
    with streamed(path, scratch):
        labels = rows.select(pl.col(label).cast(pl.UInt8)).collect(engine="streaming").to_series()
    if labels.null_count():
        raise InputError(f"{path}: row {labels.is_null().arg_true()[0] + 1} has no {label}; {name} has none")
    folds = pl.Series(ten_folds(labels.to_numpy(), name.lower()))
    tables = {split: (path, only(rows, chosen))
              for split, chosen in (("train", folds >= 2), ("valid", folds == 1), ("test", folds == 0))}
    return Raw(splits=write_all(tables, fields, scratch), note=note, same_rows=False)


def only(rows: pl.LazyFrame, chosen: pl.Series) -> pl.LazyFrame:
    """The rows where `chosen`, a truth value for each row, is true; with their numbers as column row."""
    import polars as pl
    member = pl.col("row").map_batches(chosen.gather, return_dtype=pl.Boolean, is_elementwise=True)
    return rows.with_row_index("row").filter(member)


def ten_folds(labels: np.ndarray, salt: str) -> np.ndarray:
    """The fold 0 to 9 (uint8) of each row: folds of one size with one share of each label.

    Every ten rows of one label, in file order, go to ten different folds: the place of a row's `hash_unit` of
    (label, number among the rows of that label) in the order of the ten is its fold. The last block may be
    short and then fills the first folds.
    """
    import numpy as np

    from recsys_zoo.data.split import hash_unit
    folds = np.empty(len(labels), np.uint8)
    for label in np.unique(labels):
        rows = int((labels == label).sum())
        drawn = np.empty(rows, np.uint8)
        for start in range(0, rows, 10 * _BLOCKS):
            numbers = np.arange(start, min(start + 10 * _BLOCKS, rows))
            unit = np.full(-(-len(numbers) // 10) * 10, 2.0)  # above every hash: behind the rows there are
            unit[:len(numbers)] = hash_unit([np.full(len(numbers), str(label)), numbers.astype(str)], salt)
            order = unit.reshape(-1, 10).argsort(axis=1, kind="stable")
            place = order.argsort(axis=1, kind="stable").ravel()  # of each row among its ten
            drawn[numbers] = place[:len(numbers)]
        folds[labels == label] = drawn
    return folds


@contextlib.contextmanager
def streamed(path: Path, scratch: Path) -> Iterator[None]:
    """Turn what polars says of a damaged file, or of a full disk below `scratch`, into one sentence."""
    import polars as pl
    try:
        yield
    except pl.exceptions.PolarsError as error:
        reason = " ".join(str(error).split("\n", 1)[0].split())
        if "No space left on device" in reason:
            raise InputError(f"{scratch}: cannot write: No space left on device; free some space or choose "
                             "another folder") from None
        raise InputError(f"{path}: damaged, or not what its name says ({reason})") from None


BY_HAND = ("get Criteo_x4.zip from https://huggingface.co/datasets/reczoo/Criteo_x4 and unpack train.csv, "
           "valid.csv and test.csv into one folder; or train.txt of "
           "https://www.kaggle.com/c/criteo-display-ad-challenge/data, for a split of other rows")


def _recipe(board: str, min_count: int, table_size: int) -> Recipe:
    return Recipe(
        name=board,
        title=f"Criteo_x4 (BARS): display advertisements, 39 categorical columns, min count {min_count}",
        terms="no licence stated by its publisher RecZoo; the terms of Criteo's Display Advertising "
              "Challenge (Kaggle 2014) apply, non-commercial use",
        by_hand=BY_HAND, sources=(), spec=_spec(board, min_count), gather=gather,
        expected=Expected(rows={"train": 36_672_493, "valid": 4_584_062, "test": 4_584_062},
                          positives={"train": 9_396_350, "valid": 1_174_544, "test": 1_174_544},
                          table_size=table_size))


RECIPES = (_recipe("criteo_x4_001", 10, 910_708), _recipe("criteo_x4_002", 2, 5_549_213))
