"""KKBox_x1: will a user hear a song again within a month, 13 columns of user and song, split 8:1:1 by BARS.

Of the recording code the country (two letters) is kept, of the age one of seven classes (1-10, 11-20, ...,
51-60, 61-95), of genres and artist the first three words. Texts that pandas reads as missing are missing.

The table size is the published 92,247 without 2: that figure counts a padding row for each of the two lists.
Words are counted wherever they stand in a list, as in the published table.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from recsys_zoo.data.spec import ColumnSpec, DataSpec, ReadSpec
from recsys_zoo.errors import InputError

from .criteo_x4 import table, write_all
from .published import compare, find_splits
from .recipe import Expected, Raw, Recipe, Say

if TYPE_CHECKING:
    import polars as pl

MD5 = {"train": "195b1ae8fc2d9267d7c8656c07ea1304", "valid": "398e97ac139611a09bd61a58e4240a3e",
       "test": "8c5f7add05a6f5258b6b3bcc00ba640b"}
SIDES = {"msno": "user", "song_id": "item", "source_system_tab": "context", "source_screen_name": "context",
         "source_type": "context", "city": "user", "gender": "user", "registered_via": "user",
         "language": "item", "genre_ids": "item", "artist_name": "item", "isrc": "item", "bd": "user"}
MISSING = ("#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "N/A", "NA",
           "NULL", "NaN", "n/a", "nan", "null")


def _column(name: str) -> ColumnSpec:
    if name in ("genre_ids", "artist_name"):
        return ColumnSpec(name=name, side=SIDES[name], kind="bag", separator=" ", max_len=3, min_count=10)
    return ColumnSpec(name=name, side=SIDES[name], min_count=10)


SPEC = DataSpec(dataset="kkbox_x1", labels=("label",), group="msno", user="msno", item="song_id",
                columns=tuple(_column(name) for name in SIDES))


def gather(raw: Path, scratch: Path, say: Say) -> Raw:
    """train/valid/test.csv as BARS publishes them, with countries and classes of ages."""
    splits = find_splits(raw, "KKBox_x1", MD5)
    if splits is None:
        raise InputError(f"{raw}: has no train.csv, valid.csv and test.csv; {BY_HAND}")
    read = ReadSpec(separator=",", null_values=MISSING)
    tables = {name: (path, table(path, ("label", *SIDES), read)) for name, path in splits.items()}
    return Raw(splits=write_all(tables, _fields(), scratch), note=compare(splits, MD5, say))


def _fields() -> list[pl.Expr]:
    import polars as pl
    age = pl.col("bd").cast(pl.Float64)
    known = (age >= 1) & (age <= 95)
    number = ((age / 10).ceil().clip(1, 7)).cast(pl.Int8)
    changed = {"isrc": pl.col("isrc").str.slice(0, 2), "bd": pl.when(known).then(number).alias("bd")}
    return [pl.col("label"), *(changed.get(name, pl.col(name)) for name in SIDES)]


BY_HAND = ("get KKBox_x1.zip from https://huggingface.co/datasets/reczoo/KKBox_x1 and unpack train.csv, "
           "valid.csv and test.csv into one folder")

RECIPE = Recipe(
    name="kkbox_x1", title="KKBox_x1 (BARS): songs heard again, 11 categorical columns and 2 lists",
    terms="no licence stated by its publisher RecZoo; the rules of the Kaggle competition of KKBox apply",
    by_hand=BY_HAND, sources=(), spec=SPEC, gather=gather,
    expected=Expected(rows={"train": 5_901_932, "valid": 737_743, "test": 737_743},
                      positives={"train": 2_971_724, "valid": 371_466, "test": 371_466}, table_size=92_245))
