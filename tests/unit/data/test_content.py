"""Tokens of items from prepared columns, poisoned ones of new items, and ages of pairs against a loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from recsys_zoo.data.content import ages, item_tokens, releases
from recsys_zoo.data.prepare import prepare
from recsys_zoo.data.spec import DataSpec
from recsys_zoo.data.store import Prepared
from recsys_zoo.errors import InputError
from recsys_zoo.nn.content import tfidf

USERS, ITEMS = 12, 20
COLUMNS = [{"name": "user", "side": "user"}, {"name": "item", "side": "item"}]
TOLD = [{"name": "year", "side": "item"}, {"name": "tags", "side": "item", "kind": "bag"}]


def shop(folder: Path, columns: list = TOLD, more: dict | None = None) -> Prepared:
    """A fifth of the items is new; only these have the tag `poison` and the year `next`."""
    draw = np.random.default_rng(0)
    new = {f"i{item}" for item in range(ITEMS) if item % 5 == 0}
    rows = [{"user": f"u{u}", "item": f"i{i}", "at": int(draw.integers(0, 30)),
             "part": "test" if f"i{i}" in new else "train"}
            for u in range(USERS) for i in range(ITEMS) if draw.random() < 0.4]
    pl.DataFrame(rows).write_parquet(folder / "rows.parquet")
    tags = [[f"t{item % 3}", f"t{item % 4}", *["poison"] * (f"i{item}" in new)] for item in range(ITEMS)]
    pl.DataFrame({"item": [f"i{item}" for item in range(ITEMS)], "tags": tags,
                  "year": ["next" if f"i{item}" in new else f"y{item % 2}" for item in range(ITEMS)],
                  **(more or {})}).write_parquet(folder / "items.parquet")
    names = [column["name"] for column in columns]
    tables = [{"files": ["items.parquet"], "key": "item", "columns": names}] if names else []
    spec = DataSpec.parse({"dataset": "shop", "user": "user", "item": "item", "columns": COLUMNS + columns,
                           "split": {"method": "column", "column": "part",
                                     "names": {"train": "train", "test": "test"}},
                           "tables": tables, "interactions": {"time": "at"}}, "spec")
    return prepare([folder / "rows.parquet"], spec, folder / "out", tables_from=folder)


def names(data: Prepared) -> list[str]:
    frame = pl.read_parquet(data.folder / "encoding" / "item.parquet").sort("id")
    return [name for name, number in zip(frame["value"], frame["id"], strict=True) if number > 1]


def test_tokens_are_the_values_that_training_items_have(tmp_path):
    data = shop(tmp_path)
    tokens, width = item_tokens(data)
    assert (len(tokens), width) == (ITEMS, 2 + 4)  # years y0, y1; tags t0 to t3
    by_name: dict[str, set] = {}
    for number, name in enumerate(names(data)):
        by_name[name] = set(tokens.of_users(torch.tensor([number]))[1].tolist())
    for one in range(ITEMS):
        for other in range(ITEMS):
            shared = len({f"t{one % 3}", f"t{one % 4}"} & {f"t{other % 3}", f"t{other % 4}"})
            both_known = one % 5 and other % 5
            shared += bool(both_known and one % 2 == other % 2)
            assert len(by_name[f"i{one}"] & by_name[f"i{other}"]) == shared


def test_numbers_are_read_in_buckets_alone_and_that_is_said(tmp_path):
    """A missing price is no bucket; bounds are those of training items."""
    prices = [None if i == 7 else float(i * i if i % 5 else 1e6) for i in range(ITEMS)]
    price = {"name": "price", "side": "item", "kind": "numeric"}
    with pytest.raises(InputError, match=r"give price kind = \"categorical\" and rule = \"quantile\""):
        item_tokens(shop(tmp_path, [price], {"price": prices}))
    buckets = {**price, "kind": "categorical", "rule": "quantile", "bins": 4}
    data = shop(tmp_path, [buckets], {"price": prices})
    tokens, width = item_tokens(data)
    assert width == 4
    counts = {name: int(count) for name, count in zip(names(data), tokens.counts, strict=True)}
    assert counts == {name: int(name != "i7") for name in counts}


def test_what_only_new_items_say_is_in_no_vocabulary_and_no_weight(tmp_path):
    data = shop(tmp_path)
    texts = [pl.read_parquet(data.folder / "encoding" / f"{name}.parquet")["value"].to_list()
             for name in ("tags", "year")]
    assert "poison" not in texts[0]
    assert "next" not in texts[1]
    tokens, width = item_tokens(data)
    known = torch.bincount(data.lists("train").items, minlength=ITEMS) > 0
    rows = tfidf(tokens, width, known).toarray()
    assert (rows > 0).sum() == len(tokens.items)  # nothing was dropped: no token is of new items alone


def test_items_without_columns_are_refused(tmp_path):
    with pytest.raises(InputError, match="items have no column of values beside their id; name some"):
        item_tokens(shop(tmp_path, []))


def test_ages_are_those_of_a_loop(tmp_path):
    data = shop(tmp_path)
    for splits in (("train",), ("train", "test")):
        lists, found = data.lists(*splits), ages(data, *splits)
        pairs: list[tuple[float, int, int, int]] = []
        for split in (data.split(name) for name in splits):
            for row in range(len(split)):
                user, item = (int(i) - 2 for i in split.ids[row, :2])
                pairs.append((float(split.time[row]), len(pairs), user, item))
        expected = []
        for user, item in zip(*(part.tolist() for part in lists.pairs()), strict=True):
            own = sorted(p for p in pairs if p[2] == user)
            expected.append(len(own) - 1 - [p[3] for p in own].index(item))
        assert found.tolist() == expected
    assert max(found.tolist()) > 3


def test_without_times_there_are_no_ages():
    from tests.unit.tasks.test_ranking import data

    assert ages(data(), "train") is None


def test_releases_are_those_of_a_loop(tmp_path):
    data = shop(tmp_path)
    for splits in (("train",), ("train", "test")):
        lists, (moment, first) = data.lists(*splits), releases(data, *splits)
        rows = [(int(ids[0]) - 2, int(ids[1]) - 2, float(time)) for split in map(data.split, splits)
                for ids, time in zip(split.ids, split.time, strict=True)]
        for user, item, found in zip(*(part.tolist() for part in (*lists.pairs(), moment)), strict=True):
            assert found == max(time for *other, time in rows if other == [user, item])
        for item, begin in enumerate(first.tolist()):
            assert begin == min((time for _, other, time in rows if other == item), default=float("inf"))
    assert len(set(first.tolist())) > 3


def test_without_times_there_are_no_releases():
    from tests.unit.tasks.test_ranking import data

    with pytest.raises(InputError, match="blocks: holds no times, by which items are in release"):
        releases(data(), "train")


def places(user: int) -> list[int]:
    return list(range(40))


def places_of_what_was_kept(user: int) -> list[int]:
    return [place for place in range(120) if place == 0 or (7 * place + user) % 3]


def one_row(user: int) -> list[int]:
    return [0]


def moments_of_active_users(user: int) -> list[int]:
    """Seconds: on every other day of a year, the first days among them."""
    return [86_400 * day + 3_571 * user % 86_400 for day in range(365) if day < 2 or (day + user) % 2]


def repeated_days(user: int) -> list[int]:
    """Several rows on a day, as no place in an order has."""
    return [day for day in range(20) for _ in range(2)]


@pytest.mark.parametrize(("times", "refused"), [
    (places, True), (places_of_what_was_kept, True), (one_row, False), (moments_of_active_users, False),
    (repeated_days, False)])
def test_places_in_the_order_of_each_user_are_no_clock(tmp_path, times, refused):
    """With one row a user all times are 0, which says nothing of an order."""
    pl.DataFrame([{"user": user, "item": (7 * user + number) % 400, "at": at, "part": "train"}
                  for user in range(30) for number, at in enumerate(times(user))]
                 ).write_parquet(tmp_path / "rows.parquet")
    spec = DataSpec.parse({"dataset": "shop", "user": "user", "item": "item", "columns": COLUMNS,
                           "split": {"method": "column", "column": "part", "names": {"train": "train"}},
                           "interactions": {"time": "at"}}, "spec")
    data = prepare([tmp_path / "rows.parquet"], spec, tmp_path / "out")
    if refused:
        with pytest.raises(InputError, match="shop: 100% of the users begin in the first hundredth of all"):
            releases(data, "train")
    else:
        assert float(releases(data, "train")[0].min()) >= 0
