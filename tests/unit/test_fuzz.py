"""Damaged files of every kind: each reader succeeds or says one sentence, and leaves nothing behind.

Five readers of 20 cases each in `make test`, of 200 in `make test-all`. Cases are drawn by a generator of
their own and are always the same ones; those of hypothesis change with the modules that are loaded, whose
numbers it tries.
"""

from __future__ import annotations

import io
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import polars as pl
import pytest

from recsys_zoo import create, load
from recsys_zoo.board.rows import read_rows
from recsys_zoo.board.scores import read_scores
from recsys_zoo.data.prepare import prepare
from recsys_zoo.data.read import column_names
from recsys_zoo.data.spec import DataSpec, ReadSpec, TableSpec
from recsys_zoo.data.tables import Table
from recsys_zoo.data.vocab import Vocabulary
from recsys_zoo.errors import InputError
from recsys_zoo.runs import read_recipe
from recsys_zoo.train.checkpoint import save_checkpoint
from tests import toys

from .board.toys import row
from .data.tables import as_frame, toy_rows, toy_spec

PIECES = [b"nan", b"1e999", b'"', b",", b"\n", b"\r", b"\xff\xfe", b"\0", b"]", b"=", b"-1", b"9" * 20]
KINDS = ["flip", "cut", "insert", "repeat", "end"]
Change = tuple[str, float, int, bytes]


def accidents(cases: int) -> Iterator[list[Change]]:
    """One to four changes a case; in every fourth case they happen four times over."""
    rng = random.Random(5)
    for case in range(cases):
        changes = [
            (rng.choice(KINDS), rng.random(), rng.randint(1, 255), rng.choice(PIECES))
            for _ in range(rng.randint(1, 4))
        ]
        yield changes * (4 if case % 4 == 3 else 1)


def damaged(content: bytes, changes: list[Change]) -> bytes:
    """The content after some accidents, each at a share of its length."""
    for kind, share, number, piece in changes:
        at = int(share * len(content))
        if kind == "flip" and content:
            content = content[:at] + bytes([content[at] ^ number]) + content[at + 1 :]
        elif kind == "cut":
            content = content[:at] + content[at + number :]
        elif kind == "insert":
            content = content[:at] + piece + content[at:]
        elif kind == "repeat":
            content = content[: at + number] + content[at:]
        elif kind == "end":
            content = content[:at]
    return content


def one_sentence(read: Callable[[], object]) -> bool:
    """Whether reading succeeded; else its error must be one line for a user."""
    said = None
    try:
        read()
    except InputError as error:
        said = str(error)
    assert said is None or (said and "\n" not in said), said
    return said is None


def csv_table() -> bytes:
    return as_frame(toy_rows()).write_csv().encode()


def parquet_table() -> bytes:
    buffer = io.BytesIO()
    as_frame(toy_rows()).write_parquet(buffer)
    return buffer.getvalue()


def check_table(name: str, content: bytes, folder: Path) -> None:
    (folder / name).write_bytes(content)
    done = one_sentence(lambda: prepare([folder / name], toy_spec(), folder / "out", batch_rows=16))
    assert sorted(p.name for p in folder.iterdir()) == sorted([name, *(["out"] if done else [])])


def check_spec(content: bytes, folder: Path) -> None:
    (folder / "spec.toml").write_bytes(content)
    one_sentence(lambda: DataSpec.load(folder / "spec.toml"))


def check_recipe(content: bytes, folder: Path) -> None:
    (folder / "recipe.toml").write_bytes(content)
    one_sentence(lambda: read_recipe(folder / "recipe.toml").resolved())


def check_rows(content: bytes, folder: Path) -> None:
    (folder / "rows.jsonl").write_bytes(content)
    one_sentence(lambda: read_rows(folder / "rows.jsonl"))


SPEC = b"""
dataset = "toy"
labels = ["click"]
group = "user"
[[columns]]
name = "user"
side = "user"
[[columns]]
name = "price"
kind = "numeric"
rule = "standardise"
[split]
method = "hash"
keys = ["user"]
fractions = {train = 0.8, valid = 0.1, test = 0.1}
"""
RECIPE = b"""
board = "own"
data = "shop"
[model]
name = "autoint.plus"
layers = 2
[model.embedding]
dim = 4
[train]
lr = 1e-3
stages = [{name = "all", epochs = 2}]
"""
READERS = {
    "csv": (csv_table, lambda content, folder: check_table("t.csv", content, folder)),
    "parquet": (parquet_table, lambda content, folder: check_table("t.parquet", content, folder)),
    "spec": (lambda: SPEC, check_spec),
    "recipe": (lambda: RECIPE, check_recipe),
    "rows": (lambda: (row("fm", 0.9).model_dump_json() + "\n").encode() * 3, check_rows),
}


def fuzz(name: str, cases: int) -> None:
    make, check = READERS[name]
    content = make()
    for changes in accidents(cases):
        with tempfile.TemporaryDirectory() as folder:
            check(damaged(content, changes), Path(folder))


@pytest.mark.parametrize("name", READERS)
def test_whole_files_are_read(name, tmp_path):
    make, check = READERS[name]
    check(make(), tmp_path)
    if name in ("csv", "parquet"):
        assert (tmp_path / "out" / "prepared.json").is_file()


@pytest.mark.parametrize("name", READERS)
def test_damaged_files(name):
    fuzz(name, 20)


def test_a_parquet_file_that_makes_polars_panic(tmp_path):
    """A page of the last integer column is there five times: polars (2.1) says nothing, it panics."""
    content = damaged(parquet_table(), [("repeat", 0.4624186341949115, 75, b"")] * 4)
    path = tmp_path / "t.parquet"
    path.write_bytes(content)
    with pytest.raises((pl.exceptions.PanicException, pl.exceptions.PolarsError)):
        pl.read_parquet(path, columns=["click"])
    path.unlink()
    check_table("t.parquet", content, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["t.parquet"]


@pytest.mark.parametrize("place", ["rows", "schema", "vocabulary", "side table", "scores"])
def test_a_panic_is_one_sentence_wherever_parquet_is_read(place, tmp_path, monkeypatch):
    path = tmp_path / "t.parquet"
    path.write_bytes(parquet_table())

    def panic(*_, **__):
        raise pl.exceptions.PanicException("a page is missing\nand so on")

    monkeypatch.setattr(pl, "read_parquet", panic)
    monkeypatch.setattr(pl.LazyFrame, "collect_schema" if place == "schema" else "collect", panic)
    read = {
        "rows": lambda: prepare([path], toy_spec(), tmp_path / "out"),
        "schema": lambda: column_names(path, ReadSpec()),
        "vocabulary": lambda: Vocabulary.open(path),
        "side table": lambda: Table.open(path, TableSpec(files=("t",), key="item", columns=("price",))),
        "scores": lambda: read_scores(path),
    }[place]
    with pytest.raises(InputError, match=r"t\.parquet: damaged, .* \(a page is missing\)$"):
        read()
    assert [p.name for p in tmp_path.iterdir()] == ["t.parquet"]


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_damaged_files_many(name):
    fuzz(name, 200)


def test_every_file_of_a_checkpoint_is_covered_by_a_digest(tmp_path):
    """A change of any file is refused in one sentence, unless it is white space in JSON."""
    model = create("fm", toys.MIXED, embedding={"dim": 2})
    save_checkpoint(tmp_path / "whole", model, "fm", model.cfg.model_dump(mode="json"))
    files = [p.relative_to(tmp_path / "whole") for p in (tmp_path / "whole").rglob("*") if p.is_file()]
    assert len(files) == 3
    for case, changes in enumerate(accidents(40)):
        name = files[case % len(files)]
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, "copy")
            shutil.copytree(tmp_path / "whole", copy)
            before = (copy / name).read_bytes()
            after = damaged(before, changes)
            (copy / name).write_bytes(after)
            if one_sentence(partial(load, copy)):
                assert after == before or (name.name == "config.json" and after.split() == before.split())


def test_damage_damages():
    """The accidents do what they are named for."""
    assert damaged(b"abcd", [("flip", 0.5, 1, b"")]) == b"abbd"
    assert damaged(b"abcd", [("cut", 0.25, 2, b"")]) == b"ad"
    assert damaged(b"abcd", [("insert", 0.5, 1, b"--")]) == b"ab--cd"
    assert damaged(b"abcd", [("repeat", 0.25, 2, b"")]) == b"abcbcd"
    assert damaged(b"abcd", [("end", 0.75, 1, b"")]) == b"abc"
    assert pl.read_csv(csv_table()).height == len(toy_rows())
