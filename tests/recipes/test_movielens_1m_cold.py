"""MovieLens-1M with new movies: small files of both raw layouts, and the real ones where they are."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from data_prep import RECIPES, Expected, Recipe, run_recipe
from recsys_zoo.data.content import ages, item_tokens, releases
from recsys_zoo.data.store import Prepared
from recsys_zoo.errors import InputError

from .test_movielens_1m import tables, write_dat


def positives() -> list[tuple[int, int, int]]:
    """User, movie and time of the ratings above 3."""
    return [(user, item, time) for user, item, rating, time in tables()["ratings"].iter_rows() if rating > 3]


def small() -> Recipe:
    rows = {"train+valid+test": len(positives())}
    return dataclasses.replace(RECIPES["movielens_1m_cold"], expected=Expected(rows, {}))


def write_parquet(folder: Path) -> Path:
    """As in the folder of real data: places in time in place of timestamps."""
    folder.mkdir()
    data = tables()
    data["users"].write_parquet(folder / "users.parquet")
    data["movies"].write_parquet(folder / "movies.parquet")
    ratings = data["ratings"].with_columns(seq=pl.col("timestamp").rank("ordinal").over("user") - 1)
    ratings.drop("timestamp").write_parquet(folder / "interactions.parquet")
    return folder


@pytest.fixture
def data(tmp_path) -> Prepared:
    return run_recipe(small(), write_dat(tmp_path / "raw", tables()), tmp_path / "out")


def texts(data: Prepared, column: str) -> dict[int, str]:
    frame = pl.read_parquet(data.folder / "encoding" / f"{column}.parquet")
    return dict(zip(frame["id"], frame["value"], strict=True))


def test_both_layouts_give_the_same_data(tmp_path, data):
    other = run_recipe(small(), write_parquet(tmp_path / "parquet"), tmp_path / "other")
    assert other.data_digest == data.data_digest


def test_no_movie_is_in_two_splits_and_every_liked_pair_is_somewhere(data):
    names = {column: texts(data, column) for column in ("user", "item")}
    found, items = set(), {}
    for split in data.names:
        pairs = data.split(split).ids.tolist()
        found |= {(int(names["user"][user]), int(names["item"][item])) for user, item in pairs}
        items[split] = {item for _, item in pairs}
    assert found == {pair[:2] for pair in positives()}
    assert not items["train"] & items["valid"]
    assert not (items["train"] | items["valid"]) & items["test"]


def test_movies_are_told_by_year_genres_and_words_of_their_titles(data):
    """Words that three training movies have; of the others a vocabulary knows nothing."""
    names, side, schema = texts(data, "item"), data.side("item"), data.schema.of_side("item")
    train = {int(names[i]) for i in data.split("train").ids[:, 1].tolist()}
    movies = {item: (title, genres) for item, title, genres in tables()["movies"].iter_rows()}
    words = {item: set(re.findall(r"[^\W_]+", title[:-7].lower())) for item, (title, _) in movies.items()}
    often = {w for own in words.values() for w in own if sum(w in words[item] for item in train) >= 3}
    years = {movies[item][0][-5:-1] for item in train}
    assert often == set(texts(data, "words").values())
    for row in range(2, len(side)):
        item = int(names[row])
        for column, expected in (("words", words[item] & often), ("genres", set(movies[item][1].split("|"))),
                                 ("year", {movies[item][0][-5:-1]} & years)):
            ids = np.atleast_1d(side.ids[row, schema.id_slices()[column]])
            assert {texts(data, column)[i] for i in ids.tolist() if i > 1} == expected
    assert item_tokens(data)[1] == sum(len(texts(data, column)) for column in ("year", "genres", "words"))


def test_ages_follow_the_time_of_the_ratings(data):
    lists, found = data.lists("train"), ages(data, "train")
    names = {column: texts(data, column) for column in ("user", "item")}
    times = {(user, item): time for user, item, time in positives()}
    pairs = [(int(names["user"][u + 2]), int(names["item"][i + 2]))
             for u, i in zip(*(part.tolist() for part in lists.pairs()), strict=True)]
    for pair, age in zip(pairs, found.tolist(), strict=True):
        assert age == sum(other[0] == pair[0] and times[other] > times[pair] for other in pairs)


def test_a_title_without_a_year_is_refused(tmp_path):
    given = tables()
    given["movies"] = given["movies"].with_columns(pl.col("title").str.replace(r"\(\d{4}\)$", ""))
    with pytest.raises(InputError, match=r"does not end in \(YYYY\)"):
        run_recipe(small(), write_dat(tmp_path / "raw", given), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_real_files(data_dir, tmp_path):
    """More than a tenth of the 3,533 movies with a rating above 3 is held out for test."""
    data = run_recipe(RECIPES["movielens_1m_cold"], data_dir("movielens_1m"), tmp_path / "out")
    counts = {name: len(data.lists(name).items.unique()) for name in data.names}
    assert sum(counts.values()) == data.schema.size("item") == 3_533
    assert 0.09 < counts["test"] / 3_533 < 0.11
    assert 0.09 < counts["valid"] / 3_533 < 0.11
    with pytest.raises(InputError, match=r"\d+% of the users begin in the first hundredth"):
        releases(data, "train")
