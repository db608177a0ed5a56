"""MovieLens-100K with new movies, and with real moments: ratings above 3 are interactions; a tenth of the
movies is held out for validation and another one for test, drawn by a hash, or the newest by their first
rating. Movies are described as in MovieLens-1M's."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from recsys_zoo.data.spec import ColumnSpec, SplitSpec

from .movielens_1m_cold import MOVIES, cold_spec, title_words
from .movielens_rankings import RECIPES, folder_100k, gather_100k, read_100k
from .recipe import Expected, Raw, Recipe, Say, read_table

if TYPE_CHECKING:
    import polars as pl

_USERS = ("age", "gender", "occupation")
_GENRES = ("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary",
           "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller",
           "War", "Western")  # in the order of the flags in u.item
_ITEM = ("item", "title", "released", "video", "url", *_GENRES)
BY_HAND = ("get ml-100k.zip from https://grouplens.org/datasets/movielens/100k and unpack u.data, u.item and "
           "u.user into a folder")

SPEC = cold_spec("movielens_100k_cold", "timestamp", (
    ColumnSpec(name="age", side="user", rule="quantile", bins=7),
    *(ColumnSpec(name=name, side="user") for name in _USERS[1:])))
RELEASE = SPEC.model_copy(update={"dataset": "movielens_100k_release", "split": SplitSpec(
    method="release", keys=("item",), column="timestamp", fractions=SPEC.split.fractions)})


def gather(raw: Path, scratch: Path, say: Say) -> Raw:
    """Ratings with their moments, and tables of users and movies.

    raw: u.data, u.item and u.user of GroupLens, or the same as interactions.parquet, items.parquet (title,
    year and genres apart) and users.parquet.
    """
    import polars as pl

    pairs = gather_100k(raw, scratch, say)
    folder = folder_100k(raw)
    if folder is not None:
        users = read_100k(folder / "u.user", ("user", "age", "gender", "occupation", "zip"), "|")
        movies = read_100k(folder / "u.item", _ITEM, "|").with_columns(genres=_named())
    else:
        users = read_table(raw / "users.parquet", ["user_id", *_USERS]).rename({"user_id": "user"})
        movies = read_table(raw / "items.parquet", ["item_id", "movie_title", "release_year", "class"])
        title = pl.format("{} ({})", "movie_title", "release_year")
        movies = movies.select(item="item_id", title=title, genres=pl.col("class").str.replace_all(" ", "|"))
    # The year ends a title, but for one movie, of which "(V)" stands behind it, and one that has no title.
    year = pl.col("title").str.extract(r"\((\d{4})\)(?:\s*\(V\))?\s*$").alias("year")
    movies = movies.with_columns(year, title_words(r"\s*\((?:\d{4}|unkonwn)\)(?:\s*\(V\))?\s*$"))
    users.select("user", *_USERS).write_parquet(scratch / "users.parquet")
    movies.select("item", *MOVIES).write_parquet(scratch / "movies.parquet")
    return dataclasses.replace(pairs, tables_from=scratch)


def _named() -> pl.Expr:
    """The genres whose flags are 1."""
    import polars as pl

    flags = [pl.when(pl.col(name) == "1").then(pl.lit(name)) for name in _GENRES]
    return pl.concat_list(flags).list.drop_nulls().list.join("|")


_SOURCES = tuple(dataclasses.replace(source, members=("u.data", "u.item", "u.user"))
                 for source in RECIPES[0].sources)
COLD = tuple(Recipe(
    name=spec.dataset, title=f"MovieLens-100K: ratings above 3; held out: {what}", terms=RECIPES[0].terms,
    by_hand=BY_HAND, spec=spec, gather=gather, sources=_SOURCES,
    expected=Expected(rows={"train+valid+test": 55_375}, positives={}))
    for spec, what in ((SPEC, "movies in no training row"), (RELEASE, "the movies that came last")))
