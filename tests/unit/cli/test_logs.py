"""What a training writes to be watched, wherever the process goes meanwhile."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from recsys_zoo import launch, load, runs
from recsys_zoo.data.store import Prepared
from recsys_zoo.train.callbacks import Callback, JsonLines, TensorBoard

from .shop import QUICK

ASSIGNMENTS = list(QUICK[1::2])


class Leaves(Callback):
    """Changes the working directory after the first step."""

    def __init__(self, elsewhere: Path) -> None:
        self.elsewhere = elsewhere

    def on_step_end(self, info) -> None:
        os.chdir(self.elsewhere)


class Fails(Callback):
    """Stops the training after its first epoch."""

    def on_epoch_start(self, info) -> None:
        if hasattr(self, "began"):
            raise RuntimeError("stop")
        self.began = True


def train(folder: str, *watchers: Callback):
    cfg = launch.configure("lr", "data", ASSIGNMENTS, seed=1)
    return runs.train(cfg, Prepared.open("data"), Path(folder), callbacks=list(watchers))


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder)).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_a_run_in_a_relative_folder_survives_another_working_directory(prepared, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    train("still")
    train("run", Leaves(elsewhere))
    assert Path.cwd() == elsewhere
    assert list(elsewhere.iterdir()) == []
    names = [sorted(p.relative_to(prepared / n) for p in (prepared / n).rglob("*") if p.parent.name != "tb")
             for n in ("run", "still")]
    assert names[0] == names[1]
    moved, still = scalars(prepared / "run" / "tb"), scalars(prepared / "still" / "tb")
    del moved["rows_per_s"], still["rows_per_s"]
    assert moved == still
    assert len(still["train_loss"]) == 2
    assert load(prepared / "run").config["files_sha256"] == load(prepared / "still").config["files_sha256"]


def test_a_failed_training_leaves_no_thread_and_what_it_logged(prepared):
    before = set(threading.enumerate())
    with pytest.raises(RuntimeError, match="stop"):
        train("run", Fails())
    assert set(threading.enumerate()) == before
    assert len(scalars(Path("run/tb"))["valid/auc"]) == 1


def test_events_that_are_logged_again_replace_the_old_ones(tmp_path):
    """A resume from step 3 repeats what was logged for step 6; a removed folder is made again."""

    def epoch(step: int, loss: float) -> dict:
        fixed = {"lr": 0.5, "rows_per_s": 8.0, "split": "valid"}
        return {"train_loss": loss, "valid": {"auc": loss / 4}, "global_step": step, **fixed}

    for start, steps in ((0, ((3, 4.0), (6, 2.0))), (3, ((6, 1.0), (9, 0.5)))):
        watcher = TensorBoard(tmp_path / "tb")
        watcher.on_fit_start({"global_step": start})
        for step, loss in steps:
            watcher.on_epoch_end(epoch(step, loss))
    assert scalars(tmp_path / "tb")["train_loss"] == [(3, 4.0), (6, 1.0), (9, 0.5)]
    assert scalars(tmp_path / "tb")["valid/auc"] == [(3, 1.0), (6, 0.25), (9, 0.125)]
    shutil.rmtree(tmp_path / "tb")
    watcher.on_epoch_end(epoch(12, 0.25))
    assert scalars(tmp_path / "tb")["train_loss"] == [(12, 0.25)]


def test_lines_go_where_they_began(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    watcher = JsonLines(Path("log.jsonl"))
    watcher.on_fit_start({"global_step": 0})
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    watcher.on_fit_end({})
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2
