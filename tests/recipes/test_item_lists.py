"""The ..._m1 sets from small files of every raw layout, and from the real ones where they are."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from data_prep import RECIPES, item_lists, run_recipe
from data_prep.item_lists import SETS, Lists, as_json, as_text
from recsys_zoo.data.split import hash_unit
from recsys_zoo.data.store import Prepared
from recsys_zoo.errors import InputError

USERS, ITEMS = 30, 40


def pairs(split: str) -> pl.DataFrame:
    """Some items of every user; train and test share none, and every user and item is in one."""
    draw = np.random.default_rng(0)
    chosen = draw.random((USERS, ITEMS))
    chosen[np.arange(ITEMS) % USERS, np.arange(ITEMS)] = 0.1
    user, item = np.nonzero(chosen < 0.4 if split == "train" else chosen > 0.9)
    order = draw.permutation(len(user))
    order = order[np.argsort(user[order], kind="stable")]
    return pl.DataFrame({"user": user[order], "item": item[order]})


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


def small(kind: str) -> Lists:
    """A set of the same form whose published files are these pairs."""
    form, name = (as_text, "Gowalla_m1") if kind == "text" else (as_json, "Movielens1M_m1")
    digests = {split: md5(form(pairs(split), USERS)) for split in ("train", "test")}
    known = next(lists for lists in SETS if lists.name == name)
    rows = {"train+valid": pairs("train").height, "test": pairs("test").height}
    return dataclasses.replace(known, md5=digests, users=USERS, items=ITEMS, rows=rows)


def write(folder: Path, layout: str) -> Path:
    folder.mkdir(parents=True)
    if layout == "parquet":
        parts = [pairs(split).select(user_id="user", item_id="item", split=pl.lit(split))
                 for split in ("train", "test")]
        pl.concat(parts).write_parquet(folder / "interactions.parquet")
    for split in ("train", "test"):
        if layout == "text":
            (folder / f"{split}.txt").write_text(as_text(pairs(split), USERS))
        elif layout == "json":
            (folder / f"{split}_data.json").write_text(as_json(pairs(split), USERS))
    return folder


def numbers(data: Prepared, name: str) -> set[tuple[int, int]]:
    """The pairs of a split, by the numbers of the files."""
    tables = [pl.read_parquet(data.folder / "encoding" / f"{c}.parquet").sort("id") for c in ("user", "item")]
    values = [table["value"].cast(pl.Int64).to_numpy() for table in tables]
    ids = data.split(name).ids - 2
    return set(zip(values[0][ids[:, 0]].tolist(), values[1][ids[:, 1]].tolist(), strict=True))


def test_text_lists_and_parquet_give_the_same_data(tmp_path):
    said: list[str] = []
    write(tmp_path / "zip" / "Gowalla_m1", "text")
    found = [run_recipe(small("text").recipe(), raw, tmp_path / f"out of {raw.name}", say=said.append)
             for raw in (tmp_path / "zip", write(tmp_path / "parquet", "parquet"))]
    assert found[0].data_digest == found[1].data_digest
    assert found[0].record["spec"]["note"] == ""
    assert sum("the published lists" in line for line in said) == 4
    assert numbers(found[0], "test") == set(pairs("test").iter_rows())
    assert numbers(found[0], "train") | numbers(found[0], "valid") == set(pairs("train").iter_rows())


def test_a_tenth_is_cut_off_by_a_hash_but_of_no_user_all(tmp_path):
    data = run_recipe(small("text").recipe(), write(tmp_path / "raw", "text"), tmp_path / "out")
    train = pairs("train")
    unit = hash_unit([train[c].cast(pl.String).to_numpy() for c in ("user", "item")], "gowalla_m1")
    by_user: dict[int, list[tuple[float, int]]] = {}
    for (user, item), value in zip(train.iter_rows(), unit, strict=True):
        by_user.setdefault(user, []).append((value, item))
    expected = {(user, item) for user, own in by_user.items() for value, item in sorted(own)[:-1]
                if value < item_lists.VALID}
    assert numbers(data, "valid") == expected
    assert len(expected) > 20


def test_of_a_user_with_one_pair_it_stays_in_training():
    frame = pl.DataFrame({"user": np.arange(200), "item": 0})
    parts = item_lists.cut_valid(frame, "s")
    assert (parts["train"].height, parts["valid"].height) == (200, 0)


def test_validation_lists_of_their_own_are_left_out_as_in_the_published_runs(tmp_path):
    raw = write(tmp_path / "raw", "json")
    (raw / "validation_data.json").write_text(as_json(pairs("test"), USERS))
    data = run_recipe(small("json").recipe(), raw, tmp_path / "out")
    assert numbers(data, "train") | numbers(data, "valid") == set(pairs("train").iter_rows())
    assert data.record["spec"]["note"] == ""


def test_other_files_than_the_published_ones_are_noted(tmp_path):
    other = dataclasses.replace(small("json"), md5={"train": md5("other"), "test": small("json").md5["test"]})
    data = run_recipe(other.recipe(), write(tmp_path / "raw", "parquet"), tmp_path / "out")
    assert data.record["spec"]["note"] == "train is not the published file"


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [("train.txt", "0 1 x\n", r"train\.txt: not lists of item numbers"),
     ("train.txt", None, r"has neither train\.txt")],
)
def test_damaged_and_missing_files(tmp_path, file, content, said):
    raw = write(tmp_path / "raw", "text")
    (raw / file).unlink()
    if content is not None:
        (raw / file).write_text(content)
    with pytest.raises(InputError, match=said):
        run_recipe(small("text").recipe(), raw, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_counts_are_refused(tmp_path):
    other = dataclasses.replace(small("text"), rows={"test": 1})
    with pytest.raises(InputError, match="these are not the published data: rows of test"):
        run_recipe(other.recipe(), write(tmp_path / "raw", "text"), tmp_path / "out")


@pytest.mark.parametrize("lists", SETS, ids=lambda lists: lists.name)
def test_every_set_is_a_recipe(lists):
    recipe = RECIPES[lists.name.lower()]
    assert recipe.expected.table_size == lists.users + lists.items + 2
    assert set(lists.md5) >= {"train", "test"}
    assert json.loads(as_json(pl.DataFrame({"user": [1], "item": [5]}), 3)) == [[], [5], []]


@pytest.mark.parametrize("name", ["movielens1m_m1", "amazonelectronics_m1"])
def test_real_files(data_dir, tmp_path, name):
    """Counts and table size are asserted by the recipe; here the MD5 of train and test."""
    said: list[str] = []
    data = run_recipe(RECIPES[name], data_dir(name), tmp_path / "out", say=said.append)
    assert sum("the published lists" in line for line in said) == 2
    assert data.names == ("train", "valid", "test")
