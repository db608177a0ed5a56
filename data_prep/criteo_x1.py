"""Criteo_x1: display advertisements of one week, scaled numbers and numbered values, split 7:2:1 for AFN.

The table size is the published 2,086,316 without 13: that figure counts the weight of each numeric column.
"""

from __future__ import annotations

from pathlib import Path

from recsys_zoo.data.spec import ColumnSpec, DataSpec

from .published import published
from .recipe import Expected, Raw, Recipe, Say

NUMBERS = tuple(f"I{n}" for n in range(1, 14))
CATEGORIES = tuple(f"C{n}" for n in range(1, 27))

SPEC = DataSpec(
    dataset="criteo_x1", labels=("label",),
    columns=(*(ColumnSpec(name=name, kind="numeric") for name in NUMBERS),
             *(ColumnSpec(name=name) for name in CATEGORIES)))

MD5 = {"train": "30b89c1c7213013b92df52ec44f52dc5", "valid": "f73c71fb3c4f66b6ebdfa032646bea72",
       "test": "2c48b26e84c04a69b948082edae46f8c"}


def gather(raw: Path, scratch: Path, say: Say) -> Raw:
    """train/valid/test.csv as BARS publishes them, each compared by MD5."""
    return published(raw, "Criteo_x1", MD5, BY_HAND, say)


BY_HAND = ("get Criteo_x1.zip from https://huggingface.co/datasets/reczoo/Criteo_x1 and unpack train.csv, "
           "valid.csv and test.csv into one folder")

RECIPE = Recipe(
    name="criteo_x1", title="Criteo_x1 (BARS): display advertisements, 13 numeric and 26 categorical columns",
    terms="no licence stated by its publisher RecZoo; the terms of Criteo's Display Advertising Challenge "
          "(Kaggle 2014) apply, non-commercial use",
    by_hand=BY_HAND, sources=(), spec=SPEC, gather=gather,
    expected=Expected(rows={"train": 33_003_326, "valid": 8_250_124, "test": 4_587_167},
                      positives={"train": 8_456_369, "valid": 2_114_300, "test": 1_174_769},
                      table_size=2_086_303))
