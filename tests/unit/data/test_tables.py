"""Side tables: a join while rows stream equals a file that was joined beforehand, by loops."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import polars as pl
import pytest

from recsys_zoo.data.describe import describe
from recsys_zoo.data.encode import Encoder
from recsys_zoo.data.infer import infer_spec
from recsys_zoo.data.prepare import prepare
from recsys_zoo.data.spec import DataSpec, TableSpec
from recsys_zoo.data.store import Prepared
from recsys_zoo.data.tables import Table
from recsys_zoo.data.values import Chunk
from recsys_zoo.data.vocab import Vocabulary
from recsys_zoo.errors import InputError

Row = dict[str, Any]

SPEC = {
    "dataset": "side",
    "labels": ["click"],
    "group": "city",
    "columns": [
        {"name": "user", "side": "user"},
        {"name": "item", "side": "item"},
        {"name": "city", "side": "user"},
        {"name": "age", "kind": "numeric", "rule": "standardise", "side": "user"},
        {"name": "genres", "kind": "bag", "max_len": 2, "side": "item"},
        {"name": "year", "side": "item", "rule": "quantile", "bins": 3},
    ],
    "split": {"method": "column", "column": "part"},
}
USERS = {"files": ["users.csv"], "key": "id", "source": "user", "columns": ["city", "age"]}
ITEMS = {"files": ["items.parquet"], "key": "item", "columns": ["genres", "year"]}
PARTS = ("train", "valid", "test")


def spec_with(**changes: Any) -> DataSpec:
    return DataSpec.parse({**SPEC, "tables": [USERS, ITEMS], **changes}, "spec")


def make_rows(rows: int = 90) -> list[Row]:
    rng = np.random.default_rng(3)
    return [{"user": int(rng.integers(0, 12)), "item": None if k % 13 == 4 else f"i{rng.integers(0, 9)}",
             "click": k % 2, "part": PARTS[k * 3 // rows]} for k in range(rows)]  # fmt: skip


def make_tables() -> tuple[list[Row], list[Row]]:
    """Users 0 to 11, with a missing age; items i0 to i6: i7 and i8 are not in the table."""
    users = [{"id": k, "city": f"c{k % 3}", "age": None if k == 5 else 20 + k} for k in range(12)]
    items = [{"item": f"i{k}", "genres": [f"g{j}" for j in range(k % 4)], "year": 1990 + k} for k in range(7)]
    return users, items


def joined_by_hand(rows: list[Row], users: list[Row], items: list[Row]) -> list[Row]:
    by_user, by_item = ({row[key]: row for row in side} for side, key in ((users, "id"), (items, "item")))
    wide = []
    for row in rows:
        user, item = by_user.get(row["user"], {}), by_item.get(row["item"], {})
        more = {"city": user.get("city"), "age": user.get("age"), "year": item.get("year")}
        wide.append({**row, **more, "genres": "|".join(item.get("genres", []))})
    return wide


def write(folder: Path, rows: list[Row], users: list[Row], items: list[Row], ending: str = "csv") -> Path:
    pl.DataFrame(users).write_csv(folder / "users.csv")
    pl.DataFrame(items).write_parquet(folder / "items.parquet")
    frame, path = pl.DataFrame(rows), folder / f"clicks.{ending}"
    frame.write_parquet(path) if ending == "parquet" else frame.write_csv(
        path, separator="\t" if ending == "tsv" else ","
    )
    return path


def joined(folder: Path, **changes: Any) -> Prepared:
    path = write(folder, make_rows(), *make_tables(), changes.pop("ending", "csv"))
    return prepare([path], spec_with(**changes), folder / "out", tables_from=folder, batch_rows=7)


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_a_streamed_join_equals_a_file_joined_by_hand(tmp_path: Path, ending: str):
    rows, (users, items) = make_rows(), make_tables()
    data = joined(tmp_path, ending=ending)
    pl.DataFrame(joined_by_hand(rows, users, items)).write_parquet(tmp_path / "wide.parquet")
    wide = prepare([tmp_path / "wide.parquet"], DataSpec.parse(SPEC, "spec"), tmp_path / "wide")
    assert data.schema == wide.schema
    assert data.record["vocabularies"] == wide.record["vocabularies"]
    for part in PARTS:
        assert data.record["splits"][part] == wide.record["splits"][part]  # SHA-256 of every matrix
    data.verify()
    absent = sum(row["item"] not in {item["item"] for item in items} for row in rows)
    assert absent > 10
    assert [(t["key"], t["keys"], t["absent"]) for t in data.record["tables"]] == [
        ("user", 12, 0),
        ("item", 7, absent),
    ]
    assert f"items.parquet: 7 keys; {absent} rows have another item or none" in describe(data)


def test_keys_are_indexed_once(tmp_path: Path, monkeypatch):
    built = []
    monkeypatch.setattr(
        Vocabulary, "_make_index", lambda self, make=Vocabulary._make_index: built.append(self) or make(self)
    )
    pl.DataFrame({"id": ["a", "b", "c"], "city": ["x", None, "z"], "age": [1, 2, 3]}).write_csv(
        tmp_path / "users.csv"
    )
    table = Table.read(TableSpec.parse(USERS, "table"), tmp_path)
    for keys, rows in ((["c", None, "d", "a"], [2, None, None, 0]), (["b", "e"], [1, None]), ([], [])):
        frame = pl.DataFrame({"user": keys}, schema={"user": pl.String})
        assert table.find(Chunk(frame, "rows", np.arange(1, len(keys) + 1))).to_list() == rows
    assert len(built) == 1


def test_a_key_that_the_table_lacks_gives_missing_values(tmp_path: Path):
    data = joined(tmp_path)
    row = next(k for k, row in enumerate(make_rows()) if row["item"] == "i8")
    place = data.schema.id_slices()
    ids = data.split("train").ids[row]
    assert ids[place["genres"]].tolist() == [0, 0]
    assert ids[place["year"]].tolist() == [1]


def test_labels_splits_and_a_look_ahead_may_come_from_a_table(tmp_path: Path):
    """A table that only pass 1 needs, one that only pass 2 needs, rows dropped by a joined label."""
    rows = [{"user": k % 7, "when": 50 - k} for k in range(50)]
    pl.DataFrame(rows).write_csv(tmp_path / "log.csv")
    side = [{"user": k, "mark": k % 3, "name": f"n{k}"} for k in range(7)]
    pl.DataFrame(side).write_csv(tmp_path / "side.csv")
    spec = DataSpec.parse(
        {"dataset": "d", "labels": [{"name": "mark", "above": 1, "drop_equal": True}],
         "columns": [{"name": "name"}], "split": {"method": "time", "column": "when"},
         "tables": [{"files": ["side.csv"], "key": "user", "columns": ["mark", "name"]}]},
        "spec",
    )  # fmt: skip
    data = prepare([tmp_path / "log.csv"], spec, tmp_path / "out", tables_from=tmp_path, batch_rows=4)
    kept = [row for row in rows if row["user"] % 3 != 1]
    ordered = sorted(kept, key=lambda row: row["when"])
    late = ordered[int(np.ceil(0.9 * len(ordered))):]  # fmt: skip
    expected = [float(row["user"] % 3 > 1) for row in kept if row in late]
    assert data.split("test").labels[:, 0].tolist() == expected
    assert data.record["tables"][0]["absent"] == 0


def test_files_of_one_table_lie_below_each_other(tmp_path: Path):
    whole = joined(tmp_path)
    users, _ = make_tables()
    pl.DataFrame(users[:5]).write_parquet(tmp_path / "old.parquet")  # ages as integers here, as texts there
    pl.DataFrame(users[5:]).write_csv(tmp_path / "new.csv")
    tables = [{**USERS, "files": ["old.parquet", "new.csv"]}, ITEMS]
    spec = spec_with(tables=tables)
    parts = prepare([tmp_path / "clicks.csv"], spec, tmp_path / "parts", tables_from=tmp_path)
    assert parts.record["splits"] == whole.record["splits"]


def test_frames_to_predict_hold_the_columns_or_the_key(tmp_path: Path):
    data = joined(tmp_path)
    encoder = Encoder.open(data.folder / "encoding")
    rows, (users, items) = make_rows(), make_tables()
    wide = pl.DataFrame(joined_by_hand(rows, users, items))
    chosen = wide.filter(pl.col("part") == "valid")
    expected = data.split("valid").inputs(slice(None))
    keys_only = chosen.select("user", "item")
    lists = keys_only.to_dict(as_series=False)
    for frame in (chosen, keys_only, lists, pandas.DataFrame(lists),
                  chosen.drop("genres", "year"), chosen.drop("city", "age")):  # fmt: skip
        found = encoder.encode(frame)
        assert found.ids.tolist() == expected.ids.tolist()
        assert found.numeric.tolist() == expected.numeric.tolist()
        assert found.bags["genres"].tolist() == expected.bags["genres"].tolist()
    held = encoder.encode(keys_only.with_columns(city=pl.lit("c2"), age=pl.lit(1)))
    assert set(held.ids[:, 2].tolist()) == {encoder.vocabularies["city"].encode(pl.Series(["c2"]))[0]}
    with pytest.raises(
        InputError, match=r"frame: has 'city' but not 'age' of the side table 'users.csv'; give"
    ):
        encoder.encode(chosen.drop("age"))
    with pytest.raises(InputError, match="frame: no column named 'item'"):
        encoder.encode(chosen.drop("item", "genres").drop("year"))


@pytest.mark.parametrize(("change", "said"), [
    (lambda users, items: users.append({**users[2], "age": 3}),
     "users.csv: column 'id', row 13: the key '2' is in row 3 of "),
    (lambda users, items: items[3].update(item=None), "items.parquet: column 'item', row 4: no key;"),
    (lambda users, items: users[6].update(age="old"), "column 'age' (from users.csv), row "),
    (lambda users, items: [row.pop("city") for row in users], "users.csv: no column named 'city'"),
    (lambda users, items: [row.update(user=row.pop("id")) for row in users], "users.csv: no column named"),
    (lambda users, items: users.clear(), "users.csv: "),
])  # fmt: skip
def test_a_side_table_that_cannot_be_used(tmp_path: Path, change, said: str):
    users, items = make_tables()
    change(users, items)
    path = tmp_path / "clicks.csv"
    pl.DataFrame(users, infer_schema_length=None, strict=False).write_csv(tmp_path / "users.csv")
    pl.DataFrame(items).write_parquet(tmp_path / "items.parquet")
    pl.DataFrame(make_rows()).write_csv(path)
    with pytest.raises(InputError) as error:
        prepare([path], spec_with(), tmp_path / "out", tables_from=tmp_path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_main_files_that_do_not_fit_the_tables(tmp_path: Path):
    path = write(tmp_path, [{**row, "year": 1} for row in make_rows()], *make_tables())
    with pytest.raises(
        InputError, match=r"clicks.csv: has a column 'year', and so has the side table 'items"
    ):
        prepare([path], spec_with(), tmp_path / "out", tables_from=tmp_path)
    pl.DataFrame(make_rows()).drop("user").write_csv(path)
    with pytest.raises(InputError, match=r"clicks.csv: no column named 'user'"):
        prepare([path], spec_with(), tmp_path / "out", tables_from=tmp_path)
    with pytest.raises(InputError, match=r"elsewhere/users.csv: no such file"):
        prepare([path], spec_with(), tmp_path / "out", tables_from=tmp_path / "elsewhere")
    pl.DataFrame({"id": ["x"], "city": [["a"]], "age": [3]}).write_parquet(tmp_path / "more.parquet")
    tables = [{**USERS, "files": ["users.csv", "more.parquet"]}, ITEMS]
    with pytest.raises(
        InputError, match="its columns have other types than those of the table's other files"
    ):
        prepare([path], spec_with(tables=tables), tmp_path / "out", tables_from=tmp_path)


@pytest.mark.parametrize(("tables", "said"), [
    ([USERS, {**USERS, "key": "nick"}, ITEMS], "two tables bring 'city'"),
    ([{**USERS, "columns": ["city", "age", "item"]}, ITEMS], "brings 'item', by which a table is joined"),
    ([{**USERS, "columns": ["city", "age", "shoe"]}, ITEMS], "brings 'shoe', which nothing uses"),
    ([{**USERS, "columns": ["city", "age", "id"]}, ITEMS], "the key under key alone; remove 'id'"),
    ([{**USERS, "columns": ["city", "age", "city"]}, ITEMS], "list each column once"),
    ([{"files": [], "key": "a", "columns": ["city"]}], "tables.0.files"),
])  # fmt: skip
def test_tables_that_contradict_each_other(tables: list, said: str):
    with pytest.raises(InputError) as error:
        spec_with(tables=tables)
    assert said in str(error.value)


def test_a_damaged_stored_table_is_named(tmp_path: Path):
    data = joined(tmp_path)
    stored = data.folder / "encoding" / "tables" / "1.parquet"
    stored.write_bytes(stored.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"1\.parquet: damaged"):
        Encoder.open(data.folder / "encoding")
    with pytest.raises(InputError, match=r"1\.parquet: its bytes are not the ones"):
        data.verify()
    stored.unlink()
    with pytest.raises(InputError, match=r"1\.parquet: no such file"):
        Encoder.open(data.folder / "encoding")


def test_data_without_tables_keep_their_record(tmp_path: Path):
    """Digests of results that were published before there were side tables stay true."""
    spec = DataSpec.parse({**SPEC, "columns": SPEC["columns"][:2], "group": ""}, "spec")
    pl.DataFrame(make_rows()).write_csv(tmp_path / "t.csv")
    data = prepare([tmp_path / "t.csv"], spec, tmp_path / "out")
    assert "tables" not in data.record
    assert "tables" not in data.record["spec"]
    assert "tables" not in json.loads((data.folder / "encoding" / "spec.json").read_text())
    assert spec.digest() == "a484b3bb32e38dc5e6c2400cad22cd8482523287cf77edc606c3b70c2cc19637"


def test_a_draft_with_side_tables_prepares_as_it_is(tmp_path: Path):
    rng = np.random.default_rng(0)
    clicks = pl.DataFrame({"click": rng.integers(0, 2, 300), "user_id": rng.integers(0, 20, 300),
                           "movie_id": rng.integers(0, 30, 300)})  # fmt: skip
    genres = ["a|b|c"[: 2 * (k % 3) + 1] + "|c" * (k % 2) for k in range(30)]
    movies = pl.DataFrame({"movie_id": range(30), "genres": genres,
                           "score": [k % 5 + 1 for k in range(30)], "adult": [k % 2 for k in range(30)],
                           "price": rng.normal(size=30).round(3), "nothing": [None] * 30})  # fmt: skip
    (tmp_path / "schema").mkdir()
    (tmp_path / "side").mkdir()
    clicks.write_csv(tmp_path / "clicks.csv")
    movies.write_csv(tmp_path / "side" / "movies.csv")
    files = [tmp_path / "clicks.csv"], [tmp_path / "side" / "movies.csv"]
    text = infer_spec(*files, tmp_path / "schema")
    (tmp_path / "schema" / "s.toml").write_text(text)
    spec = DataSpec.load(tmp_path / "schema" / "s.toml")
    assert [(c.name, c.kind, c.side) for c in spec.columns] == [
        ("user_id", "categorical", "user"), ("movie_id", "categorical", "item"), ("genres", "bag", "item"),
        ("adult", "categorical", "item"), ("price", "numeric", "item")]  # fmt: skip
    assert [label.name for label in spec.labels] == ["click"]
    assert spec.tables[0].model_dump()["files"] == ("../side/movies.csv",)
    assert spec.tables[0].columns == ("genres", "adult", "price")
    assert "# left out: score: looks like a rating and stands in a side table" in text
    data = prepare(files[0], spec, tmp_path / "out", tables_from=tmp_path / "schema")
    assert sum(len(data.split(name)) for name in data.names) == 300
    clicks.rename({"movie_id": "film"}).write_csv(tmp_path / "clicks.csv")
    with pytest.raises(
        InputError, match=r"movies.csv: has no column of .*clicks.csv, where a side table needs one"
    ):
        infer_spec(*files)
