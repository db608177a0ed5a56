"""MovieLens-100K and -1M for rankings: ratings of 4 and 5 as interactions of users with five or more.

..._last: of every user the latest interaction is test, the one before it valid. movielens_100k_time: one
moment for everybody, the last tenth of the interactions is test and the tenth before it valid, so that models
know nothing of later days, and some users and movies are new.
Ratings of a user at one moment stand in the order of their movies' numbers.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from recsys_zoo.data.interactions import InteractionSpec
from recsys_zoo.data.spec import ColumnSpec, DataSpec, ReadSpec, SplitSpec
from recsys_zoo.errors import InputError

from . import movielens_1m
from .recipe import Expected, Raw, Recipe, Say, Source, read_table

if TYPE_CHECKING:
    import polars as pl

RATINGS, USERS, MOVIES = 100_000, 943, 1_682  # of MovieLens-100K, as GroupLens counts them
BY_HAND = ("get ml-100k.zip from https://grouplens.org/datasets/movielens/100k and unpack u.data into a "
           "folder")


def gather_100k(raw: Path, scratch: Path, say: Say) -> Raw:
    """user, item, rating and timestamp by user and moment, as one Parquet file.

    raw: u.data of GroupLens, or the same ratings as interactions.parquet.
    """
    folder = folder_100k(raw)
    if folder is not None:
        table = read_100k(folder / "u.data", ("user", "item", "rating", "timestamp"), "\t")
    elif (raw / "interactions.parquet").is_file():
        table = _columns(raw / "interactions.parquet", "timestamp")
    else:
        raise InputError(f"{raw}: has neither u.data nor interactions.parquet; {BY_HAND}")
    say(f"{raw}: no checksum is published for the single file; ratings, users and movies are counted")
    counts = (table.height, table["user"].n_unique(), table["item"].n_unique())
    if counts != (RATINGS, USERS, MOVIES):
        found, wanted = ("{:,} ratings, {:,} users, {:,} movies".format(*known)
                         for known in (counts, (RATINGS, USERS, MOVIES)))
        raise InputError(f"{raw}: {found} instead of {wanted}; {BY_HAND}")
    return _ordered(table, "timestamp", scratch)


def folder_100k(raw: Path) -> Path | None:
    """Where the files of GroupLens are, if they are."""
    return next((folder for folder in (raw, raw / "ml-100k") if (folder / "u.data").is_file()), None)


def read_100k(path: Path, names: tuple[str, ...], separator: str) -> pl.DataFrame:
    """The fields of a file of GroupLens as text; InputError for a row with more or fewer."""
    import polars as pl

    if not path.is_file():
        raise InputError(f"{path}: no such file; {BY_HAND}")
    text = path.read_bytes().decode("latin-1").split("\n")  # str.splitlines also cuts inside titles
    lines = pl.Series("line", text).str.strip_chars("\r")
    parts = lines.filter(lines != "").str.split(separator)
    wrong = (parts.list.len() != len(names)).arg_true()
    if len(wrong):
        raise InputError(f"{path}: row {wrong[0] + 1} has {parts.list.len()[wrong[0]]} fields instead of "
                         f"{len(names)} ({', '.join(names)}); {BY_HAND}")
    return pl.DataFrame({name: parts.list.get(place) for place, name in enumerate(names)})


def gather_1m(raw: Path, scratch: Path, say: Say) -> Raw:
    """user, item and rating by user and moment, as one Parquet file.

    raw: ratings.dat of GroupLens, or the same ratings with their places in the user's order (seq) as
    interactions.parquet.
    """
    dat = next((folder for folder in (raw, raw / "ml-1m") if (folder / "ratings.dat").is_file()), None)
    if dat is not None:
        table, moment = movielens_1m.read_ratings(dat / "ratings.dat"), "timestamp"
    elif (raw / "interactions.parquet").is_file():
        table, moment = _columns(raw / "interactions.parquet", "seq"), "seq"
    else:
        raise InputError(f"{raw}: holds neither ratings.dat nor interactions.parquet; {movielens_1m.BY_HAND}")
    say(f"{dat or raw}: no checksum published here for the single files; rows are counted")
    return _ordered(table, moment, scratch)


def _columns(path: Path, moment: str) -> pl.DataFrame:
    """user, item, rating and moment of a Parquet file, in which ids may be named user_id and item_id."""
    from recsys_zoo.data.read import column_names

    known = column_names(path, ReadSpec())
    named = [f"{side}_id" if f"{side}_id" in known else side for side in ("user", "item")]
    table = read_table(path, [*named, "rating", moment])
    return table.rename(dict(zip(named, ("user", "item"), strict=True)))


def _ordered(table: pl.DataFrame, moment: str, scratch: Path) -> Raw:
    import polars as pl

    keys = [pl.col(name).cast(pl.Int64) for name in ("user", moment, "item")]
    table.sort(keys).write_parquet(scratch / "ratings.parquet")
    return Raw(files=(scratch / "ratings.parquet",))


def _spec(name: str, split: SplitSpec, time: str = "") -> DataSpec:
    return DataSpec(
        dataset=name, user="user", item="item", split=split,
        interactions=InteractionSpec(rating="rating", above=3, user_core=5, time=time),
        columns=(ColumnSpec(name="user", side="user"), ColumnSpec(name="item", side="item")))


def _100k(name: str, split: SplitSpec, what: str, rows: dict[str, int]) -> Recipe:
    source = Source(url="https://files.grouplens.org/datasets/movielens/ml-100k.zip", file="ml-100k.zip",
                    members=("u.data",), md5="0e33842e24a9c977be4e0107933c0723",
                    checksum_from="as stated by public projects that download it")
    return Recipe(name=name, title=f"MovieLens-100K: ratings above 3 as interactions; held out: {what}",
                  terms=movielens_1m.RECIPE.terms, by_hand=BY_HAND, sources=(source,),
                  spec=_spec(name, split, "timestamp"), gather=gather_100k,
                  expected=Expected(rows=rows, positives={}))


RECIPES = (
    _100k("movielens_100k_last", SplitSpec(method="user", user="user", column="timestamp"),
          "the latest two movies of every user", {"train": 53_485, "valid": 938, "test": 938}),
    _100k("movielens_100k_time", SplitSpec(method="time", column="timestamp"),
          "the latest fifth of all", {"train": 44_289, "valid": 5_535, "test": 5_537}),
    Recipe(
        name="movielens_1m_last",
        title="MovieLens-1M: ratings above 3 as interactions; held out: the latest two movies of every user",
        terms=movielens_1m.RECIPE.terms, by_hand=movielens_1m.BY_HAND, sources=movielens_1m.RECIPE.sources,
        spec=_spec("movielens_1m_last", SplitSpec(method="user", user="user")), gather=gather_1m,
        expected=Expected(rows={"train": 563_204, "valid": 6_034, "test": 6_034}, positives={})),
)
