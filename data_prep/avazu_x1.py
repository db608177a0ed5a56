"""Avazu_x1: mobile advertisements of ten days, numbered values, split 7:1:2 for AFN.

Its page calls the split random, but the positive rates of the three files (17.50, 16.79, 15.25 %) lie over a
hundred standard errors apart and look like file order: validation and test disagree most here.
"""

from __future__ import annotations

from pathlib import Path

from recsys_zoo.data.spec import ColumnSpec, DataSpec

from .published import published
from .recipe import Expected, Raw, Recipe, Say

SPEC = DataSpec(dataset="avazu_x1", labels=("label",),
                columns=tuple(ColumnSpec(name=f"feat_{n}") for n in range(1, 23)))

MD5 = {"train": "f1114a07aea9e996842c71648e0f6395", "valid": "d9568f246357d156c4b8030fadb8b623",
       "test": "9e2fe9c48705c9315ae7a0953eb57acf"}


def gather(raw: Path, scratch: Path, say: Say) -> Raw:
    """train/valid/test.csv as BARS publishes them, each compared by MD5."""
    return published(raw, "Avazu_x1", MD5, BY_HAND, say)


BY_HAND = ("get Avazu_x1.zip from https://huggingface.co/datasets/reczoo/Avazu_x1 and unpack train.csv, "
           "valid.csv and test.csv into one folder")

RECIPE = Recipe(
    name="avazu_x1", title="Avazu_x1 (BARS): mobile advertisements, 22 categorical columns",
    terms="no licence stated by its publisher RecZoo; the rules of the Kaggle competition of Avazu apply "
          "(use for the competition and non-commercial research)",
    by_hand=BY_HAND, sources=(), spec=SPEC, gather=gather,
    expected=Expected(rows={"train": 28_300_276, "valid": 4_042_897, "test": 8_085_794},
                      positives={"train": 4_953_382, "valid": 678_699, "test": 1_232_985},
                      table_size=1_298_599))
