"""MovieLens-1M with new movies: ratings above 3 are interactions; a tenth of the movies is held out for
validation and another one for test. Movies are described by year, genres and the words of their title."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from recsys_zoo.data.interactions import InteractionSpec
from recsys_zoo.data.spec import ColumnSpec, DataSpec, SplitSpec, TableSpec

from .movielens_1m import BY_HAND, read_tables
from .movielens_1m import RECIPE as RATINGS
from .recipe import Expected, Raw, Recipe, Say

if TYPE_CHECKING:
    import polars as pl

_USERS = ("gender", "age", "occupation")
MOVIES = ("year", "genres", "words")


def cold_spec(dataset: str, time: str, users: tuple[ColumnSpec, ...]) -> DataSpec:
    """Of ratings, users.parquet and movies.parquet; a tenth of the movies is valid's, another test's."""
    return DataSpec(
        dataset=dataset, user="user", item="item",
        interactions=InteractionSpec(rating="rating", above=3, time=time),
        columns=(ColumnSpec(name="user", side="user"), ColumnSpec(name="item", side="item"), *users,
                 ColumnSpec(name="year", side="item"), ColumnSpec(name="genres", kind="bag", side="item"),
                 ColumnSpec(name="words", kind="bag", side="item", min_count=3)),
        split=SplitSpec(method="hash", keys=("item",), salt=dataset,
                        fractions={"train": 0.8, "valid": 0.1, "test": 0.1}),
        tables=(TableSpec(files=("users.parquet",), key="user", columns=tuple(c.name for c in users)),
                TableSpec(files=("movies.parquet",), key="item", columns=MOVIES)))


SPEC = cold_spec("movielens_1m_cold", "place", tuple(ColumnSpec(name=n, side="user") for n in _USERS))


def gather(raw: Path, scratch: Path, say: Say) -> Raw:
    """Ratings with their place in the time order of the user, and tables of users and movies.

    raw: as of movielens_1m.
    """
    import polars as pl

    tables = read_tables(raw, say, "place")
    number = pl.col("user", "item").cast(pl.Int64)
    ratings = tables["ratings"].sort(number).select("user", "item", pl.col("rating").cast(pl.Int64), "place")
    ratings.write_parquet(scratch / "pairs.parquet")
    tables["users"].select("user", *_USERS).write_parquet(scratch / "users.parquet")
    movies = tables["movies"].with_columns(title_words(r"\s*\(\d{4}\)\s*$")).select("item", *MOVIES)
    movies.write_parquet(scratch / "movies.parquet")
    return Raw(files=(scratch / "pairs.parquet",), tables_from=scratch)


def title_words(end: str) -> pl.Expr:
    """The different runs of letters and digits of `title`, in small letters, without its end; as "words"."""
    import polars as pl

    title = pl.col("title").str.replace(end, "").str.to_lowercase()
    words = title.str.extract_all(r"[\p{L}\p{N}]+").list.unique(maintain_order=True)
    return words.list.join("|").alias("words")


RECIPE = Recipe(
    name="movielens_1m_cold", title="MovieLens-1M: ratings above 3; held out: movies in no training row",
    terms=RATINGS.terms, by_hand=BY_HAND, spec=SPEC, gather=gather, sources=RATINGS.sources,
    expected=Expected(rows={"train+valid+test": 575_281}, positives={}))
