"""Coat: chosen ratings for training, ratings of randomly shown coats for test (Schnabel et al., 2016).

As interactions: a rating of 4 or 5 is a positive (in coat_3 one of 3 too). A tenth of the training positives
is validation (by a hash of the pair). The test keeps all 16 coats that each user was shown: the positives in
`test`, the others in `test_rejected`, so that models can be compared on what was judged, which no choice of
the user has selected.
Attributes of users and coats are not read: benchmarks/schemas/coat.toml has them, for click models.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from recsys_zoo.data.interactions import InteractionSpec
from recsys_zoo.data.spec import ColumnSpec, DataSpec, SplitSpec
from recsys_zoo.data.splitspec import rejected_of
from recsys_zoo.errors import InputError

from .item_lists import cut_valid
from .recipe import Expected, Raw, Recipe, Say

if TYPE_CHECKING:
    import polars as pl

USERS, ITEMS = 290, 300
SHOWN = 4_640  # ratings of the test, 16 of each user
REJECTED = rejected_of("test")
SPLITS = ("train", "valid", "test", REJECTED)

BY_HAND = ("get coat.zip from https://www.cs.cornell.edu/~schnabts/mnar/ and unpack train.ascii and "
           "test.ascii into one folder")


def _gather(positive: int) -> Callable[[Path, Path, Say], Raw]:
    def gather(raw: Path, scratch: Path, say: Say) -> Raw:
        """The pairs with their splits as one Parquet file; positives are the ratings from `positive` on.

        raw: train.ascii and test.ascii (290 lines of 300 ratings, 0 for none), or the same as Parquet tables
        of user, item and rating.
        """
        import polars as pl

        ratings = {split: _read(raw, split) for split in ("train", "test")}
        say(f"{raw}: no checksum is published; the number of ratings and of positives is checked")
        good = pl.col("rating") >= positive
        parts = cut_valid(ratings["train"].filter(good), "coat")
        parts |= {"test": ratings["test"].filter(good), REJECTED: ratings["test"].filter(~good)}
        frames = [frame.select("user", "item", split=pl.lit(name)) for name, frame in parts.items()]
        pl.concat(frames).write_parquet(scratch / "pairs.parquet")
        return Raw(files=(scratch / "pairs.parquet",))

    return gather


def _read(raw: Path, split: str) -> pl.DataFrame:
    """user, item and rating, int64; InputError for what is no matrix of 290 x 300 ratings."""
    import numpy as np
    import polars as pl

    path = next((p for folder in (raw, raw / "coat") for suffix in ("ascii", "parquet")
                 if (p := folder / f"{split}.{suffix}").is_file()), None)
    if path is None:
        raise InputError(f"{raw}: has neither {split}.ascii nor {split}.parquet; {BY_HAND}")
    try:
        if path.suffix == ".parquet":
            return pl.read_parquet(path).select(pl.col("user", "item", "rating").cast(pl.Int64))
        matrix = np.array([line.split() for line in path.read_text(encoding="ascii").splitlines()], np.int64)
    except (ValueError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path}: not ratings of users and items ({error}); {BY_HAND}") from None
    if matrix.shape != (USERS, ITEMS):
        raise InputError(f"{path}: has the shape {matrix.shape} instead of {(USERS, ITEMS)}; {BY_HAND}")
    user, item = matrix.nonzero()
    return pl.DataFrame({"user": user, "item": item, "rating": matrix[user, item]})


def _recipe(name: str, positive: int, train: int, test: int) -> Recipe:
    spec = DataSpec(
        dataset=name, user="user", item="item",
        interactions=InteractionSpec(repeats="keep"),  # some of the chosen coats were shown too
        columns=(ColumnSpec(name="user", side="user"), ColumnSpec(name="item", side="item")),
        split=SplitSpec(method="column", column="split", names={split: split for split in SPLITS}))
    return Recipe(
        name=name, title=f"Coat: chosen ratings for training, those of randomly shown coats for test, from "
                         f"{positive} on positive",
        terms="offered for research by Schnabel, Swaminathan, Singh, Chandak, Joachims; no licence stated",
        by_hand=BY_HAND, sources=(), spec=spec, gather=_gather(positive),
        expected=Expected(rows={"train+valid": train, "test": test, REJECTED: SHOWN - test}, positives={},
                          table_size=USERS + 1 + ITEMS + 1))


RECIPES = (_recipe("coat", 4, 1_905, 860), _recipe("coat_3", 3, 3_622, 1_862))
