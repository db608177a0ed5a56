"""MovielensLatest_x1: which tags users give to movies, with sampled negatives, split 7:2:1 for AFN.

The data set's page prints 401,373 validation rows; its total and the published logs say 401,372, as here.
"""

from __future__ import annotations

from pathlib import Path

from recsys_zoo.data.spec import ColumnSpec, DataSpec

from .published import published
from .recipe import Expected, Raw, Recipe, Say

SPEC = DataSpec(
    dataset="movielenslatest_x1", labels=("label",), group="user_id", user="user_id", item="item_id",
    columns=(ColumnSpec(name="user_id", side="user"), ColumnSpec(name="item_id", side="item"),
             ColumnSpec(name="tag_id")))

MD5 = {"train": "efc8bceeaa0e895d566470fc99f3f271", "valid": "e1930223a5026e910ed5a48687de8af1",
       "test": "54e8c6baff2e059fe067fb9b69e692d0"}


def gather(raw: Path, scratch: Path, say: Say) -> Raw:
    """train/valid/test.csv as BARS publishes them, each compared by MD5."""
    return published(raw, "MovielensLatest_x1", MD5, BY_HAND, say)


BY_HAND = ("get MovielensLatest_x1.zip from https://huggingface.co/datasets/reczoo/MovielensLatest_x1 and "
           "unpack train.csv, valid.csv and test.csv into one folder")

RECIPE = Recipe(
    name="movielenslatest_x1", title="MovielensLatest_x1 (BARS): tags of movies, user, item and tag",
    terms="no licence stated by its publisher RecZoo; the terms of GroupLens for MovieLens apply",
    by_hand=BY_HAND, sources=(), spec=SPEC, gather=gather,
    expected=Expected(rows={"train": 1_404_801, "valid": 401_372, "test": 200_686},
                      positives={"train": 467_878, "valid": 134_225, "test": 66_850}, table_size=90_239))
