"""CiteULike from small files of both raw layouts, and from the real ones where they are."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from data_prep import RECIPES, citeulike, run_recipe
from data_prep.citeulike import SETS, Library
from recsys_zoo.data.store import Prepared
from recsys_zoo.errors import InputError
from recsys_zoo.evaluation import heldout

USERS, ITEMS = 25, 30


def libraries() -> list[list[int]]:
    """Articles of every reader, each article somewhere; the first readers have fewer than five."""
    draw = np.random.default_rng(0)
    return [sorted({user, (user + 5) % ITEMS, *draw.choice(ITEMS, 2 + user // 3, replace=False).tolist()})
            for user in range(USERS)]


def features(of: str) -> list[list[int]]:
    """Tags or words of every article; some have none."""
    draw = np.random.default_rng(len(of))
    return [draw.choice(12, draw.integers(0, 6), replace=False).tolist() for _ in range(ITEMS)]


def small(known: Library) -> Library:
    pairs = sum(map(len, libraries()))
    of_five = sum(len(own) for own in libraries() if len(own) >= 5)
    return dataclasses.replace(known, users=USERS, items=ITEMS, pairs=pairs, pairs_of_five=of_five)


def counted(lines: list[list[int]], more: str = "") -> str:
    return "".join(f"{' '.join([str(len(line)), *(f'{value}{more}' for value in line)])}\n" for line in lines)


def published(folder: Path, known: Library) -> Path:
    folder.mkdir()
    (folder / "users.dat").write_text(counted(libraries()))
    tags = features("tags")
    if not known.tags_of_items:
        tags = [[item for item, own in enumerate(tags) if tag in own] for tag in range(12)]
    (folder / known.tag_file).write_text(counted(tags))
    (folder / "mult.dat").write_text(counted(features("words"), ":2"))
    return folder


def parquet(folder: Path) -> Path:
    folder.mkdir()
    pairs = [(user, item) for user, own in enumerate(libraries()) for item in own]
    frame = pl.DataFrame(pairs, schema=["user_id", "item_id"], orient="row")
    frame.write_parquet(folder / "interactions.parquet")
    # tags in the order in which the published file that lists the articles of a tag gives them
    pl.DataFrame({"item_id": range(ITEMS), "tag_ids": [sorted(own) for own in features("tags")],
                  "word_ids": features("words")}).write_parquet(folder / "items.parquet")
    return folder


@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
def test_both_layouts_give_the_same_data(tmp_path, cold):
    known = small(SETS[0])
    one = run_recipe(known.recipes()[cold], published(tmp_path / "dat", known), tmp_path / "a")
    two = run_recipe(known.recipes()[cold], parquet(tmp_path / "parquet"), tmp_path / "b")
    assert one.data_digest == two.data_digest
    check_features(one)


def check_features(data: Prepared) -> None:
    """The bags of an article hold its tags and words that five training articles have, by their texts."""
    schema, side = data.schema.of_side("item"), data.side("item")
    places = schema.id_slices()
    tables = {c: pl.read_parquet(data.folder / f"encoding/{c}.parquet") for c in ("item", "tags", "words")}
    texts = {c: dict(zip(t["id"], t["value"], strict=True)) for c, t in tables.items()}
    train = {int(texts["item"][i]) for i in data.split("train").ids[:, 1].tolist()}
    for name in ("tags", "words"):
        own = features(name)
        often = {v for v in range(12) if sum(v in own[item] for item in train) >= 5}
        assert {int(v) for v in texts[name].values()} == often
        assert often
        for row in range(2, len(side)):
            item = int(texts["item"][int(side.ids[row, places["item"].start])])
            found = [i for i in side.ids[row, places[name]].tolist() if i > 1]
            assert {int(texts[name][i]) for i in found} == set(own[item]) & often


def test_tags_by_article(tmp_path):
    known = small(SETS[1])
    data = run_recipe(known.recipes()[0], published(tmp_path / "dat", known), tmp_path / "out")
    assert [c.name for c in data.schema.of_side("item").columns] == ["item", "tags"]


def test_readers_with_few_articles_are_left_out_and_fifths_held_out(tmp_path):
    known = small(SETS[0])
    data = run_recipe(known.recipes()[0], parquet(tmp_path / "raw"), tmp_path / "out")
    sizes = [len(own) for own in libraries() if len(own) >= 5]
    assert len(sizes) < USERS
    assert len(data.split("valid")) == len(data.split("test")) == sum(size // 5 for size in sizes)


def test_cold_articles_are_in_no_training_row(tmp_path):
    data = run_recipe(small(SETS[0]).recipes()[1], parquet(tmp_path / "raw"), tmp_path / "out")
    items = {name: set(data.split(name).ids[:, 1].tolist()) for name in data.names}
    assert not items["train"] & (items["valid"] | items["test"])
    assert not items["valid"] & items["test"]


def test_held_out_readers_have_all_their_articles_there(tmp_path):
    data = run_recipe(small(SETS[0]).recipes()[2], parquet(tmp_path / "raw"), tmp_path / "out")
    heldout.check(data)
    names = pl.read_parquet(data.folder / "encoding/user.parquet")["value"].to_list()
    own = {str(user): len(items) for user, items in enumerate(libraries()) if len(items) >= 5}
    sizes = {}
    for name in data.names:
        for user, count in enumerate(data.lists(name).counts.tolist()):
            sizes.setdefault(names[user], {})[name] = count
    assert len(sizes) == len(own)
    for user, parts in sizes.items():
        there = {name: count for name, count in parts.items() if count}
        split = next(name for name in ("train", "valid", "test") if name in there)
        given = own[user] * 4 // 5
        assert there == ({"train": own[user]} if split == "train" else
                         {f"{split}_given": given, split: own[user] - given})


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("users.dat", "3 1 2\n", r"users\.dat, line 1: does not begin with the number"),
        ("users.dat", "1 1\n", "1 users and 30 articles instead of 25 and 30"),
        ("tag-item.dat", None, r"tag-item\.dat: no such file; get users\.dat and tag-item\.dat"),
        ("users.dat", None, r"has neither users\.dat nor interactions\.parquet"),
    ],
)
def test_damaged_and_missing_files(tmp_path, file, content, said):
    raw = published(tmp_path / "raw", SETS[0])
    (raw / file).unlink()
    if content is not None:
        (raw / file).write_text(content)
    with pytest.raises(InputError, match=said):
        run_recipe(small(SETS[0]).recipes()[0], raw, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_published_counts():
    assert RECIPES["citeulike_t"].expected.rows == {"train+valid+test": 125_580}
    assert {r.name for r in citeulike.RECIPES} <= set(RECIPES)


def test_real_files(data_dir, tmp_path):
    """The validation part of the authors' code, which draws a fifth too, has 23,311 pairs."""
    data = run_recipe(RECIPES["citeulike_t"], data_dir("citeulike-t"), tmp_path / "out")
    assert len(data.split("valid")) == 23_311
