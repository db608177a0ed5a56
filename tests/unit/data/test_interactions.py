"""Interactions: which rows stay, how they are divided, what users and items bring; against plain loops."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_zoo import create, rankgiven
from recsys_zoo.audit import audit
from recsys_zoo.data.append import append
from recsys_zoo.data.describe import describe
from recsys_zoo.data.interactions import core, first_of_pairs
from recsys_zoo.data.prepare import prepare
from recsys_zoo.data.spec import DataSpec
from recsys_zoo.data.split import hash_unit
from recsys_zoo.data.store import Prepared, record_digest
from recsys_zoo.errors import InputError
from recsys_zoo.evaluation.cold import is_cold
from recsys_zoo.schema import FIRST
from recsys_zoo.tasks.binary import BinaryTask

Row = dict[str, Any]
COLUMNS = [{"name": "user", "side": "user"}, {"name": "item", "side": "item"}]


def spec(split: dict[str, Any], columns: list = COLUMNS, tables: tuple = (), **rules: Any) -> DataSpec:
    values = {"dataset": "toy", "user": "user", "item": "item", "columns": columns, "split": split,
              "tables": tables, "interactions": rules}
    return DataSpec.parse(values, "spec")


def drawn(rows: int = 300, seed: int = 0) -> list[Row]:
    """Repeated pairs, equal moments, popular and rare users and items."""
    draw = np.random.default_rng(seed)
    return [{"user": f"u{draw.zipf(1.4) % 17}", "item": f"i{draw.zipf(1.3) % 23}",
             "at": int(draw.integers(0, 90)), "stars": int(draw.integers(1, 6)),
             "part": "test" if draw.random() < 0.2 else "train"} for _ in range(rows)]


def made(rows: list[Row], folder: Path, spec: DataSpec) -> Prepared:
    pl.DataFrame(rows).write_parquet(folder / "rows.parquet")
    return prepare([folder / "rows.parquet"], spec, folder / "out", batch_rows=37, tables_from=folder)


def pairs(data: Prepared, name: str) -> list[tuple[str, str]]:
    """Users and items of a split as they are called in the files, in the order of its rows."""
    ids = data.split(name).ids
    names = [pl.read_parquet(data.folder / "encoding" / f"{c}.parquet") for c in ("user", "item")]
    tables = [dict(zip(frame["id"], frame["value"], strict=True)) for frame in names]
    return [(tables[0][u], tables[1][i]) for u, i in ids.tolist()]


def pair(row: Row) -> tuple[str, str]:
    return row["user"], row["item"]


def kept_by_loops(rows: list[Row], repeats: str, user_core: int, item_core: int, above: float) -> list[Row]:
    rows = [row for row in rows if row["stars"] > above]
    ordered = sorted(rows, key=lambda row: row["at"])  # stable: ties by row
    chosen: dict[tuple[str, str], Row] = {}
    for row in ordered:
        if repeats == "last" or pair(row) not in chosen:
            chosen[pair(row)] = row
    left = set(chosen)
    while True:
        users, items = (Counter(p[k] for p in left) for k in (0, 1))
        fewer = {p for p in left if users[p[0]] >= user_core and items[p[1]] >= item_core}
        if fewer == left:
            break
        left = fewer
    return [row for row in rows if pair(row) in left and (repeats == "keep" or chosen[pair(row)] is row)]


@pytest.mark.parametrize("repeats", ["first", "last", "keep"])
@pytest.mark.parametrize(("user_core", "item_core", "above"), [(0, 0, 0), (3, 2, 0), (3, 3, 2)])
def test_the_rows_that_stay(tmp_path, repeats, user_core, item_core, above):
    rows = drawn()
    rules = {"rating": "stars", "above": above, "time": "at", "repeats": repeats, "user_core": user_core,
             "item_core": item_core}
    data = made(rows, tmp_path, spec({"method": "column", "column": "part"}, **rules))
    right = kept_by_loops(rows, repeats, user_core, item_core, above)
    assert 0 < len(right) < len(rows) or (repeats, user_core) == ("keep", 0)
    for part in ("train", "test"):
        expected = [row for row in right if row["part"] == part]
        assert pairs(data, part) == [pair(row) for row in expected]
        assert data.split(part).time.tolist() == [row["at"] for row in expected]
    data.verify()


@pytest.mark.parametrize("split", [{"method": "user", "user": "user", "column": "at", "last": {"test": 1}},
                                   {"method": "time", "column": "at", "cuts": {"test": 45}}])
@pytest.mark.parametrize("repeats", ["first", "last"])
def test_of_repeated_pairs_the_one_stays_that_is_first_by_the_times_of_the_split(tmp_path, split, repeats):
    """Where `time` says nothing else."""
    (tmp_path / "timed").mkdir()
    rules = {"rating": "stars", "above": 0, "repeats": repeats}
    told = made(drawn(), tmp_path / "timed", spec(split, time="at", **rules))
    data = made(drawn(), tmp_path, spec(split, **rules))
    for part in ("train", "test"):
        assert pairs(data, part) == pairs(told, part)
        assert data.split(part).time is None
    assert sorted(pairs(data, "train") + pairs(data, "test")) == sorted(
        pair(row) for row in kept_by_loops(drawn(), repeats, 0, 0, 0))


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), unique=True, max_size=40), st.integers(0, 4),
       st.integers(0, 4))
def test_a_core_is_what_is_left_when_nobody_has_too_few(given_pairs, user_core, item_core):
    users, items = (np.array([p[k] for p in given_pairs], np.int64) for k in (0, 1))
    left = set(given_pairs)
    while True:  # one at a time, from the end
        few = [p for p in sorted(left, reverse=True) if sum(q[0] == p[0] for q in left) < user_core
               or sum(q[1] == p[1] for q in left) < item_core]
        if not few:
            break
        left.remove(few[0])
    found = core(users, items, user_core, item_core)
    assert {p for p, stays in zip(given_pairs, found, strict=True) if stays} == left


def test_first_and_last_rows_of_a_pair():
    users, items, times = np.array([0, 0, 0, 1, 0]), np.array([2, 2, 2, 2, 3]), np.array([5.0, 4, 4, 9, 1])
    assert first_of_pairs(users, items, times).tolist() == [False, True, False, True, True]
    assert first_of_pairs(users, items, times, last=True).tolist() == [True, False, False, True, True]


def test_leave_last_two_out(tmp_path):
    rows = drawn()
    rule = {"method": "user", "user": "user", "column": "at"}
    data = made(rows, tmp_path, spec(rule, time="at", user_core=3))
    right = kept_by_loops(rows, "first", 3, 0, 0)
    for user in {row["user"] for row in right}:
        own = sorted((row for row in right if row["user"] == user), key=lambda row: row["at"])
        assert pairs(data, "test").count(pair(own[-1])) == pairs(data, "valid").count(pair(own[-2])) == 1
    assert len(data.split("test")) == len({row["user"] for row in right})


def test_a_random_share_of_each_user(tmp_path):
    rows = drawn()
    rule = {"method": "user", "user": "user", "random": True, "keys": ["user", "item"],
            "last": {"test": 0.25}, "salt": "s"}
    data = made(rows, tmp_path, spec(rule))
    expected = set()
    by_user = defaultdict(set)
    for row in rows:
        by_user[row["user"]].add(row["item"])
    for user, items in by_user.items():
        names = sorted(items)
        unit = hash_unit([np.array([user] * len(names)), np.array(names)], "s")
        held = [name for _, name in sorted(zip(unit, names, strict=True))][len(names) - len(names) // 4:]
        expected |= {(user, name) for name in held}
    assert set(pairs(data, "test")) == expected
    assert len(expected) > 10


def test_held_out_users_and_what_is_given_of_them(tmp_path):
    rows = drawn(600)
    rule = {"method": "users", "user": "user", "column": "at", "given": 0.6, "salt": "x",
            "fractions": {"train": 0.5, "valid": 0.25, "test": 0.25}}
    data = made(rows, tmp_path, spec(rule, time="at"))
    assert data.names == ("train", "valid_given", "valid", "test_given", "test")
    users = sorted({row["user"] for row in rows})
    unit = dict(zip(users, hash_unit([np.array(users)], "x"), strict=True))
    for row in rows:
        part = "train" if unit[row["user"]] < 0.5 else "valid" if unit[row["user"]] < 0.75 else "test"
        places = [name for name in data.names if pair(row) in pairs(data, name)]
        assert len(places) == 1
        assert places[0].removesuffix("_given") == part
    for part in ("valid", "test"):
        for user in {u for u, _ in pairs(data, part)}:
            own = sorted((row for row in kept_by_loops(rows, "first", 0, 0, 0) if row["user"] == user),
                         key=lambda row: row["at"])
            count = max(int(len(own) * 0.6), 1)
            found = {p for p in pairs(data, f"{part}_given") if p[0] == user}
            assert found == {pair(row) for row in own[:count]}


def test_rows_that_are_left_out_are_counted(tmp_path):
    """The pair (u, a) comes three times, once in test; of v there is one item, and two are needed."""
    rows = [("u", "a", "train"), ("u", "b", "train"), ("u", "a", "train"), ("v", "a", "train"),
            ("u", "a", "test"), ("u", "c", "test")]
    rows = [dict(zip(("user", "item", "part"), row, strict=True)) for row in rows]
    rule = {"method": "column", "column": "part", "names": {"train": "train", "test": "test"}}
    data = made(rows, tmp_path, spec(rule, user_core=2))
    assert data.record["left_out"] == {"train": {"repeats": 1, "few": 1}, "test": {"repeats": 1, "few": 0}}
    said = describe(data)
    assert "left out of train: 1 repeat a pair of user and item; 1 are of users or items with too few" in said
    assert "left out of test: 1 repeat a pair of user and item\n" in said
    every = made(rows, tmp_path, spec(rule, user_core=2, repeats="keep"))
    assert every.record["left_out"] == {"train": {"repeats": 0, "few": 1}}
    record = {k: v for k, v in data.record.items() if k != "left_out"}
    assert record_digest(record) == data.data_digest  # that of data prepared before this was counted


def test_items_held_out_are_cold(tmp_path):
    rule = {"method": "hash", "keys": ["item"], "fractions": {"train": 0.7, "test": 0.3}}
    data = made(drawn(), tmp_path, spec(rule))
    train, test = ({item for _, item in pairs(data, name)} for name in ("train", "test"))
    assert train
    assert test
    assert not train & test


def test_the_newest_items_are_cold(tmp_path):
    """All rows of an item lie in the split of its first row that counts."""
    rows = [row | {"item": f"i{number % 40}", "at": number} for number, row in enumerate(drawn())]
    shares = {"train": 0.5, "valid": 0.25, "test": 0.25}
    rule = {"method": "release", "keys": ["item"], "column": "at", "fractions": shares}
    data = made(rows, tmp_path, spec(rule, rating="stars", above=2, time="at"))
    first: dict[str, int] = {}
    for row in rows:
        if row["stars"] > 2:
            first.setdefault(row["item"], row["at"])
    newest = sorted(first, key=first.get)
    cuts = [round(len(newest) * share) for share in (0.5, 0.75)]
    parts = {"train": newest[: cuts[0]], "valid": newest[cuts[0] : cuts[1]], "test": newest[cuts[1] :]}
    assert {name: {item for _, item in pairs(data, name)} for name in parts} == {
        name: set(items) for name, items in parts.items()}
    assert is_cold(data)
    assert is_cold(data, "valid")
    with pytest.raises(InputError, match=r"no stars is above 9; lower interactions\.above"):
        made(rows, tmp_path, spec(rule, rating="stars", above=9))


def test_ids_follow_the_training_rows_alone(tmp_path):
    """Held-out rows give users and items an id, the last ones, and no order."""
    rows = [*drawn(), *[{"user": "u1", "item": "rare", "at": 1, "stars": 5, "part": "test"}] * 90]
    data = made(rows, tmp_path, spec({"method": "column", "column": "part"}, repeats="keep"))
    counts = Counter(row["item"] for row in rows if row["part"] == "train")
    everyone = {row["item"] for row in rows}
    frame = pl.read_parquet(data.folder / "encoding" / "item.parquet")
    assert frame["value"].to_list() == sorted(everyone, key=lambda item: (-counts[item], item))
    assert frame["count"].to_list() == [counts[item] for item in frame["value"]]
    assert frame["value"][-1] == "rare"


TABLE = {"files": ["items.csv"], "key": "sku", "source": "item", "columns": ["brand", "tags", "price"]}
FEATURES = [{"name": "brand", "side": "item"}, {"name": "tags", "side": "item", "kind": "bag"},
            {"name": "price", "side": "item", "kind": "numeric", "rule": "standardise"}]


def featured(folder: Path, catalogue: str = "rows") -> Prepared:
    """Items a, b in training, c held out, d in the table alone; e is in no table."""
    lines = ["sku,brand,tags,price", "c,z,new|old,90", "a,x,old,1", "d,x,,5", "b,y,old|odd,3"]
    (folder / "items.csv").write_text("\n".join([*lines, ""]))
    rows = [{"user": "u", "item": item, "part": part} for item, part in
            (("a", "train"), ("b", "train"), ("c", "test"), ("e", "train"))]
    rule = {"method": "column", "column": "part"}
    return made(rows, folder, spec(rule, COLUMNS + FEATURES, (TABLE,), catalogue=catalogue))


def test_what_a_table_knows_of_items_is_fitted_on_those_of_training_rows(tmp_path):
    data = featured(tmp_path)
    side, schema = data.side("item"), data.schema.of_side("item")
    assert [c.name for c in schema.columns] == ["item", "brand", "tags", "price"]
    places = schema.id_slices()
    assert side.ids[:, places["item"]].flatten().tolist() == [0, 0, 2, 3, 4, 5]  # a, b, e, c
    assert side.ids[:, places["brand"]].flatten().tolist() == [0, 0, 2, 3, 1, 1]  # no z in training
    assert side.ids[:, places["tags"]].tolist() == [[0, 0], [0, 0], [2, 0], [2, 3], [0, 0], [1, 2]]
    mean, deviation = 2.0, 1.0
    expected = [0, 0, *((p - mean) / deviation for p in (1, 3, 2, 90))]
    np.testing.assert_allclose(side.numeric[:, 0], expected, atol=1e-6)
    assert data.record["tables"] == [{"file": "items.csv", "key": "item", "keys": 4, "absent": 1}]
    assert data.split("train").ids.shape == (3, 2)  # rows hold ids alone
    data.verify()


def test_a_catalogue_may_be_that_of_the_table(tmp_path):
    data = featured(tmp_path, "table")
    frame = pl.read_parquet(data.folder / "encoding" / "item.parquet")
    assert frame["value"].to_list() == ["a", "b", "e", "c", "d"]
    assert len(data.side("item")) == data.schema.size("item") + 2 == 7


def test_damage_to_a_side_is_found(tmp_path):
    data = featured(tmp_path)
    path = data.folder / "sides" / "item" / "ids.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"ids\.npy: its bytes are not"):
        Prepared.open(data.folder).verify()


def test_users_without_columns_of_their_own_have_their_ids(tmp_path):
    data = featured(tmp_path)
    assert data.side("user").ids.tolist() == [[0], [0], [2]]


def test_lists_of_items(tmp_path):
    data = featured(tmp_path)
    assert data.lists("train").items.tolist() == [0, 1, 2]
    assert data.lists("train", "test").items.tolist() == [0, 1, 2, 3]
    assert data.lists().items.tolist() == []
    assert (len(data.lists()), data.schema.size("item")) == (1, 4)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"user": ""}, "interactions need user and item"),
        ({"labels": ["click"]}, "no labels"),
        ({"columns": [{"name": "user", "side": "user"}, {"name": "item"}]}, "side='item'"),
        ({"columns": [*COLUMNS[:1], {"name": "item", "side": "item", "min_count": 2}]}, "no min_count"),
        ({"columns": [*COLUMNS, {"name": "brand", "side": "item"}]}, "must come from a"),
        ({"columns": [*COLUMNS, {"name": "last", "share_with": "item"}]}, "of another side"),
        ({"interactions": {"rating": "stars"}}, "rating and above belong together"),
        ({"split": {"method": "user", "user": "user", "random": True}}, "needs keys"),
        ({"split": {"method": "users"}}, "needs user"),
    ],
)
def test_contradictions_are_refused(changes, said):
    values = {"dataset": "toy", "user": "user", "item": "item", "columns": COLUMNS, "interactions": {}}
    with pytest.raises(InputError, match=said):
        DataSpec.parse({**values, **changes}, "spec")


@pytest.mark.parametrize(
    ("row", "said"),
    [({"user": None}, "row 3: no value, which is needed to know the user"), ({"item": ""}, "know the item"),
     ({"user": " "}, "column 'user', row 3: no value"),
     ({"stars": None}, "row 3: no rating"), ({"at": None}, "row 3: None is neither a number nor")],
)
def test_missing_values_are_named(tmp_path, row, said):
    rows = [dict(r) for r in drawn(8)]
    rows[2] |= row
    rules = {"rating": "stars", "above": 0, "time": "at"}
    with pytest.raises(InputError, match=said):
        made(rows, tmp_path, spec({"method": "column", "column": "part"}, **rules))
    assert not (tmp_path / "out").exists()


def test_nothing_that_stays_is_told(tmp_path):
    with pytest.raises(InputError, match="none of the 300 rows is left"):
        made(drawn(), tmp_path, spec({"method": "column", "column": "part"}, user_core=1000))


def test_interactions_are_not_appended(tmp_path):
    data = made(drawn(), tmp_path, spec({"method": "column", "column": "part"}))
    with pytest.raises(InputError, match="prepare all files anew"):
        append(data.folder, {"train": [tmp_path / "rows.parquet"]})


def test_what_needs_labels_says_so(tmp_path):
    data = made(drawn(), tmp_path, spec({"method": "column", "column": "part"}))
    for look in (BinaryTask, lambda data: audit(data, time="at")):
        with pytest.raises(InputError, match="toy: interactions have no label"):
            look(data)


def test_columns_of_single_rows_are_kept_and_a_ranking_says_that_it_reads_none(tmp_path: Path):
    rows = [{**row, "device": ("phone", "desk")[len(row["user"]) % 2]} for row in drawn()]
    shares = {"train": 0.8, "valid": 0.1, "test": 0.1}
    split = {"method": "hash", "keys": ["user", "item"], "fractions": shares}
    data = made(rows, tmp_path, spec(split, [*COLUMNS, {"name": "device"}]))
    assert set(data.split("train").ids[:, 2].tolist()) == {FIRST, FIRST + 1}
    said: list[str] = []
    rankgiven.tell(create("itemknn", data.schema), data, said.append)
    assert said == ["columns of single rows (device): models that rank read those of users and items"]
    said.clear()
    (tmp_path / "bare").mkdir()
    data = made(rows, tmp_path / "bare", spec(split))
    rankgiven.tell(create("itemknn", data.schema), data, said.append)
    assert said == []
