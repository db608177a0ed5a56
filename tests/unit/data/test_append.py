"""Appending equals one preparation by the first part's vocabularies, in loops; a failure changes nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recsys_zoo.data.append import append
from recsys_zoo.data.describe import describe
from recsys_zoo.data.encode import Encoder
from recsys_zoo.data.prepare import prepare
from recsys_zoo.data.spec import DataSpec
from recsys_zoo.data.store import Prepared
from recsys_zoo.errors import InputError

from . import test_tables
from .tables import Row, as_frame, naive, toy_rows, toy_spec

PARTS = ("train", "valid", "test")


def days(seed: int, rows: int = 40) -> list[Row]:
    """Rows of later days: users u5 to u13 (some are new), items and tags that were not there before."""
    made = toy_rows(rows, seed)
    for k, row in enumerate(made):
        row["user"] = f"u{5 + (k * 7) % 9}"
        row["item"] = None if k % 9 == 2 else f"i{5 + k % 12}"
        row["tags"] = "|".join(f"i{j}" for j in range(3 + k % 2, 8, 2 + k % 3))
        row["price"] = None if row["price"] is None else 3 * row["price"] + 7
    return made


def write(rows: list[Row], path: Path) -> Path:
    frame = as_frame(rows).drop("part")  # the rule that divided the first rows is not needed any more
    frame.write_parquet(path) if path.suffix == ".parquet" else frame.write_csv(path)
    return path


def first_part(folder: Path, rows: int = 60) -> Prepared:
    as_frame(toy_rows(rows)).write_csv(folder / "toy.csv")
    return prepare([folder / "toy.csv"], toy_spec(), folder / "data", batch_rows=13)


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def naive_by_first(rows: list[Row]) -> tuple[list[list[int]], list[list[float]]]:
    """All rows by loops with vocabularies and numbers of the first 60: later ones never count as training."""
    marked = [{**row, "part": row["part"] if k < 60 else "later"} for k, row in enumerate(rows)]
    return naive(marked)[1:]


def check_splits(data: Prepared, parts: dict[str, list[int]], rows: list[Row], matrix, numbers) -> None:
    texts = list(dict.fromkeys(row["user"] for row in rows))
    for name, places in parts.items():
        split = data.split(name)
        assert split.ids.tolist() == [matrix[k] for k in places], name
        np.testing.assert_allclose(split.numeric, [numbers[k] for k in places], rtol=1e-6, atol=1e-6)
        assert split.labels[:, 0].tolist() == [rows[k]["click"] for k in places]
        assert split.group.tolist() == [texts.index(rows[k]["user"]) for k in places]
        entry = data.record["splits"][name]
        assert entry["rows"] == len(places)
        assert entry["positives"] == [sum(rows[k]["click"] for k in places)]


@pytest.mark.parametrize("size", [5, 1000])
def test_appending_equals_one_preparation_by_the_first_vocabulary(tmp_path: Path, size: int):
    old = first_part(tmp_path)
    encoding = content(old.folder / "encoding")
    schema = old.schema
    new = days(1), days(2), days(3, 20)
    a, b = write(new[0], tmp_path / "a.csv"), write(new[1], tmp_path / "b.parquet")
    append(old.folder, {"train": [a], "test": [b]}, batch_rows=size)
    data = append(old.folder, {"valid": [write(new[2], tmp_path / "c.csv")]}, batch_rows=size)
    data.verify()
    rows = toy_rows() + new[0] + new[1] + new[2]
    parts = {name: [k for k in range(60) if rows[k]["part"] == name] for name in PARTS}
    parts["train"] += range(60, 100)
    parts["test"] += range(100, 140)
    parts["valid"] += range(140, 160)
    matrix, numbers = naive_by_first(rows)
    check_splits(data, parts, rows, matrix, numbers)
    assert {1} < set(data.split("test").ids[12:, 0].tolist())  # strangers, and users that were known
    assert content(data.folder / "encoding") == encoding
    assert data.schema == schema
    assert data.record["appended"] == [
        {"rows": {"train": 40, "test": 40}, "new_ids": {}},
        {"rows": {"valid": 20}, "new_ids": {}},
    ]


def grown_by_loops(rows: list[Row], first: int) -> dict[str, dict[str, int]]:
    """Ids after growing: the old ones, then values of later rows by falling count, then by text."""
    marked = [{**row, "part": row["part"] if k < first else "later"} for k, row in enumerate(rows)]
    tables, matrix, _ = naive(marked)
    old_levels = {k: row[3] for k, row in enumerate(matrix)}
    assert 1 not in {old_levels[k] for k in range(first, len(rows)) if rows[k]["price"] is not None}
    later = {name: Counter() for name in tables}
    for row in rows[first:]:
        later["user"][row["user"]] += 1
        seen = [piece for piece in (row["seen"] or "").split("^") if piece]
        later["item"].update([*([row["item"]] if row["item"] else []), *seen])
        later["tags"].update([piece for piece in row["tags"].split("|") if piece])
        number = row["count"]
        later["bucket"][str(int(np.floor(np.log(number) ** 2)) if number > 2 else number)] += 1
    for name, counts in later.items():
        fresh = [v for v in counts if v not in tables[name] and counts[v] >= (2 if name == "item" else 1)]
        for value in sorted(fresh, key=lambda v: (-counts[v], v.encode())):
            tables[name][value] = len(tables[name]) + 2
    return tables


def test_growth_puts_new_ids_behind_the_old_ones(tmp_path: Path):
    old = first_part(tmp_path)
    before = {
        name: v.values.to_list() for name, v in Encoder.open(old.folder / "encoding").vocabularies.items()
    }
    fitted, unchanged = old.record["fitted"], np.array(old.split("valid").ids)
    new, held = days(1), days(2)
    files = {"train": [write(new, tmp_path / "a.csv")], "test": [write(held, tmp_path / "b.csv")]}
    data = append(old.folder, files, grow=True, batch_rows=9)
    data.verify()
    expected = grown_by_loops(toy_rows() + new, 60)
    vocabularies = Encoder.open(data.folder / "encoding").vocabularies
    for name, table in expected.items():
        values = vocabularies[name].values.to_list()
        assert {value: k + 2 for k, value in enumerate(values)} == table
        assert values[: len(before[name])] == before[name]
        assert data.table_sizes[name] == len(table) + 2
    assert data.record["appended"][0]["new_ids"] == {
        name: len(expected[name]) - len(before[name])
        for name in data.table_sizes
        if len(expected[name]) > len(before[name])
    }
    assert {"user", "item"} <= data.record["appended"][0]["new_ids"].keys()
    assert data.record["fitted"] == fitted
    assert np.array_equal(data.split("valid").ids, unchanged)
    users = expected["user"]
    assert data.split("train").ids[36:, 0].tolist() == [users[row["user"]] for row in new]
    assert data.split("test").ids[12:, 0].tolist() == [users.get(row["user"], 1) for row in held]
    items = expected["item"]
    assert data.split("test").ids[12:, 1].tolist() == [items.get(row["item"], 1) for row in held]
    assert data.schema.column("seen").vocab_size == len(items) + 2
    assert "test" in describe(data)


def test_rare_values_of_new_days_do_not_grow(tmp_path: Path):
    old = first_part(tmp_path)
    sizes = old.table_sizes
    rows = days(1, 10)
    for k, row in enumerate(rows):
        row["item"], row["seen"] = ("once" if k == 3 else "twice" if k in (4, 5) else "i1"), ""
    append(old.folder, {"train": [write(rows, tmp_path / "a.csv")]}, grow=True)
    vocabulary = Encoder.open(old.folder / "encoding").vocabularies["item"]  # min_count = 2
    assert vocabulary.encode(pl.Series(["once", "twice"])).tolist() == [1, sizes["item"]]
    assert vocabulary.counts.to_list()[-1] == 2


def test_a_split_that_was_not_there(tmp_path: Path):
    as_frame(toy_rows()).with_columns(part=pl.lit("train")).write_csv(tmp_path / "toy.csv")
    old = prepare([tmp_path / "toy.csv"], toy_spec(), tmp_path / "data")
    assert old.names == ("train",)
    data = append(old.folder, {"test": [write(days(1), tmp_path / "a.csv")]})
    assert (data.names, len(data.split("test"))) == (("train", "test"), 40)
    data.verify()


def test_weights_and_labels_that_drop_rows(tmp_path: Path):
    rows = [{**row, "rating": k % 5 + 1, "w": k / 4} for k, row in enumerate(toy_rows())]
    labels = [{"name": "liked", "column": "rating", "above": 3, "drop_equal": True}]
    spec = toy_spec(labels=labels, weight="w", group="")
    as_frame(rows).write_csv(tmp_path / "toy.csv")
    prepare([tmp_path / "toy.csv"], spec, tmp_path / "data")
    new = [{**row, "rating": k % 5 + 1, "w": k / 8} for k, row in enumerate(days(1))]
    data = append(tmp_path / "data", {"train": [write(new, tmp_path / "a.csv")]}, batch_rows=3)
    kept = [row for row in rows if row["part"] == "train" and row["rating"] != 3]
    kept += [row for row in new if row["rating"] != 3]
    assert data.split("train").weight.tolist() == [row["w"] for row in kept]
    assert data.split("train").labels[:, 0].tolist() == [float(row["rating"] > 3) for row in kept]
    same = write([{**row, "rating": 3} for row in new], tmp_path / "b.csv")
    with pytest.raises(InputError, match="split 'train' gets no row: the labels drop all rows of its files"):
        append(tmp_path / "data", {"train": [same]})


def test_side_tables_stay_or_are_read_again(tmp_path: Path):
    data = test_tables.joined(tmp_path)
    absent = data.record["tables"][1]["absent"]
    rows, (users, items) = test_tables.make_rows(), test_tables.make_tables()
    new = [{"user": k % 12, "item": f"i{k % 9}", "click": k % 2} for k in range(18)]
    pl.DataFrame(new).write_csv(tmp_path / "new.csv")
    data = append(data.folder, {"train": [tmp_path / "new.csv"]})
    assert data.record["tables"][1]["absent"] == absent + 4  # i7 and i8, twice
    items += [{"item": f"i{k}", "genres": ["g1"], "year": 1991} for k in (7, 8)]
    test_tables.write(tmp_path, rows, users, items)
    spec = test_tables.spec_with()
    files = {"train": [tmp_path / "new.csv"]}
    data = append(data.folder, files, allow_repeat=True, spec=spec, tables_from=tmp_path)
    data.verify()
    assert data.record["tables"][1] == {
        "file": "items.parquet",
        "key": "item",
        "keys": 9,
        "absent": absent + 4,
    }
    encoder = Encoder.open(data.folder / "encoding")
    wide = pl.DataFrame(test_tables.joined_by_hand(new, users, items))
    expected = encoder.encode(wide)
    found = data.split("train").inputs(slice(len(data.split("train")) - 18, None))
    assert found.ids.tolist() == expected.ids.tolist()
    assert found.bags["genres"].tolist() == expected.bags["genres"].tolist()
    assert encoder.encode({"user": [1], "item": ["i8"]}).bags["genres"][0, 0] > 1
    other = test_tables.spec_with(group="user")
    with pytest.raises(InputError, match=r"the schema's 'group' is not the one that .*out was prepared with"):
        append(data.folder, {"train": [tmp_path / "new.csv"]}, spec=other, tables_from=tmp_path)


def refusal(folder: Path, split_files: dict[str, list[Path]], **options: object) -> str:
    """The sentence of an append that is refused; checks that nothing in and beside the folder has changed."""
    before, beside = content(folder), sorted(p.name for p in folder.parent.iterdir())
    with pytest.raises(InputError) as error:
        append(folder, split_files, **options)
    assert content(folder) == before
    assert sorted(p.name for p in folder.parent.iterdir()) == beside
    assert "\n" not in str(error.value)
    return str(error.value)


def test_an_append_that_fails_changes_nothing(tmp_path: Path):
    old = first_part(tmp_path)
    good, rows = write(days(1), tmp_path / "a.csv"), days(2)
    bad = write([{**row, "click": 2 if k == 30 else 1} for k, row in enumerate(rows)], tmp_path / "b.csv")
    text = refusal(old.folder, {"train": [good, bad]}, batch_rows=7)
    assert "b.csv: column 'click', row 31: the label '2' is not 0 or 1" in text
    bad = write(
        [{**row, "price": "dear" if k == 39 else 1} for k, row in enumerate(rows)], tmp_path / "b.csv"
    )
    assert "column 'price', row 40: 'dear' is not a number" in refusal(old.folder, {"train": [good, bad]})
    as_frame(rows).drop("seen").write_csv(tmp_path / "b.csv")
    assert "b.csv: no column named 'seen'" in refusal(old.folder, {"train": [good, bad]})
    assert "none.csv: no such file" in refusal(old.folder, {"train": [tmp_path / "none.csv"]})
    assert "no split named 'vaild'; did you mean ['valid']?" in refusal(old.folder, {"vaild": [good]})
    assert "no file is given" in refusal(old.folder, {})
    assert "no file is appended to 'train'" in refusal(old.folder, {"test": [good]}, grow=True)
    Prepared.open(old.folder).verify()


def test_a_damaged_or_foreign_folder_is_refused(tmp_path: Path):
    old, good = first_part(tmp_path), write(days(1), tmp_path / "a.csv")
    with pytest.raises(InputError, match="no such folder"):
        append(tmp_path / "nowhere" / "data", {"train": [good]})
    assert not (tmp_path / "nowhere").exists()
    groups = (old.folder / "groups.parquet").read_bytes()
    (old.folder / "groups.parquet").unlink()
    assert "groups.parquet: no such file" in refusal(old.folder, {"train": [good]})
    (old.folder / "groups.parquet").write_bytes(groups)
    ids = old.folder / "train" / "ids.npy"
    ids.write_bytes(ids.read_bytes()[:-1] + b"\x07")
    assert "ids.npy: its bytes are not the ones that were written" in refusal(old.folder, {"train": [good]})
    append(old.folder, {"test": [good]})  # the damaged split is left as it is, its digest too
    with pytest.raises(InputError, match=r"ids.npy: its bytes are not the ones"):
        Prepared.open(old.folder).verify()


def test_a_folder_prepared_before_groups_were_kept(tmp_path: Path):
    old, good = first_part(tmp_path), write(days(1), tmp_path / "a.csv")
    (old.folder / "groups.parquet").unlink()
    record = json.loads((old.folder / "prepared.json").read_text())
    del record["files"]["groups.parquet"]
    (old.folder / "prepared.json").write_text(json.dumps(record))
    assert "no such file; without it new rows cannot join" in refusal(old.folder, {"train": [good]})


KILLED = """
import os, signal, sys
from pathlib import Path
from recsys_zoo.data.append import append

def progress(what, rows, total):
    if (what, rows) == (sys.argv[3], 20):
        os.kill(os.getpid(), signal.SIGKILL)

append(sys.argv[1], {"train": [Path(sys.argv[2])]}, grow=True, batch_rows=10, progress=progress)
"""


@pytest.mark.parametrize("moment", ["count", "encode"])
def test_a_kill_leaves_the_old_folder_whole(tmp_path: Path, moment: str):
    old, good = first_part(tmp_path), write(days(1), tmp_path / "a.csv")
    before = content(old.folder)
    words = [sys.executable, "-c", KILLED, str(old.folder), str(good), moment]
    assert subprocess.run(words, env=dict(os.environ), check=False).returncode == -signal.SIGKILL
    assert content(old.folder) == before
    data = append(old.folder, {"train": [good]}, grow=True)
    data.verify()
    assert len(data.split("train")) == 76
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_two_appends_cannot_lose_rows(tmp_path: Path):
    """The second one is refused while the first is at work."""
    old, good = first_part(tmp_path), write(days(1), tmp_path / "a.csv")
    said = []

    def meanwhile(what: str, rows: int, total: int) -> None:
        with pytest.raises(InputError, match="another process is writing here"):
            append(old.folder, {"train": [good]})
        said.append(what)

    data = append(old.folder, {"train": [good]}, progress=meanwhile)
    assert said == ["count", "encode"]
    assert len(data.split("train")) == 76


def test_a_digest_says_what_was_appended(tmp_path: Path):
    first_part(tmp_path)
    files = {"train": [write(days(1), tmp_path / "a.csv")]}
    digests = []
    for grow in (False, False, True):
        first_part(tmp_path)
        digests.append(append(tmp_path / "data", files, grow=grow).data_digest)
    assert digests[0] == digests[1] != digests[2]


def test_multi_valued_columns_without_max_len_keep_their_width(tmp_path: Path):
    rows = [{**row, "tags": "a|b|c"} for row in toy_rows()]
    as_frame(rows).write_csv(tmp_path / "toy.csv")
    columns = [{"name": "tags", "kind": "bag"}, {"name": "back", "source": "tags", "kind": "sequence"}]
    spec = toy_spec(columns=columns, user="", item="", group="")
    data = prepare([tmp_path / "toy.csv"], DataSpec.parse(spec.model_dump(), "s"), tmp_path / "data")
    new = write([{**row, "tags": "c|b|a|x|y"} for row in days(1)], tmp_path / "a.csv")
    data = append(data.folder, {"train": [new]}, grow=True)
    assert data.split("train").ids[-1].tolist() == [4, 3, 2, 2, 5, 6]
