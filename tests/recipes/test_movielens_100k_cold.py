"""MovieLens-100K with new movies: small files of both raw layouts, and the real ones where they are."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from data_prep import RECIPES, Expected, Recipe, movielens_rankings, run_recipe
from data_prep.movielens_100k_cold import _GENRES
from recsys_zoo.data.content import releases
from recsys_zoo.data.store import Prepared
from recsys_zoo.errors import InputError

USERS, MOVIES = 25, 40
DRAW = np.random.default_rng(0)
RATINGS = [(user, movie, int(DRAW.integers(2, 6)), 874_000_000 + int(DRAW.integers(0, 9_000_000)))
           for user in range(1, USERS + 1) for movie in range(1, MOVIES + 1) if DRAW.random() < 0.4]
AGES = {user: int(DRAW.integers(15, 70)) for user in range(1, USERS + 1)}
TITLES = {movie: ("Toy Pink Story", "Big Toy (Jouet, Le)", "Café au Lait 2000")[movie % 3]
          for movie in range(1, MOVIES + 1)}
KINDS = {movie: [name for name in _GENRES if DRAW.random() < 0.2] or ["Drama"] for movie in TITLES}
YEARS = {movie: str(1990 + movie % 4) for movie in TITLES}


@pytest.fixture(params=["movielens_100k_cold", "movielens_100k_release"])
def small(monkeypatch, request) -> Recipe:
    for word, count in (("RATINGS", len(RATINGS)), ("USERS", USERS), ("MOVIES", MOVIES)):
        monkeypatch.setattr(movielens_rankings, word, count)
    rows = {"train+valid+test": sum(rating > 3 for *_, rating, _ in RATINGS)}
    return dataclasses.replace(RECIPES[request.param], expected=Expected(rows, {}))


def title(movie: int) -> str:
    """The first has no title, of the second more stands behind the year."""
    return {1: "unknown", 2: f"{TITLES[2]} ({YEARS[2]}) (V)"}.get(movie, f"{TITLES[movie]} ({YEARS[movie]})")


def dat(folder: Path) -> Path:
    folder.mkdir()
    (folder / "u.data").write_text("".join("\t".join(map(str, row)) + "\n" for row in RATINGS))
    (folder / "u.user").write_text("".join(f"{user}|{age}|F|writer|85711\n" for user, age in AGES.items()))
    lines = ["|".join([str(movie), title(movie), "01-Jan-1995", "", "http://a",
                       *(str(int(name in KINDS[movie])) for name in _GENRES)]) for movie in TITLES]
    (folder / "u.item").write_bytes(("\n".join(lines) + "\n").encode("latin-1"))
    return folder


def parquet(folder: Path) -> Path:
    folder.mkdir()
    names = ["user_id", "item_id", "rating", "timestamp"]
    pl.DataFrame(RATINGS, schema=names, orient="row").write_parquet(folder / "interactions.parquet")
    pl.DataFrame({"user_id": list(AGES), "age": [str(age) for age in AGES.values()], "gender": "F",
                  "occupation": "writer"}).write_parquet(folder / "users.parquet")
    apart = {movie: (TITLES[movie], YEARS[movie]) for movie in TITLES}
    apart |= {1: ("unkonwn", "unkonwn"), 2: (f"{TITLES[2]} ({YEARS[2]})", "V")}
    movies = pl.DataFrame({"item_id": list(TITLES), "movie_title": [a for a, _ in apart.values()],
                           "release_year": [b for _, b in apart.values()],
                           "class": [" ".join(KINDS[movie]) for movie in TITLES]})
    movies.write_parquet(folder / "items.parquet")
    return folder


def texts(data: Prepared, column: str) -> dict[int, str]:
    frame = pl.read_parquet(data.folder / "encoding" / f"{column}.parquet")
    return dict(frame.select("id", "value").rows())


def told(data: Prepared, column: str) -> dict[str, set[str]]:
    """What a column says of each movie."""
    names, values, ids = texts(data, "item"), texts(data, column), data.side("item").ids
    place = data.schema.of_side("item").id_slices()[column]
    return {names[row]: {values[i] for i in ids[row, place].tolist() if i > 1} for row in names}


def test_both_layouts_give_the_same_data(small, tmp_path):
    one = run_recipe(small, dat(tmp_path / "dat"), tmp_path / "one")
    other = run_recipe(small, parquet(tmp_path / "parquet"), tmp_path / "other")
    assert one.data_digest == other.data_digest


def test_movies_are_told_by_what_the_files_say(small, tmp_path):
    data = run_recipe(small, dat(tmp_path / "dat"), tmp_path / "out")
    known = {name: set().union(*told(data, name).values()) for name in ("year", "genres", "words")}
    assert {"toy", "jouet", "café", "2000"} <= known["words"]
    for movie, years in told(data, "year").items():
        number = int(movie)
        assert years == ({YEARS[number]} & known["year"] if number > 1 else set())
        assert told(data, "genres")[movie] == set(KINDS[number]) & known["genres"]
        if number > 1:
            words = set(TITLES[number].lower().replace("(", "").replace(")", "").replace(",", "").split())
            assert told(data, "words")[movie] == words & known["words"]


def test_no_movie_is_in_two_splits_and_moments_are_those_of_the_ratings(small, tmp_path):
    data = run_recipe(small, dat(tmp_path / "dat"), tmp_path / "out")
    users, items = texts(data, "user"), texts(data, "item")
    found, seen = set(), []
    for name in data.names:
        split = data.split(name)
        seen.append({item for _, item in split.ids.tolist()})
        found |= {(int(users[u]), int(items[i]), int(t))
                  for (u, i), t in zip(split.ids.tolist(), split.time.tolist(), strict=True)}
    assert found == {(user, movie, time) for user, movie, rating, time in RATINGS if rating > 3}
    assert sum(map(len, seen)) == len(set().union(*seen))
    assert bool((releases(data, "train")[0] >= 874_000_000).all())
    first = {movie: min(time for _, item, rating, time in RATINGS if item == movie and rating > 3)
             for movie in {movie for _, movie, rating, _ in RATINGS if rating > 3}}
    ranges = [sorted(first[int(items[i])] for i in own) for own in seen]
    ordered = all(one[-1] < other[0] for one, other in itertools.pairwise(ranges))
    assert ordered == (small.name == "movielens_100k_release")


def test_a_short_row_and_a_missing_file_are_named(small, tmp_path):
    raw = dat(tmp_path / "dat")
    (raw / "u.user").write_text("1|24|M\n")
    with pytest.raises(InputError, match=r"u.user: row 1 has 3 fields instead of 5 \(user, age, gender"):
        run_recipe(small, raw, tmp_path / "out")
    (raw / "u.user").unlink()
    with pytest.raises(InputError, match=r"u\.user: no such file; get ml-100k\.zip"):
        run_recipe(small, raw, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_real_files(data_dir, tmp_path):
    data = run_recipe(RECIPES["movielens_100k_cold"], data_dir("ml-100k"), tmp_path / "out")
    assert data.schema.size("user") == 942  # one user has no rating above 3
    assert told(data, "year")["1"] == {"1995"}
    assert told(data, "genres")["1"] == {"Animation", "Children's", "Comedy"}
    assert told(data, "words")["1"] == {"story"}  # no three movies of training have a toy in their title
    assert told(data, "year")["267"] == told(data, "words")["267"] == set()  # the movie without a title
    moment, first = releases(data, "train")
    assert 874e6 < float(moment.min()) < float(moment.max()) < 894e6
    assert float(moment.min()) == float(first.min())
