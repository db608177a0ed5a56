"""Frappe_x1: app usage in context, in the split of the BARS benchmark."""

from __future__ import annotations

import hashlib
from pathlib import Path

from recsys_zoo.data.spec import ColumnSpec, DataSpec
from recsys_zoo.errors import InputError

from .published import compare
from .recipe import Expected, Raw, Recipe, Say, read_table

FIELDS = ("user", "item", "daytime", "weekday", "isweekend", "homework", "cost", "weather", "country", "city")

SPEC = DataSpec(
    dataset="frappe_x1", labels=("label",), group="user", user="user", item="item",
    # cost describes the app of the log, but a sampled negative keeps it with the rest of the context
    columns=tuple(ColumnSpec(name=n, side=n if n in ("user", "item") else "context") for n in FIELDS))

MD5 = {"train": "ba7306e6c4fc19dd2cd84f2f0596d158", "valid": "88d51bf2173505436d3a8f78f2a59da8",
       "test": "3470f6d32713dc5f7715f198ca7c612a"}  # of train.csv, valid.csv, test.csv as BARS publishes them

_REDRAWN = "train_resampled_negatives.parquet"


def gather(raw: Path, scratch: Path, say: Say) -> Raw:
    """train/valid/test.csv as BARS publishes them, else the same columns as Parquet; each compared by MD5."""
    splits = _find(raw)
    redrawn = splits["train"].name == _REDRAWN
    known = {"train": "train negatives re-drawn"} if redrawn else {}
    return Raw(splits=splits, note=compare(splits, MD5, say, csv_md5, known))


def _find(raw: Path) -> dict[str, Path]:
    layouts = [{name: folder / f"{name}.csv" for name in MD5} for folder in (raw, raw / "Frappe_x1")]
    layouts += [{"train": raw / train, "valid": raw / "valid.parquet", "test": raw / "test.parquet"}
                for train in ("train.parquet", _REDRAWN)]
    for layout in layouts:
        if all(path.is_file() for path in layout.values()):
            return layout
    raise InputError(f"{raw}: has no train.csv, valid.csv and test.csv and no such Parquet; {BY_HAND}")


def csv_md5(path: Path) -> str:
    """MD5 of the rows in the form BARS publishes them: header, commas, CRLF; whatever file holds them."""
    import polars as pl
    names = ["label", *FIELDS]
    lines = read_table(path, names).select(pl.concat_str(names, separator=",")).to_series()
    if lines.null_count():
        raise InputError(f"{path}: row {lines.is_null().arg_true()[0] + 1} has an empty field; {BY_HAND}")
    text = "\r\n".join([",".join(names), *lines, ""])
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


BY_HAND = ("get Frappe_x1.zip from https://huggingface.co/datasets/reczoo/Frappe_x1 and unpack train.csv, "
           "valid.csv and test.csv into one folder")

RECIPE = Recipe(
    name="frappe_x1", title="Frappe_x1 (BARS): app usage in context, 10 categorical columns",
    terms="research only, no redistribution, no commercial use without permission; cite Baltrunas et al. "
          "(2015), arXiv:1505.03014",
    by_hand=BY_HAND, sources=(), spec=SPEC, gather=gather,
    expected=Expected(rows={"train": 202_027, "valid": 57_722, "test": 28_860},
                      positives={"train": 67_604, "valid": 19_063, "test": 9_536}, table_size=5_389))
