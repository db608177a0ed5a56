"""Coat from small files of both raw layouts, and from the real ones where they are."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest

from data_prep import coat, run_recipe
from recsys_zoo.data.store import Prepared
from recsys_zoo.errors import InputError

USERS, ITEMS = 12, 15


def ratings(split: str) -> np.ndarray:
    """A third of the pairs is rated 1 to 5."""
    draw = np.random.default_rng(len(split))
    return draw.integers(1, 6, (USERS, ITEMS)) * (draw.random((USERS, ITEMS)) < 0.35)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(coat, "USERS", USERS)
    monkeypatch.setattr(coat, "ITEMS", ITEMS)


def recipe():
    rows = {"train+valid": (ratings("train") >= 4).sum(), "test": (ratings("test") >= 4).sum(),
            "test_rejected": ((ratings("test") > 0) & (ratings("test") < 4)).sum()}
    return dataclasses.replace(coat.RECIPES[0], expected=dataclasses.replace(
        coat.RECIPES[0].expected, rows={name: int(count) for name, count in rows.items()}, table_size=0))


def raw(folder, suffix: str):
    folder.mkdir()
    for split in ("train", "test"):
        found = ratings(split)
        if suffix == "ascii":
            text = "".join(" ".join(map(str, row)) + "\n" for row in found)
            (folder / f"{split}.ascii").write_text(text)
        else:
            user, item = found.nonzero()
            pl.DataFrame({"user": user, "item": item, "rating": found[user, item]}).write_parquet(
                folder / f"{split}.parquet")
    return folder


def pairs(data: Prepared, *names: str) -> set[tuple[int, int]]:
    return set(zip(*(t.tolist() for t in data.lists(*names).pairs()), strict=True))


def test_both_layouts_give_the_same_bytes_and_all_judged_pairs_are_kept(tmp_path):
    data, same = (run_recipe(recipe(), raw(tmp_path / suffix, suffix), tmp_path / f"{suffix}_out",
                             say=lambda _: None) for suffix in ("ascii", "parquet"))
    assert data.data_digest == same.data_digest
    test = ratings("test")
    assert len(pairs(data, "test", "test_rejected")) == (test > 0).sum()
    assert not pairs(data, "test") & pairs(data, "test_rejected")
    assert not pairs(data, "train") & pairs(data, "valid")
    shown_and_chosen = ((test >= 4) & (ratings("train") >= 4)).sum()
    assert len(pairs(data, "test") & pairs(data, "train", "valid")) == shown_and_chosen > 0


def test_other_files_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"has neither train.ascii nor train.parquet; get coat.zip"):
        run_recipe(recipe(), tmp_path, tmp_path / "out", say=lambda _: None)
    folder = raw(tmp_path / "raw", "ascii")
    for text, said in (("1 2 3\n", "has the shape"), ("1 x\n", "not ratings"), ("1 2\n3\n", "not ratings")):
        (folder / "test.ascii").write_text(text)
        with pytest.raises(InputError, match=said):
            run_recipe(recipe(), folder, tmp_path / "out", say=lambda _: None)


def test_the_real_files(tmp_path, data_dir, monkeypatch):
    monkeypatch.undo()
    data, more = (run_recipe(known, data_dir("coat"), tmp_path / known.name, say=lambda _: None)
                  for known in coat.RECIPES)
    assert len(more.split("test")) == 1_862
    assert sum(len(more.split(name)) for name in ("train", "valid")) == 3_622
    judged = data.lists("test", "test_rejected")
    assert judged.counts.tolist() == [16] * 290
    assert {name: len(data.split(name)) for name in data.names} == {
        "train": 1_716, "valid": 189, "test": 860, "test_rejected": 3_780}
    assert (data.schema.size("user"), data.schema.size("item")) == (290, 300)
