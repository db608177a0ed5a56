"""Avazu_x4: mobile advertisements of ten days in the stratified 8:1:1 split of BARS, 24 categories.

The two boards differ in the count below which a value is unknown: 2 (avazu_x4_001), 1 (avazu_x4_002). The
time YYMMDDHH becomes hour (0 to 23), weekday (0 is Sunday) and weekend (1 on Saturday and Sunday).

The published split was drawn by scikit-learn 0.19.1 and is read from its files. From the raw file of Kaggle
the rows are split anew by `criteo_x4.ten_folds`: as many rows and positives, but other rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from recsys_zoo.data.spec import ColumnSpec, DataSpec, LabelSpec, ReadSpec
from recsys_zoo.errors import InputError

from .criteo_x4 import own_split, table, write_all
from .published import compare, find_splits
from .recipe import Expected, Raw, Recipe, Say

if TYPE_CHECKING:
    import polars as pl

MD5 = {"train": "de3a27264cdabf66adf09df82328ccaa", "valid": "33232931d84d6452d3f956e936cab2c9",
       "test": "3ebb774a9ca74d05919b84a3d402986d"}
AS_THEY_ARE = ("C1", "banner_pos", "site_id", "site_domain", "site_category", "app_id", "app_domain",
               "app_category", "device_id", "device_ip", "device_model", "device_type", "device_conn_type",
               *(f"C{n}" for n in range(14, 22)))
NAMES = ("click", "hour", *AS_THEY_ARE)


def _spec(board: str, min_count: int) -> DataSpec:
    names = ("hour", *AS_THEY_ARE, "weekday", "weekend")
    return DataSpec(dataset=board, labels=(LabelSpec(name="click"),),
                    columns=tuple(ColumnSpec(name=name, min_count=min_count) for name in names))


def gather(raw: Path, scratch: Path, say: Say) -> Raw:
    """The published train/valid/test.csv, else Kaggle's train.csv alone, split by `criteo_x4.ten_folds`."""
    read, splits = ReadSpec(separator=","), find_splits(raw, "Avazu_x4", MD5)
    if splits:
        tables = {name: (path, table(path, NAMES, read)) for name, path in splits.items()}
        return Raw(splits=write_all(tables, _fields(), scratch), note=compare(splits, MD5, say))
    kaggle = next((path for path in (raw / "train.csv", raw / "train" / "train.csv") if path.is_file()), None)
    if kaggle is None or kaggle.with_name("valid.csv").exists():
        raise InputError(f"{raw}: has neither train.csv, valid.csv and test.csv nor train.csv without "
                         f"valid.csv; {BY_HAND}")
    return own_split(kaggle, table(kaggle, NAMES, read), "click", _fields(), "Avazu_x4", scratch, say)


def _fields() -> list[pl.Expr]:
    import polars as pl
    day = pl.col("hour").str.slice(0, 6).str.to_date("%y%m%d").dt.weekday()  # 1 is Monday, 7 Sunday
    return [pl.col("click"), pl.col("hour").str.slice(6, 2).cast(pl.Int8), *map(pl.col, AS_THEY_ARE),
            (day % 7).alias("weekday"), (day >= 6).cast(pl.Int8).alias("weekend")]


BY_HAND = ("get Avazu_x4.zip from https://huggingface.co/datasets/reczoo/Avazu_x4 and unpack train.csv, "
           "valid.csv and test.csv into one folder; or train.csv of "
           "https://www.kaggle.com/c/avazu-ctr-prediction/data alone, for a split of other rows")


def _recipe(board: str, min_count: int, table_size: int) -> Recipe:
    return Recipe(
        name=board,
        title=f"Avazu_x4 (BARS): mobile advertisements, 24 categorical columns, min count {min_count}",
        terms="no licence stated by its publisher RecZoo; the rules of the Kaggle competition of Avazu apply "
              "(use for the competition and non-commercial research)",
        by_hand=BY_HAND, sources=(), spec=_spec(board, min_count), gather=gather,
        expected=Expected(rows={"train": 32_343_172, "valid": 4_042_897, "test": 4_042_898},
                          positives={"train": 5_492_052, "valid": 686_507, "test": 686_507},
                          table_size=table_size))


RECIPES = (_recipe("avazu_x4_001", 2, 3_750_975), _recipe("avazu_x4_002", 1, 8_373_415))
