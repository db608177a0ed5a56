"""Rows survive their files; files of rows only grow, whole, also with several writers."""

from __future__ import annotations

import errno
import json
import math
import multiprocessing
import os

import pytest

from recsys_zoo.board import rows as rows_module
from recsys_zoo.board.rows import Row, append_row, config_digest, read_rows, write_csv
from recsys_zoo.errors import InputError
from recsys_zoo.files import locked

from .toys import board, reference, row


def test_rows_come_back_equal_and_in_order(tmp_path):
    path = tmp_path / "sub" / "rows.jsonl"
    for one in board():
        append_row(path, one)
    assert read_rows(path) == board()
    assert [p.name for p in path.parent.iterdir()] == ["rows.jsonl"]
    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)  # strict JSON: no bare NaN


def test_a_dead_run_keeps_its_nan(tmp_path):
    dead = row("fm", 0.5, status="dead", reason="logloss is NaN",
               metrics={"valid.logloss": math.nan, "valid.auc": math.inf})
    append_row(tmp_path / "rows.jsonl", dead)
    write_csv(tmp_path / "rows.csv", [dead])
    for found in (read_rows(tmp_path / "rows.jsonl"), read_rows(tmp_path / "rows.csv")):
        assert math.isnan(found[0].metrics["valid.logloss"])
        assert found[0].metrics["valid.auc"] == math.inf


def test_csv_holds_the_whole_row(tmp_path):
    config = {"model": {"name": "fm", "hidden": [4, 2]}, "x": True}
    odd = row("fm", 0.9, note='a "quoted", odd\nnote', config=config)
    several = [*board(), odd, row("lr", 0.91, metrics={"test.auc": 0.1 + 0.2})]
    write_csv(tmp_path / "rows.csv", several)
    assert read_rows(tmp_path / "rows.csv") == several
    header = (tmp_path / "rows.csv").read_text().splitlines()[0].split(",")
    assert {"test.auc", "test.auc_low", "config", "data_digest"} <= set(header)


def test_earlier_bytes_are_never_touched(tmp_path):
    path = tmp_path / "rows.jsonl"
    append_row(path, row("lr", 0.9))
    foreign = path.read_bytes().rstrip(b"\n").replace(b'"seed":1', b'"seed": 1')  # edited, no line end
    path.write_bytes(foreign)
    append_row(path, row("fm", 0.91))
    assert path.read_bytes().startswith(foreign + b"\n")
    assert [r.model for r in read_rows(path)] == ["lr", "fm"]


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "rows.jsonl"
    append_row(path, row("lr", 0.9))
    before = path.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError, match="No space left"):
        append_row(path, row("fm", 0.91))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["rows.jsonl"]


def _append(path, worker):
    for seed in range(8):
        append_row(path, row(f"m{worker}", 0.9, seed % 5 + 1, params=seed))


def test_several_processes_lose_no_row(tmp_path):
    path = tmp_path / "rows.jsonl"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_append, args=(path, worker)) for worker in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(worker.exitcode == 0 for worker in workers)
    found = sorted((r.model, r.params) for r in read_rows(path))
    assert found == [(f"m{w}", s) for w in range(4) for s in range(8)]


def test_a_lock_that_stays_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(rows_module, "WAIT_S", 0.0)
    with locked(tmp_path / "rows.jsonl"), pytest.raises(InputError, match="another process is writing here"):
        append_row(tmp_path / "rows.jsonl", row("lr", 0.9))


@pytest.mark.parametrize(("line", "sentence"), [
    ('{"board": "toy"', r"rows.jsonl, line 3: not JSON"),
    ("[1, 2]", r"rows.jsonl, line 3: not a row but list"),
    ('{"board": "toy"}', r"rows.jsonl, line 3: the setting 'protocol' is missing"),
    ('{"sed": 1}', r"rows.jsonl, line 3: "),
])
def test_a_line_that_is_no_row_is_named(tmp_path, line, sentence):
    path = tmp_path / "rows.jsonl"
    append_row(path, row("lr", 0.9))
    path.write_text(path.read_text() + "\n" + line + "\n")  # an empty line is no row and no error
    with pytest.raises(InputError, match=sentence):
        read_rows(path)


def test_other_bad_files_are_one_sentence(tmp_path):
    with pytest.raises(InputError, match="no such file of rows"):
        read_rows(tmp_path / "none.jsonl")
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not a file of rows"):
        read_rows(tmp_path / "binary.jsonl")
    write_csv(tmp_path / "rows.csv", [row("lr", 0.9), row("fm", 0.9)])
    text = (tmp_path / "rows.csv").read_text()
    (tmp_path / "rows.csv").write_text(text[:-300])
    with pytest.raises(InputError, match=r"rows.csv, line 3: not the \d+ columns"):
        read_rows(tmp_path / "rows.csv")


def test_fields_are_checked():
    with pytest.raises(InputError, match="status"):
        row("lr", 0.9, status="finished")
    with pytest.raises(InputError, match="did you mean"):
        row("lr", 0.9, theads=1)
    assert reference("base_rate", 0.5).role == "floor"
    plain = row("base_rate", 0.5).model_dump() | {"hparams": "none"}
    del plain["role"]
    assert Row.model_validate(plain).role == "floor"  # nothing to choose: a reference without saying so
    assert reference("bayes", 0.8, "ceiling").role == "ceiling"
    assert row("autoint.plus.fuxi", 0.9).label == "autoint.plus.fuxi"


def test_the_settings_digest_is_that_of_all_seeds_of_one_setting():
    base = {"model": {"name": "lr"}, "train": {"seed": 1, "lr": 0.1}}
    assert config_digest(base) == config_digest({"model": {"name": "lr"}, "train": {"lr": 0.1, "seed": 2}})
    assert config_digest(base) == config_digest({**base, "train": {**base["train"], "kernels": "torch"}})
    assert config_digest(base) != config_digest({"model": {"name": "lr"}, "train": {"lr": 0.2, "seed": 1}})
    assert config_digest(base) != config_digest({"model": {"name": "lr", "seed": 3}, "train": {"lr": 0.1}})
