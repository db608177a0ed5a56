"""MovieLens-1M as AutoInt reads it (Song et al., CIKM 2019): features only, no user id and no movie id."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from recsys_zoo.data.spec import ColumnSpec, DataSpec, LabelSpec, SplitSpec
from recsys_zoo.errors import InputError

from .recipe import Expected, Raw, Recipe, Say, Source, read_table

if TYPE_CHECKING:
    import polars as pl

SPEC = DataSpec(
    dataset="movielens_1m",
    labels=(LabelSpec(name="label", column="rating", above=3, drop_equal=True),),
    group="user",
    columns=(*(ColumnSpec(name=name, side="user") for name in ("gender", "age", "occupation", "zip")),
             ColumnSpec(name="year", side="item"),
             ColumnSpec(name="genres", kind="bag", side="item", separator="|")),
    split=SplitSpec(method="hash", keys=("user", "item"), salt="movielens_1m",
                    fractions={"train": 0.8, "valid": 0.1, "test": 0.1}))

_DAT = {"ratings": ("user", "item", "rating", "timestamp"), "movies": ("item", "title", "genres"),
        "users": ("user", "gender", "age", "occupation", "zip")}
_PARQUET = {"ratings": "interactions", "movies": "movies", "users": "users"}


def gather(raw: Path, scratch: Path, say: Say) -> Raw:
    """Ratings with the features of their user and movie, in the order of (user, movie), as one Parquet file.

    raw: ratings.dat, users.dat, movies.dat of GroupLens, or the same tables as Parquet.
    """
    tables = read_tables(raw, say)
    path = scratch / "ratings.parquet"
    _join(tables).write_parquet(path)
    return Raw(files=(path,))


def read_tables(raw: Path, say: Say, time: str = "") -> dict[str, pl.DataFrame]:
    """ratings, users and movies (with the year of the title), every rated movie and every user described.

    time: name of a column of ratings with each one's place in the user's time order, from 0.
    """
    import polars as pl
    dat = next((folder for folder in (raw, raw / "ml-1m") if (folder / "ratings.dat").is_file()), None)
    if dat is not None:
        tables = {name: _read_dat(dat / f"{name}.dat", columns) for name, columns in _DAT.items()}
    elif (raw / "interactions.parquet").is_file():
        more = {"ratings": ["seq"] * bool(time)}
        tables = {name: read_table(raw / f"{file}.parquet",
                                   [*(c for c in _DAT[name] if c != "timestamp"), *more.get(name, [])])
                  for name, file in _PARQUET.items()}
    else:
        raise InputError(f"{raw}: holds neither ratings.dat nor interactions.parquet; {BY_HAND}")
    say(f"{dat or raw}: no checksum published here for the single files; rows and positives are checked")
    if time:
        moment = pl.col("seq" if "seq" in tables["ratings"].columns else "timestamp").cast(pl.Int64)
        place = moment.rank("ordinal").over("user").cast(pl.Int64) - 1
        tables["ratings"] = tables["ratings"].with_columns(place.alias(time))
    year = pl.col("title").str.extract(r"\((\d{4})\)\s*$").alias("year")
    tables["movies"] = movies = tables["movies"].with_columns(year)
    untold = movies.filter(pl.col("year").is_null())
    if untold.height:
        raise InputError(f"{raw}: movies, item {untold['item'][0]}: the title {untold['title'][0]!r} "
                         f"does not end in (YYYY); {BY_HAND}")
    for key, table in (("user", tables["users"]), ("item", movies)):
        stranger = tables["ratings"].join(table, on=key, how="anti")
        if stranger.height:
            raise InputError(f"{raw}: the {key} {stranger[key][0]} was rated but is not described; {BY_HAND}")
    return tables


def _join(tables: dict[str, pl.DataFrame]) -> pl.DataFrame:
    import polars as pl
    joined = tables["ratings"]
    for key, table in (("user", tables["users"]), ("item", tables["movies"])):
        joined = joined.join(table, on=key, how="left", maintain_order="left")
    order = [pl.col("user").cast(pl.Int64), pl.col("item").cast(pl.Int64)]
    return joined.sort(order).select("user", "item", "rating", *(c.raw for c in SPEC.columns))


def read_ratings(path: Path) -> pl.DataFrame:
    """user, item, rating and timestamp of ratings.dat, as text."""
    return _read_dat(path, _DAT["ratings"])


def _read_dat(path: Path, columns: tuple[str, ...]) -> pl.DataFrame:
    import polars as pl
    if not path.is_file():
        raise InputError(f"{path}: no such file; {BY_HAND}")
    # Latin-1; lines end in \n alone or \r\n (str.splitlines would also cut at characters inside titles)
    text = path.read_bytes().decode("latin-1").replace("\r\n", "\n").removesuffix("\n")
    parts = pl.Series("parts", text.split("\n")).str.split("::")
    wrong = (parts.list.len() != len(columns)).arg_true()
    if len(wrong):
        raise InputError(f"{path}: row {wrong[0] + 1} has {parts.list.len()[wrong[0]]} fields instead of "
                         f"{len(columns)} ({'::'.join(columns)}); {BY_HAND}")
    return pl.DataFrame({name: parts.list.get(place) for place, name in enumerate(columns)})


BY_HAND = ("get ml-1m.zip from https://grouplens.org/datasets/movielens/1m and unpack ratings.dat, users.dat "
           "and movies.dat into one folder")

RECIPE = Recipe(
    name="movielens_1m", title="MovieLens-1M: ratings above 3 against below 3, from user and movie features",
    terms="research with acknowledgement (Harper and Konstan 2015), no redistribution, no commercial use "
          "without permission",
    by_hand=BY_HAND, spec=SPEC, gather=gather,
    sources=(Source(url="https://files.grouplens.org/datasets/movielens/ml-1m.zip", file="ml-1m.zip",
                    members=("ratings.dat", "users.dat", "movies.dat"),
                    md5="c4d9eecfca2ab87c1945afe126590906",
                    checksum_from="as stated by public projects that download it"),),
    expected=Expected(rows={"train": 590_848, "valid": 73_908, "test": 74_256},
                      positives={"train": 460_054, "valid": 57_418, "test": 57_809}, table_size=3_574))
