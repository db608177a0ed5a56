"""MovieLens-1M as AutoInt reads it: small files of both raw layouts, and the real ones where they are."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from data_prep import RECIPES, Expected, Recipe, run, run_recipe
from recsys_zoo.data.encode import Encoder
from recsys_zoo.data.store import Prepared
from recsys_zoo.errors import InputError

COLUMNS = ["gender", "age", "occupation", "zip", "year", "genres"]
USERS, MOVIES = 40, 25


def tables() -> dict[str, pl.DataFrame]:
    """Users, movies and ratings of the form GroupLens has; one movie is never rated."""
    rng = np.random.default_rng(1)
    users = pl.DataFrame({
        "user": range(1, USERS + 1), "gender": rng.choice(["F", "M"], USERS),
        "age": rng.choice([1, 18, 25], USERS), "occupation": rng.integers(0, 5, USERS),
        "zip": [f"{n:05d}" for n in rng.integers(0, 12, USERS)]})
    kinds = ["Action", "Children's", "Film-Noir", "Sci-Fi"]
    titles = [f"Café {n}\x85, The (Le {n}) ({1990 + n % 7})" for n in range(MOVIES)]
    movies = pl.DataFrame({"item": range(1, MOVIES + 1), "title": titles,
                           "genres": ["|".join(kinds[:1 + n % 4]) for n in range(MOVIES)]})
    pairs = rng.permutation(USERS * (MOVIES - 1))[:700]
    ratings = pl.DataFrame({
        "user": pairs // (MOVIES - 1) + 1, "item": pairs % (MOVIES - 1) + 1,
        "rating": rng.integers(1, 6, 700), "timestamp": rng.integers(10**9, 2 * 10**9, 700)})
    return {"users": users, "movies": movies, "ratings": ratings}


def write_dat(folder: Path, data: dict[str, pl.DataFrame], end: str = "\n") -> Path:
    folder.mkdir(parents=True)
    for name, frame in data.items():
        lines = ["::".join(map(str, row)) for row in frame.iter_rows()]
        (folder / f"{name}.dat").write_bytes("".join(line + end for line in lines).encode("latin-1"))
    return folder


def write_parquet(folder: Path, data: dict[str, pl.DataFrame]) -> Path:
    """As in the folder of real data: no timestamps, small integers, another order of the rows."""
    folder.mkdir()
    data["users"].cast({"age": pl.Int8}).write_parquet(folder / "users.parquet")
    data["movies"].write_parquet(folder / "movies.parquet")
    ratings = data["ratings"].drop("timestamp").cast({"user": pl.Int16, "rating": pl.Int8})
    ratings.sample(fraction=1, shuffle=True, seed=0).write_parquet(folder / "interactions.parquet")
    return folder


def split_by_definition(user: int, item: int) -> str:
    """The split of a (user, movie) pair, from the definition of the hash, one byte at a time."""
    state = 0xCBF29CE484222325
    for byte in f"movielens_1m\x1f{user}\x1f{item}\x1f".encode():
        state = (state ^ byte) * 0x100000001B3 % 2**64
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    state = (state ^ state >> 27) * 0x94D049BB133111EB % 2**64
    state ^= state >> 31
    unit = (state >> 11) / 2**53
    return "train" if unit < 0.8 else "valid" if unit < 0.9 else "test"


def expected_rows(data: dict[str, pl.DataFrame]) -> dict[str, list[tuple]]:
    """(label, gender, ..., genres) of each split in the order of user and movie, by plain loops."""
    users = {row[0]: row[1:] for row in data["users"].iter_rows()}
    movies = {row[0]: (row[1][-5:-1], row[2]) for row in data["movies"].iter_rows()}
    found: dict[str, list[tuple]] = {"train": [], "valid": [], "test": []}
    for user, item, rating, _ in sorted(data["ratings"].iter_rows()):
        if rating != 3:
            split = split_by_definition(user, item)
            found[split].append((int(rating > 3), *map(str, users[user]), *movies[item], user))
    return found


def small_recipe() -> Recipe:
    """The recipe with the counts of the small files."""
    rows = expected_rows(tables())
    values = sum(len({row[place] for row in rows["train"]}) for place in range(1, 6))
    values += len({genre for row in rows["train"] for genre in row[6].split("|")})
    expected = Expected({name: len(found) for name, found in rows.items()},
                        {name: sum(row[0] for row in found) for name, found in rows.items()}, values + 6)
    return dataclasses.replace(RECIPES["movielens_1m"], expected=expected)


@pytest.fixture
def small() -> Recipe:
    return small_recipe()


def check_content(data: Prepared, rows: dict[str, list[tuple]]) -> None:
    """Every row of every split, read back from the ids."""
    encoder = Encoder.open(data.folder / "encoding")
    places = data.schema.id_slices()
    for name, expected in rows.items():
        split = data.split(name)
        assert split.labels[:, 0].tolist() == [row[0] for row in expected]
        for place, column in enumerate(COLUMNS[:-1], start=1):
            seen = {row[place] for row in rows["train"]}
            wanted = [row[place] if row[place] in seen else None for row in expected]
            assert encoder.decode(column, split.ids[:, places[column].start]) == wanted
        for row, ids in zip(expected, split.ids[:, places["genres"]], strict=True):
            assert encoder.decode("genres", ids[ids > 0]) == row[6].split("|")
        codes = dict(zip((row[7] for row in expected), split.group, strict=True))
        assert [codes[row[7]] for row in expected] == split.group.tolist()
        assert len(set(codes.values())) == len(codes)


def test_columns_are_exactly_the_six_features():
    spec = RECIPES["movielens_1m"].spec
    assert [c.name for c in spec.columns] == COLUMNS
    assert [c.kind for c in spec.columns] == ["categorical"] * 5 + ["bag"]
    assert [c.side for c in spec.columns] == ["user"] * 4 + ["item"] * 2


def test_no_user_or_movie_id_is_among_the_columns(small, tmp_path):
    spec = small.spec
    assert not {"user", "item", "title", "rating", "timestamp"} & {c.raw for c in spec.columns}
    assert (spec.user, spec.item) == ("", "")
    data = run_recipe(small, write_dat(tmp_path / "raw", tables()), tmp_path / "out")
    assert [c.name for c in data.schema.columns] == COLUMNS
    # a column of ids would need a row of the table for each of them
    assert data.schema.table_size < USERS + MOVIES


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_grouplens_files(small, tmp_path, end):
    data = run_recipe(small, write_dat(tmp_path / "raw", tables(), end), tmp_path / "out")
    check_content(data, expected_rows(tables()))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "raw"]


def test_both_layouts_give_the_same_data(small, tmp_path):
    one = run_recipe(small, write_dat(tmp_path / "dat" / "ml-1m", tables()).parent, tmp_path / "a")
    two = run_recipe(small, write_parquet(tmp_path / "parquet", tables()), tmp_path / "b")
    assert one.data_digest == two.data_digest
    check_content(two, expected_rows(tables()))


def test_rating_three_is_dropped(small, tmp_path):
    data = run_recipe(small, write_dat(tmp_path / "raw", tables()), tmp_path / "out")
    ratings = tables()["ratings"]["rating"]
    assert sum(len(data.split(name)) for name in data.names) == (ratings != 3).sum()
    assert sum(int(data.split(name).labels.sum()) for name in data.names) == (ratings > 3).sum()


def test_other_counts_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"rows of train \d+ instead of 590,848.*get ml-1m\.zip from https://"):
        run("movielens_1m", raw=write_dat(tmp_path / "raw", tables()), out=tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["raw"]


def spoilt(name: str, **change: object) -> dict[str, pl.DataFrame]:
    """The tables with some columns of one table changed."""
    data = tables()
    data[name] = data[name].with_columns(**change)
    return data


@pytest.mark.parametrize(("data", "sentence"), [
    (spoilt("movies", title=pl.col("title").str.replace(r" \(1992\)$", "")),
     r"movies, item 3: the title 'Café 2.* does not end in \(YYYY\)"),
    (spoilt("ratings", user=pl.col("user") + 1), r"the user 41 was rated but is not described"),
    (spoilt("ratings", item=pl.col("item") + 2), r"the item 26 was rated but is not described"),
    (spoilt("users", gender=pl.lit("F::x")),
     r"users\.dat: row 1 has 6 fields instead of 5 \(user::gender::age::"),
])
def test_damaged_tables(small, tmp_path, data, sentence):
    with pytest.raises(InputError, match=sentence):
        run_recipe(small, write_dat(tmp_path / "raw", data), tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["raw"]


def test_missing_files(small, tmp_path):
    raw = write_dat(tmp_path / "raw", tables())
    (raw / "movies.dat").unlink()
    with pytest.raises(InputError, match=r"movies\.dat: no such file; get ml-1m\.zip"):
        run_recipe(small, raw, tmp_path / "out")
    (raw / "ratings.dat").unlink()
    with pytest.raises(InputError, match=r"holds neither ratings\.dat nor interactions\.parquet; get"):
        run_recipe(small, raw, tmp_path / "out")


def test_published_counts():
    """Song et al. and the counts of ratings 1, 2, 4, 5: 739,012 rows, 575,281 of them positive."""
    expected = RECIPES["movielens_1m"].expected
    assert sum(expected.rows.values()) == 739_012 == 56_174 + 107_557 + 348_971 + 226_310
    assert sum(expected.positives.values()) == 575_281 == 348_971 + 226_310


@pytest.mark.slow
def test_real_files_in_both_layouts(data_dir, tmp_path):
    """Counts are asserted by the recipe; the files of GroupLens are written from the Parquet ones."""
    folder = data_dir("movielens_1m")
    data = run("movielens_1m", raw=folder, out=tmp_path / "a")
    assert sum(len(data.split(name)) for name in data.names) == 739_012
    assert [c.name for c in data.schema.columns] == COLUMNS
    ratings = pl.read_parquet(folder / "interactions.parquet").with_columns(timestamp=pl.lit(0))
    raw = {"ratings": ratings.select("user", "item", "rating", "timestamp"),
           "users": pl.read_parquet(folder / "users.parquet").select("user", *COLUMNS[:4]),
           "movies": pl.read_parquet(folder / "movies.parquet").select("item", "title", "genres")}
    again = run("movielens_1m", raw=write_dat(tmp_path / "dat", raw), out=tmp_path / "b")
    assert again.data_digest == data.data_digest
    expected = expected_rows({**raw, "ratings": raw["ratings"].filter(pl.col("user") <= 60)})
    labels = data.split("test").labels[:len(expected["test"]), 0]
    assert labels.tolist() == [row[0] for row in expected["test"]]
