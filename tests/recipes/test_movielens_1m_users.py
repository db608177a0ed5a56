"""MovieLens-1M with held-out users: both raw layouts, the division by its definition, and the real files."""

from __future__ import annotations

import dataclasses

import polars as pl
import pytest

from data_prep import RECIPES, Expected, run_recipe
from recsys_zoo.data.store import Prepared
from recsys_zoo.errors import InputError
from recsys_zoo.evaluation import heldout
from tests.recipes.test_movielens_1m import tables, write_dat, write_parquet


def small():
    """The recipe with the counts of the small files."""
    liked = tables()["ratings"].filter(pl.col("rating") > 3).with_columns(n=pl.len().over("user"))
    count = liked.filter(pl.col("n") >= 5).height
    assert 0 < count < liked.height < 700
    known = RECIPES["movielens_1m_users"]
    return dataclasses.replace(known, expected=Expected(rows={next(iter(known.expected.rows)): count},
                                                        positives={}))


def pairs(data: Prepared, split: str) -> dict[str, set[str]]:
    """The movies of each user in a split, by raw ids."""
    names = [pl.read_parquet(data.folder / f"encoding/{side}.parquet")["value"].to_list()
             for side in ("user", "item")]
    found: dict[str, set[str]] = {}
    for user, item in data.split(split).ids.tolist():
        found.setdefault(names[0][user - 2], set()).add(names[1][item - 2])
    return found


def unit(text: str) -> float:
    """The hash of the split rule, one byte at a time."""
    state = 0xCBF29CE484222325
    for byte in text.encode():
        state = (state ^ byte) * 0x100000001B3 % 2**64
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state = (state ^ state >> shift) * factor % 2**64
    return ((state ^ state >> 31) >> 11) / 2**53


def test_both_layouts_give_the_same_division(tmp_path):
    one = run_recipe(small(), write_dat(tmp_path / "dat", tables()), tmp_path / "a")
    two = run_recipe(small(), write_parquet(tmp_path / "parquet", tables()), tmp_path / "b")
    assert one.data_digest == two.data_digest
    heldout.check(one)


def test_users_and_movies_are_where_the_rule_puts_them(tmp_path):
    data = run_recipe(small(), write_dat(tmp_path / "dat", tables()), tmp_path / "out")
    liked = tables()["ratings"].filter(pl.col("rating") > 3)
    expected: dict[str, dict[str, set[str]]] = {name: {} for name in data.names}
    for (user,), rows in liked.group_by("user"):
        own = [str(item) for item in rows["item"]]
        if len(own) < 5:
            continue
        place = unit(f"movielens_1m_users\x1f{user}\x1f")
        split = "train" if place < 0.8 else "valid" if place < 0.9 else "test"
        own.sort(key=lambda item, user=user: unit(f"movielens_1m_users\x1f{user}\x1f{item}\x1f"))
        cut = len(own) if split == "train" else len(own) * 4 // 5
        expected["train" if split == "train" else f"{split}_given"][str(user)] = set(own[:cut])
        if split != "train":
            expected[split][str(user)] = set(own[cut:])
    assert all(expected.values())
    assert {name: pairs(data, name) for name in data.names} == expected


def test_other_data_are_refused(tmp_path):
    with pytest.raises(InputError, match="these are not the published data: rows of train"):
        run_recipe(RECIPES["movielens_1m_users"], write_dat(tmp_path / "dat", tables()), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_real_files(data_dir, tmp_path):
    """575,281 ratings above 3, all but nine of users with five or more: 6,034 users."""
    data = run_recipe(RECIPES["movielens_1m_users"], data_dir("movielens_1m"), tmp_path / "out")
    heldout.check(data)
    users = {name: int((data.lists(name).counts > 0).sum()) for name in data.names}
    assert users["train"] + users["valid"] + users["test"] == 6_034
    assert (users["valid_given"], users["test_given"]) == (users["valid"], users["test"])
