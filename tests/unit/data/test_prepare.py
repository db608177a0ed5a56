"""A prepared folder against a preparation by loops; bytes that no batch size, format or run can change."""

from __future__ import annotations

import datetime
import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys_zoo.data.prepare import prepare
from recsys_zoo.data.split import hash_unit
from recsys_zoo.data.store import Prepared
from recsys_zoo.schema import Schema

from .tables import Row, as_frame, naive, toy_rows, toy_spec

PARTS = ("train", "valid", "test")


def _prepared(rows: list[Row], folder: Path, **changes: object) -> Prepared:
    as_frame(rows).write_parquet(folder / "toy.parquet")
    options = {"batch_rows": 7, **changes}
    return prepare([folder / "toy.parquet"], options.pop("spec", toy_spec()), folder / "out", **options)


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def _check_against_loops(data: Prepared, rows: list[Row]) -> None:
    tables, matrix, numbers = naive(rows)
    for name, table in tables.items():
        frame = pl.read_parquet(data.folder / "encoding" / f"{name}.parquet")
        assert dict(zip(frame["value"], frame["id"], strict=True)) == table
    for part in PARTS:
        chosen = [k for k, row in enumerate(rows) if row["part"] == part]
        split = data.split(part)
        assert split.ids.tolist() == [matrix[k] for k in chosen]
        np.testing.assert_allclose(split.numeric, [numbers[k] for k in chosen], rtol=1e-6, atol=1e-6)
        assert split.labels[:, 0].tolist() == [rows[k]["click"] for k in chosen]
        users = list(dict.fromkeys(row["user"] for row in rows))
        assert split.group.tolist() == [users.index(rows[k]["user"]) for k in chosen]


def test_a_folder_equals_the_preparation_by_loops(tmp_path: Path):
    rows = toy_rows(200)
    data = _prepared(rows, tmp_path)
    _check_against_loops(data, rows)
    assert data.names == PARTS
    assert data.table_sizes["item"] == data.schema.column("seen").vocab_size
    data.verify()


_TEXTS = st.sampled_from(["a", "b", "c", "d|e", "ü", "1", "01"])
_ROW = st.fixed_dictionaries({
    "user": _TEXTS, "item": st.one_of(st.none(), _TEXTS),
    "price": st.one_of(st.none(), st.integers(-8, 8).map(lambda k: k / 4)),
    "tags": st.lists(st.sampled_from("xyz"), max_size=4).map("|".join),
    "seen": st.lists(_TEXTS, max_size=5).map("^".join), "count": st.integers(-3, 300),
    "click": st.integers(0, 1), "part": st.sampled_from(PARTS)})


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_ROW, max_size=9), st.integers(2, 9))
def test_any_table_in_any_batches(tmp_path: Path, rows: list[Row], size: int):
    plain = {"user": "a", "item": "a", "price": 1.0, "tags": "", "seen": "", "count": 1}
    rows = rows + [{**plain, "click": label, "part": part} for part in PARTS for label in (0, 1)]
    _check_against_loops(_prepared(rows, tmp_path, batch_rows=size), rows)


LABELS = [{"name": "liked", "column": "rating", "above": 3, "drop_equal": True}]


@pytest.mark.parametrize("changes", [
    {}, {"split": {"method": "hash"}, "labels": LABELS}, {"split": {"method": "hash", "keys": ["item"]}},
    {"split": {"method": "user", "user": "user", "column": "count"}},
    {"split": {"method": "time", "column": "count"}}])
def test_the_bytes_do_not_depend_on_batches_or_runs(tmp_path: Path, changes: dict):
    rows = toy_rows(100)
    for k, row in enumerate(rows):
        row["rating"] = 1 + k % 5
    spec = toy_spec(**changes)
    first = _bytes(_prepared(rows, tmp_path, batch_rows=3, spec=spec).folder)
    for size in (1000, 17):
        assert _bytes(_prepared(rows, tmp_path, batch_rows=size, spec=spec).folder) == first
    assert set(first) == {
        "schema.json", "prepared.json", "sources.json", "groups.parquet",
        "encoding/spec.json", "encoding/numeric.json",
        *(f"encoding/{name}.parquet" for name in ("user", "item", "tags", "bucket", "level")),
        *(f"{part}/{name}.npy" for part in PARTS for name in ("ids", "numeric", "labels", "group"))}


def test_csv_tsv_gzip_and_parquet_give_the_same_folder(tmp_path: Path):
    frame = as_frame(toy_rows(80)).with_columns(
        whole=pl.Series([None if k % 5 == 0 else float(k % 9) for k in range(80)]),  # integers with gaps: 3.0
        yes=pl.Series([k % 3 == 0 for k in range(80)]),
        text=pl.Series(["a,b", 'say "x"', "two\nlines", "ü"] * 20),
        day=pl.Series([datetime.date(2020, 1, 1 + k % 28) for k in range(80)]))
    more = [{"name": name} for name in ("whole", "yes", "text", "day")]
    spec = toy_spec(columns=[*toy_spec().model_dump(mode="json")["columns"], *more])
    frame.write_parquet(tmp_path / "t.parquet")
    frame.write_csv(tmp_path / "t.csv")
    frame.write_csv(tmp_path / "t.tsv", separator="\t")
    frame.write_csv(tmp_path / "semicolon.csv", separator=";")
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress((tmp_path / "t.csv").read_bytes()))
    frame[:31].write_parquet(tmp_path / "one.parquet")
    frame[31:].write_csv(tmp_path / "two.csv")
    folders = [_bytes(prepare([tmp_path / f for f in files], spec, tmp_path / "out", batch_rows=13).folder)
               for files in (["t.parquet"], ["t.csv"], ["t.tsv"], ["semicolon.csv"], ["t.csv.gz"],
                             ["one.parquet", "two.csv"])]
    sources = [folder.pop("sources.json") for folder in folders]
    assert len(set(sources)) == len(sources)
    for other in folders[1:]:
        assert other == folders[0]


def test_values_seen_in_test_only_are_unknown(tmp_path: Path):
    rows = toy_rows()
    for row in rows:
        if row["part"] == "test":
            row["user"] = "stranger"
            row["tags"] = "stranger|i1"
    data = _prepared(rows, tmp_path)
    assert set(data.split("test").ids[:, 0]) == {1}
    assert "stranger" not in pl.read_parquet(data.folder / "encoding" / "user.parquet")["value"]
    tags = data.split("test").ids[:, data.schema.id_slices()["tags"]]
    assert set(tags[:, 0]) == {1}
    assert 1 not in tags[:, 1]


def test_values_behind_max_len_count(tmp_path: Path):
    """A vocabulary does not depend on how many values of a list are kept; what is kept does."""
    lists = ["a|b|c", "b|c", "c|d|b"] * 10 + ["e"]
    rows = [{"click": k % 2, "part": "train", "tags": lists[k]} for k in range(31)]
    found = []
    for kind in ("bag", "sequence"):
        for most in (1, 2, 3):
            column = {"name": "tags", "kind": kind, "max_len": most, "min_count": 10}
            spec = toy_spec(columns=[column], group="", user="", item="")
            data = _prepared(rows, tmp_path, spec=spec)
            values = pl.read_parquet(data.folder / "encoding" / "tags.parquet")
            assert values.select("value", "count").rows() == [("b", 30), ("c", 30), ("a", 10), ("d", 10)]
            found.append(data.split("train").ids[:3].tolist())
    assert found == [
        [[4], [2], [3]], [[4, 2], [2, 3], [3, 5]], [[4, 2, 3], [2, 3, 0], [3, 5, 2]],
        [[3], [3], [2]], [[2, 3], [2, 3], [5, 2]], [[4, 2, 3], [0, 2, 3], [3, 5, 2]]]


def test_a_data_digest_is_moved_by_what_matters(tmp_path: Path):
    rows = toy_rows()
    digest = _prepared(rows, tmp_path).data_digest
    assert _prepared(rows, tmp_path).data_digest == digest
    assert _prepared(rows, tmp_path, spec=toy_spec(note="re-drawn")).data_digest != digest
    rows[3]["click"] = 1 - rows[3]["click"]
    assert _prepared(rows, tmp_path).data_digest != digest


def test_the_record_says_what_is_there(tmp_path: Path):
    rows = toy_rows()
    data = _prepared(rows, tmp_path)
    record = json.loads((data.folder / "prepared.json").read_text())
    assert record["format"] == 1
    assert record["spec"] == toy_spec().model_dump(mode="json")
    for part in PARTS:
        chosen = [row for row in rows if row["part"] == part]
        assert record["splits"][part]["rows"] == len(chosen) == len(data.split(part))
        assert record["splits"][part]["positives"] == [sum(row["click"] for row in chosen)]
    assert Schema.load(data.folder / "schema.json") == data.schema


def test_splits_given_as_files(tmp_path: Path):
    rows = toy_rows()
    files = {}
    for part in ("test", "train", "valid"):  # train need not come first
        as_frame([row for row in rows if row["part"] == part]).write_csv(tmp_path / f"{part}.csv")
        files[part] = [tmp_path / f"{part}.csv"]
    spec = toy_spec(split={"method": "files"})
    given_files = prepare([], spec, tmp_path / "out", split_files=files)
    by_column = _prepared(rows, tmp_path)
    for part in PARTS:
        np.testing.assert_array_equal(given_files.split(part).ids, by_column.split(part).ids)
        np.testing.assert_array_equal(given_files.split(part).labels, by_column.split(part).labels)
    train = files.pop("train")
    assert prepare(train, spec, tmp_path / "two", split_files=files).data_digest == given_files.data_digest


def test_time_and_user_splits_reach_the_folder(tmp_path: Path):
    rows = toy_rows()
    order = np.random.default_rng(1).permutation(len(rows))
    for row, moment in zip(rows, order, strict=True):
        row["at"] = int(moment)
    spec = toy_spec(split={"method": "time", "column": "at", "fractions": {"train": 0.7, "test": 0.3}},
                    columns=[{"name": "at"}], user="", item="")
    data = _prepared(rows, tmp_path, spec=spec)
    assert (len(data.split("train")), len(data.split("test"))) == (42, 18)
    known = set(pl.read_parquet(data.folder / "encoding" / "at.parquet")["value"])
    assert known == {str(k) for k in range(42)}
    spec = toy_spec(split={"method": "user", "user": "user", "column": "at", "last": {"test": 2}},
                    columns=[{"name": "at"}], user="", item="")
    data = _prepared(rows, tmp_path, spec=spec)
    held = {str(row["at"]) for user in {row["user"] for row in rows}
            for mine in [sorted((r for r in rows if r["user"] == user), key=lambda r: r["at"])]
            for row in mine[-2:] if len(mine) > 2}
    known = set(pl.read_parquet(data.folder / "encoding" / "at.parquet")["value"])
    assert known == {str(row["at"]) for row in rows} - held


def test_the_hash_split_puts_equal_keys_together(tmp_path: Path):
    rows = toy_rows(120)
    spec = toy_spec(split={"method": "hash", "keys": ["user"], "fractions": {"train": 0.5, "test": 0.5}})
    data = _prepared(rows, tmp_path, spec=spec)
    groups = [set(data.split(name).group.tolist()) for name in ("train", "test")]
    assert not groups[0] & groups[1]
    assert len(data.split("train")) + len(data.split("test")) == 120


def test_labels_by_threshold_drop_the_rows_between(tmp_path: Path):
    rows = toy_rows()
    for k, row in enumerate(rows):
        row["rating"] = 1 + k % 5
    labels = [{"name": "liked", "column": "rating", "above": 3, "drop_equal": True},
              {"name": "best", "column": "rating", "above": 4.5}]
    split = {"method": "hash", "fractions": {"train": 0.8, "test": 0.2}}
    data = _prepared(rows, tmp_path, spec=toy_spec(labels=labels, split=split))
    both = np.concatenate([data.split("train").labels, data.split("test").labels])
    assert data.schema.labels == ("liked", "best")
    assert len(both) == 48  # 12 of 60 rows have rating 3
    unit = hash_unit([np.arange(60).astype(str)])  # row numbers count the dropped rows too
    held = [k % 5 > 2 for k in range(60) if unit[k] >= 0.8 and k % 5 != 2]
    assert data.split("test").labels[:, 0].tolist() == held
    assert both.sum(0).tolist() == [24, 12]
    assert set(map(tuple, both.tolist())) == {(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)}


def test_weights_and_data_without_labels(tmp_path: Path):
    rows = toy_rows()
    for k, row in enumerate(rows):
        row["w"] = k / 8
    data = _prepared(rows, tmp_path, spec=toy_spec(weight="w", labels=[]))
    assert data.split("train").weight.tolist() == [k / 8 for k in range(36)]
    assert data.split("train").batch(np.array([8])).weight.tolist() == [1.0]
    assert data.split("test").labels.shape == (12, 0)


def test_lists_in_parquet_equal_joined_texts(tmp_path: Path):
    rows = toy_rows()
    joined = _prepared(rows, tmp_path)
    ids = {part: np.array(joined.split(part).ids) for part in PARTS}
    for row in rows:
        row["tags"] = row["tags"].split("|")
        row["seen"] = row["seen"].split("^") if row["seen"] else None
    lists = _prepared(rows, tmp_path)
    for part in PARTS:
        np.testing.assert_array_equal(lists.split(part).ids, ids[part])


def test_max_len_zero_takes_the_longest_training_row(tmp_path: Path):
    rows = toy_rows()
    for row in rows:
        row["tags"] = "a|b|c" if row["part"] == "train" else "a|b|c|d|e"
    columns = [{"name": "tags", "kind": "bag"}, {"name": "back", "source": "tags", "kind": "sequence"}]
    data = _prepared(rows, tmp_path, spec=toy_spec(columns=columns, user="", item=""))
    assert [column.max_len for column in data.schema.columns] == [3, 3]
    assert data.split("test").ids[0].tolist() == [2, 3, 4, 4, 1, 1]  # the first three, then the last three


def test_headers_null_values_and_blank_lines_of_text_files(tmp_path: Path):
    lines = [f"{k % 2};{'NA' if k == 3 else 'u'}\n" for k in range(20)]
    (tmp_path / "raw.txt").write_text("".join(lines[:5]) + "\n" + "".join(lines[5:]) + "\n")
    spec = toy_spec(columns=[{"name": "user"}], item="", group="", labels=["click"],
                    split={"method": "hash", "fractions": {"train": 0.5, "test": 0.5}},
                    read={"header": ["click", "user"], "null_values": ["NA"]})
    data = prepare([tmp_path / "raw.txt"], spec, tmp_path / "out")
    ids = [*data.split("train").ids[:, 0].tolist(), *data.split("test").ids[:, 0].tolist()]
    assert sorted(ids) == [1] + [2] * 19


@pytest.mark.parametrize("blank", ["", "\n"])
def test_a_row_with_a_number_alone_is_a_row_in_both_passes(tmp_path: Path, blank: str):
    """The counting pass reads such a column only where a row without it could pass for a blank line."""
    (tmp_path / "raw.csv").write_text(f"user,price\nu,1\n{blank},2\nv,3\n")
    spec = toy_spec(columns=[{"name": "user"}, {"name": "price", "kind": "numeric"}], item="", group="",
                    labels=[], split={"method": "files"})
    data = prepare([], spec, tmp_path / "out", split_files={"train": [tmp_path / "raw.csv"]})
    assert data.split("train").numeric[:, 0].tolist() == [1, 2, 3]
    assert data.split("train").ids[:, 0].tolist() == [2, 1, 3]
    numbers = spec.model_copy(update={"columns": spec.columns[1:], "user": ""})  # nothing to count
    data = prepare([], numbers, tmp_path / "out", split_files={"train": [tmp_path / "raw.csv"]})
    assert data.split("train").numeric[:, 0].tolist() == [1, 2, 3]


def test_a_prepared_folder_is_replaced_and_progress_told(tmp_path: Path):
    told: list[tuple[str, int, int]] = []
    first = _prepared(toy_rows(60), tmp_path).data_digest
    second = _prepared(toy_rows(90), tmp_path, batch_rows=50, progress=lambda *step: told.append(step))
    assert second.data_digest != first
    assert told == [("count", 50, 0), ("count", 90, 0), ("encode", 50, 90), ("encode", 90, 90)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "toy.parquet"]


@pytest.mark.parametrize("name", ["a/b", "..", "na me", "ü"])
def test_a_column_name_that_is_no_file_name(tmp_path: Path, name: str):
    rows = [{**row, name: row["user"]} for row in toy_rows()]
    data = _prepared(rows, tmp_path, spec=toy_spec(columns=[{"name": name}], user="", item=""))
    data.verify()
    assert len(list((data.folder / "encoding").glob("*.parquet"))) == 1


MEMORY = """
import sys
from pathlib import Path
from recsys_zoo.data.read import read_chunks
from recsys_zoo.data.spec import ReadSpec
most = 0
for chunk in read_chunks(Path(sys.argv[1]), [f"c{i}" for i in range(20)], ReadSpec(), 32768):
    status = Path("/proc/self/status").read_text().splitlines()
    most = max(most, *(int(line.split()[1]) for line in status if line.startswith("RssAnon")))
print(most / 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_a_parquet_file(tmp_path: Path):
    """Row groups as polars writes them by default; mapped pages of the file itself do not count."""
    peaks = []
    for rows in (400_000, 1_600_000):
        numbers = np.random.default_rng(0).integers(0, 100_000, rows)
        frame = pl.DataFrame({f"c{i}": numbers + i for i in range(20)}).cast(pl.String)
        frame.write_parquet(tmp_path / "t.parquet")
        words = [sys.executable, "-c", MEMORY, str(tmp_path / "t.parquet")]
        peaks.append(float(subprocess.run(words, capture_output=True, text=True, check=True).stdout))
    assert peaks[1] < 1.5 * peaks[0], peaks
