"""Last.FM from small files of both raw layouts, and from the real ones where they are."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from data_prep import RECIPES, Expected, lastfm, run_recipe
from recsys_zoo.errors import InputError
from tests.recipes.test_movielens_1m_users import pairs, unit

Pairs = dict[str, list[tuple[int, int]]]


def drawn() -> Pairs:
    """Pairs of 12 listeners and 15 artists, numbered from 0."""
    draw = np.random.default_rng(0)
    chosen = [(int(p) // 15, int(p) % 15) for p in draw.permutation(180)[:120]]
    return {"train": chosen[:95], "test": chosen[95:]}


def small():
    known = drawn()
    sides = [len({pair[side] for own in known.values() for pair in own}) for side in (0, 1)]
    expected = Expected(rows={"train+valid": 95, "test": 25}, positives={}, table_size=sum(sides) + 2)
    return dataclasses.replace(RECIPES["lastfm"], expected=expected)


def text(folder: Path) -> Path:
    folder.mkdir()
    for split, own in drawn().items():
        lines = (f"{user + 1}\t{item + 1}\t{user * item}\n" for user, item in own)
        (folder / lastfm.FILES[split]).write_text("".join(lines))
    return folder


def parquet(folder: Path) -> Path:
    folder.mkdir()
    rows = [(user, item, split) for split, own in drawn().items() for user, item in own]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "split"], orient="row")
    frame.cast({"user_id": pl.Int32}).sample(fraction=1, shuffle=True, seed=1).write_parquet(
        folder / "interactions.parquet")
    return folder


def test_both_layouts_give_the_same_pairs_and_a_hash_cuts_valid(tmp_path):
    one = run_recipe(small(), text(tmp_path / "text"), tmp_path / "a")
    two = run_recipe(small(), parquet(tmp_path / "parquet"), tmp_path / "b")
    assert one.data_digest == two.data_digest
    found = {name: {(int(u), int(i)) for u, items in pairs(one, name).items() for i in items}
             for name in one.names}
    known = drawn()
    assert found["test"] == set(known["test"])
    held = set()
    for user in range(12):
        items = [item for u, item in known["train"] if u == user]
        own = sorted((unit(f"lastfm\x1f{user}\x1f{item}\x1f"), item) for item in items)
        held |= {(user, item) for place, item in own[:-1] if place < 0.1}
    assert found["valid"] == held
    assert held
    assert found["train"] == set(known["train"]) - held


@pytest.mark.parametrize(("line", "said"), [("7\t8", "row 26 is not a listener, an artist and a count"),
                                            ("7\tx\t1", "row 26 is not a listener"),
                                            ("40\t40\t1", "not the published data: rows of test 26")])
def test_damaged_and_other_files(tmp_path, line, said):
    raw = text(tmp_path / "text")
    with (raw / "test1.txt").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(InputError, match=said):
        run_recipe(small(), raw, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_missing_files(tmp_path):
    with pytest.raises(InputError, match=r"has neither data1\.txt and test1\.txt nor interactions\.parquet"):
        run_recipe(small(), tmp_path, tmp_path / "out")


def test_real_files(data_dir, tmp_path):
    data = run_recipe(RECIPES["lastfm"], data_dir("lastfm"), tmp_path / "out")
    assert {name: len(data.split(name)) for name in data.names} == {
        "train": 37_962, "valid": 4_173, "test": 10_533}
