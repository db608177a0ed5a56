"""Adult (census income 1994): two labels of one person, income above 50K and never married.

Marital status is a label and therefore no input; relationship, which tells most of it, stays an input, so the
second label is easy. The official test rows are the test split; a tenth of the official training rows, chosen
by a hash of the row number, is the validation split.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from recsys_zoo.data.spec import ColumnSpec, DataSpec
from recsys_zoo.errors import InputError

from .recipe import Expected, Raw, Recipe, Say, read_table

if TYPE_CHECKING:
    import polars as pl

FIELDS = ("age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation",
          "relationship", "race", "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country",
          "income")
NUMBERS = ("age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week")


def _column(source: str) -> ColumnSpec:
    name = source.replace("-", "_")
    if source in NUMBERS:
        return ColumnSpec(name=name, source=source, kind="numeric", side="user", rule="standardise")
    return ColumnSpec(name=name, source=source, side="user")


SPEC = DataSpec(dataset="adult", labels=("income_above_50k", "never_married"),
                columns=tuple(_column(name) for name in FIELDS if name not in ("marital-status", "income")))


def gather(raw: Path, scratch: Path, say: Say) -> Raw:
    """adult.data and adult.test as UCI has them, or train.parquet and test.parquet with named columns."""
    import numpy as np
    import polars as pl

    from recsys_zoo.data.split import by_fractions, hash_unit
    texts, tables = (raw / "adult.data", raw / "adult.test"), (raw / "train.parquet", raw / "test.parquet")
    files = next((pair for pair in (texts, tables) if all(path.is_file() for path in pair)), None)
    if files is None:
        raise InputError(f"{raw}: holds neither adult.data and adult.test nor train.parquet and "
                         f"test.parquet; {BY_HAND}")
    say(f"{raw}: no checksum published here; rows, positives and table size are checked")
    train, test = (_labelled(_read(path), path) for path in files)
    unit = hash_unit([np.arange(train.height).astype(str)], salt="adult")
    split = pl.Series(by_fractions(unit, {"train": 0.9, "valid": 0.1}))
    splits = {"train": train.filter(split == "train"), "valid": train.filter(split == "valid"), "test": test}
    for name, frame in splits.items():
        frame.write_parquet(scratch / f"{name}.parquet")
    return Raw(splits={name: scratch / f"{name}.parquet" for name in splits})


def _read(path: Path) -> pl.DataFrame:
    import polars as pl
    if path.suffix == ".parquet":
        return read_table(path, FIELDS)
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [(number, line.split(",")) for number, line in enumerate(lines, start=1)
            if line.strip() and not line.startswith("|")]  # adult.test begins with a remark
    wrong = next(((number, row) for number, row in rows if len(row) != len(FIELDS)), None)
    if wrong:
        raise InputError(f"{path}, line {wrong[0]}: has {len(wrong[1])} fields instead of {len(FIELDS)}; "
                         f"{BY_HAND}")
    frame = pl.DataFrame([row for _, row in rows], schema=dict.fromkeys(FIELDS, pl.String), orient="row")
    return frame.with_columns(pl.all().str.strip_chars()).with_columns(pl.all().replace("?", None))


def _labelled(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    import polars as pl
    income = frame["income"].str.strip_suffix(".")  # adult.test ends its lines in a full stop
    known = income.is_in([">50K", "<=50K"]).fill_null(False) & frame["marital-status"].is_not_null()
    strange = frame.filter(~known)
    if strange.height:
        raise InputError(f"{path}: a row has income {strange['income'][0]!r} and marital status "
                         f"{strange['marital-status'][0]!r}, which give no labels; {BY_HAND}")
    single = pl.col("marital-status") == "Never-married"
    return frame.with_columns((income == ">50K").cast(pl.Int8).alias("income_above_50k"),
                              single.cast(pl.Int8).alias("never_married"))


BY_HAND = ("get adult.data and adult.test of the data set Adult from the UCI Machine Learning Repository, "
           "https://archive.ics.uci.edu/ml/machine-learning-databases/adult, into one folder")

RECIPE = Recipe(
    name="adult", title="Adult (UCI): income and marital status from census data, 7 categories and 6 numbers",
    terms="CC BY 4.0; cite Becker and Kohavi (1996)",
    by_hand=BY_HAND, sources=(), spec=SPEC, gather=gather,
    # positives are those of both labels together
    expected=Expected(rows={"train": 29_319, "valid": 3_242, "test": 16_281},
                      positives={"train": 16_664, "valid": 1_860, "test": 9_280}, table_size=99))
