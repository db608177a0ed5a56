"""MovieLens for rankings from small files of both raw layouts against loops, and from the real ones."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from data_prep import RECIPES, Expected, Recipe, movielens_rankings, run_recipe
from recsys_zoo.data.store import Prepared
from recsys_zoo.errors import InputError
from tests.recipes.test_movielens_1m_users import pairs

USERS, MOVIES, COUNT = 20, 30, 330
Rows = list[tuple[int, int, int, int]]


def ratings() -> Rows:
    """user, item, rating and timestamp: no pair twice, few moments, some users with less than five liked."""
    draw = np.random.default_rng(0)
    chosen = draw.permutation(USERS * MOVIES)[:COUNT]
    return [(int(p) // MOVIES + 1, int(p) % MOVIES + 1, int(draw.integers(1, 6 if p // MOVIES > 3 else 5)),
             int(draw.integers(10**9, 10**9 + 60))) for p in chosen]


def liked(rows: Rows) -> Rows:
    rows = [row for row in rows if row[2] > 3]
    counts = Counter(user for user, *_ in rows)
    assert min(counts.values()) < 5
    return [row for row in rows if counts[row[0]] >= 5]


def expected(rows: Rows, by_time: bool) -> dict[str, set[tuple[str, str]]]:
    """The pairs of every split by loops."""
    found: dict[str, set[tuple[str, str]]] = {"train": set(), "valid": set(), "test": set()}
    kept = sorted(liked(rows), key=lambda row: (row[0], row[3], row[1]))
    moments = sorted(row[3] for row in kept)
    cuts = [moments[math.ceil(share * len(moments) - 1e-9)] for share in (0.8, 0.9)]
    own = defaultdict(list)
    for user, item, _, moment in kept:
        own[user].append((item, moment))
    for user, items in own.items():
        for place, (item, moment) in enumerate(items):
            later = sum(cut <= moment for cut in cuts) if by_time else max(0, 3 - (len(items) - place))
            found[("train", "valid", "test")[later]].add((str(user), str(item)))
    return found


def small(name: str, monkeypatch) -> Recipe:
    rows = ratings()
    counts = len(rows), len({row[0] for row in rows}), len({row[1] for row in rows})
    for word, count in zip(("RATINGS", "USERS", "MOVIES"), counts, strict=True):
        monkeypatch.setattr(movielens_rankings, word, count)
    wanted = {split: len(found) for split, found in expected(rows, name.endswith("_time")).items()}
    return dataclasses.replace(RECIPES[name], expected=Expected(rows=wanted, positives={}))


def text(folder: Path, name: str) -> Path:
    folder.mkdir()
    file, between = ("ratings.dat", "::") if "1m" in name else ("u.data", "\t")
    (folder / file).write_text("".join(between.join(map(str, row)) + "\n" for row in ratings()))
    return folder


def parquet(folder: Path, name: str) -> Path:
    """Of 1M with places in the user's order instead of moments, ties by movie."""
    folder.mkdir()
    frame = pl.DataFrame(ratings(), schema=["user", "item", "rating", "timestamp"], orient="row")
    if "1m" in name:
        frame = frame.sort("user", "timestamp", "item").select(
            pl.exclude("timestamp"), seq=pl.int_range(pl.len()).over("user").cast(pl.Int16))
    else:
        frame = frame.rename({"user": "user_id", "item": "item_id"})
    frame.sample(fraction=1, shuffle=True, seed=1).write_parquet(folder / "interactions.parquet")
    return folder


def found_in(data: Prepared) -> dict[str, set[tuple[str, str]]]:
    return {name: {(user, item) for user, items in pairs(data, name).items() for item in items}
            for name in data.names}


each = pytest.mark.parametrize("name", [recipe.name for recipe in movielens_rankings.RECIPES])


@each
def test_both_layouts_give_the_pairs_of_loops(name, tmp_path, monkeypatch):
    recipe = small(name, monkeypatch)
    one = run_recipe(recipe, text(tmp_path / "text", name), tmp_path / "a")
    two = run_recipe(recipe, parquet(tmp_path / "parquet", name), tmp_path / "b")
    assert one.data_digest == two.data_digest
    assert found_in(one) == expected(ratings(), name.endswith("_time"))
    assert all(found_in(one).values())


@each
def test_other_data_and_missing_files_are_refused(name, tmp_path):
    said = "movielens_1m_last: these are not" if "1m" in name else "330 ratings, 20 users, 30 movies instead"
    with pytest.raises(InputError, match=said):
        run_recipe(RECIPES[name], text(tmp_path / "text", name), tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"neither .* nor interactions\.parquet; get ml-1"):
        run_recipe(RECIPES[name], tmp_path / "empty", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_line_is_named(tmp_path):
    raw = text(tmp_path / "text", "movielens_100k_last")
    with (raw / "u.data").open("a") as file:
        file.write("1\t2\t3\n")
    with pytest.raises(InputError, match=r"u\.data: row 331 has 3 fields instead of 4"):
        run_recipe(RECIPES["movielens_100k_last"], raw, tmp_path / "out")


@pytest.mark.parametrize("name", ["movielens_100k_last", "movielens_100k_time"])
def test_real_files(name, data_dir, tmp_path):
    raw = data_dir("ml-100k")
    data = run_recipe(RECIPES[name], raw, tmp_path / "out")
    columns = ("user_id", "item_id", "rating", "timestamp")
    rows = pl.read_parquet(raw / "interactions.parquet").select(columns).rows()
    assert found_in(data) == expected(rows, name.endswith("_time"))


@pytest.mark.slow
def test_real_files_of_1m(data_dir, tmp_path):
    raw = data_dir("movielens_1m")
    data = run_recipe(RECIPES["movielens_1m_last"], raw, tmp_path / "out")
    rows = pl.read_parquet(raw / "interactions.parquet").select("user", "item", "rating", "seq").rows()
    assert found_in(data) == expected(rows, by_time=False)
