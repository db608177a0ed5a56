"""Files that join a prepared folder a second time are refused, by their bytes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from recsys_zoo.data.append import append
from recsys_zoo.data.prepare import prepare
from recsys_zoo.data.store import Prepared
from recsys_zoo.errors import InputError

from .tables import toy_rows, toy_spec
from .test_append import days, first_part, refusal, write


def recorded(folder: Path) -> list[tuple[str, str]]:
    record = json.loads((folder / "sources.json").read_text())
    return [(entry["file"], entry["sha256"]) for entry in record["files"]]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_file_is_recorded(tmp_path: Path):
    old, day = first_part(tmp_path), write(days(1), tmp_path / "day.csv")
    assert recorded(old.folder) == [("toy.csv", digest(tmp_path / "toy.csv"))]
    append(old.folder, {"test": [day]})
    assert recorded(old.folder) == [("toy.csv", digest(tmp_path / "toy.csv")), ("day.csv", digest(day))]
    Prepared.open(old.folder).verify()


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_file_that_is_there_is_refused_under_any_name(tmp_path: Path, split: str):
    old, day = first_part(tmp_path), write(days(1), tmp_path / "day.csv")
    append(old.folder, {"train": [day]})
    (tmp_path / "other.csv").write_bytes(day.read_bytes())
    first = tmp_path / "first.csv"
    first.write_bytes((tmp_path / "toy.csv").read_bytes())
    new = write(days(2), tmp_path / "new.csv")
    for path, known in ((day, "day.csv"), (tmp_path / "other.csv", "day.csv"), (first, "toy.csv")):
        said = refusal(old.folder, {split: [new, path]})
        assert said.startswith(f"{path}: has the same bytes as {known!r}, which {old.folder} holds already")
        assert "--allow-repeat (allow_repeat=True in Python)" in said
    said = refusal(old.folder, {"valid": [new], "test": [new]})
    assert f"{new}: has the same bytes as '{new}', which is given too" in said
    assert len(append(old.folder, {"train": [new]}).split("train")) == 36 + 40 + 40


def test_a_repeat_that_is_meant(tmp_path: Path):
    old, day = first_part(tmp_path), write(days(1), tmp_path / "day.csv")
    append(old.folder, {"train": [day]})
    data = append(old.folder, {"train": [day, day]}, allow_repeat=True)
    assert len(data.split("train")) == 36 + 3 * 40
    ids = data.split("train").ids[36:].reshape(3, 40, -1)
    assert (ids[0] == ids[1]).all()
    assert (ids[0] == ids[2]).all()


def test_a_changed_file_is_another_one(tmp_path: Path):
    old, day = first_part(tmp_path), write(days(1), tmp_path / "day.csv")
    append(old.folder, {"train": [day]})
    write([*days(1)[:-1], {**days(1)[-1], "user": "u6"}], day)
    assert len(append(old.folder, {"train": [day]}).split("train")) == 36 + 80


def test_a_folder_without_a_record_takes_files_and_says_what_it_cannot_know(tmp_path: Path):
    old, day = first_part(tmp_path), write(days(1), tmp_path / "day.csv")
    (old.folder / "sources.json").unlink()
    said: list[str] = []
    append(old.folder, {"train": [day]}, say=said.append)
    append(old.folder, {"train": [write(days(2), tmp_path / "new.csv")]}, say=said.append)
    assert len(said) == 2
    assert len(set(said)) == 1
    assert f"{old.folder}: was prepared before files were recorded" in said[0]
    with pytest.raises(InputError, match="has the same bytes as"):
        append(old.folder, {"train": [day]}, say=said.append)  # this one is known
    said.clear()
    append(first_part(tmp_path).folder, {"train": [day]}, say=said.append)
    assert said == []


@pytest.mark.parametrize("text", ["{", "[]", '{"files": [], "complete"', '{"complete": true, "files": [{}]}'])
def test_a_damaged_record(tmp_path: Path, text: str):
    old, day = first_part(tmp_path), write(days(1), tmp_path / "day.csv")
    (old.folder / "sources.json").write_text(text)
    assert "sources.json: damaged; remove it to append" in refusal(old.folder, {"train": [day]})


def test_one_preparation_may_use_a_file_twice(tmp_path: Path):
    """Some published data are validated on their test file."""
    paths = {name: write(toy_rows(60, seed), tmp_path / f"{name}.csv") for name, seed in (("a", 0), ("b", 1))}
    spec = toy_spec(split={"method": "files"})
    splits = {"train": [paths["a"]], "valid": [paths["b"]], "test": [paths["b"]]}
    data = prepare([], spec, tmp_path / "data", split_files=splits)
    assert data.split("valid").ids.tolist() == data.split("test").ids.tolist()
    assert recorded(data.folder) == [(p.name, digest(p)) for p in (paths["a"], paths["b"], paths["b"])]
