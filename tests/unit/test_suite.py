"""Suites: which runs there are, what is missing, several processes, failures, and 20 kills at random."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from recsys_zoo import runs, suite
from recsys_zoo.board.rows import read_rows
from recsys_zoo.errors import InputError
from recsys_zoo.files import locked
from recsys_zoo.suite import Runner, plan
from recsys_zoo.zoo import model_class

from .cli.conftest import folder, prepared, run  # noqa: F401
from .cli.shop import RECIPE

ROWS = Path("rows.jsonl")


@pytest.fixture
def recipes(prepared):  # noqa: F811
    """lr.toml and fm.toml beside a prepared shop, and a suite of both."""
    for name in ("lr", "fm"):
        Path(f"{name}.toml").write_text(RECIPE.format(name=name, more="", epochs=1))
    Path("suite.toml").write_text('recipes = ["lr.toml", "fm.toml"]\nseeds = [1, 2]\n')
    return prepared


def made(path: Path = ROWS) -> list[tuple[str, int]]:
    return [(row.model, row.seed) for row in read_rows(path) if row.role == "model"]


def test_a_suite_makes_each_run_once_and_says_how_far_it_is(recipes, run):  # noqa: F811
    code, out, err = run("board", "run", "suite.toml", "--rows", ROWS)
    assert code == 0, err
    assert made() == [("lr", 1), ("lr", 2), ("fm", 1), ("fm", 2)]
    assert {row.model for row in read_rows(ROWS) if row.role == "floor"} >= {"base_rate", "pair_memory"}
    assert "[1/4] lr.toml seed 1\n" in out
    assert re.search(r"\[4/4\] fm.toml seed 2, about \d+ s left\n", out)
    before = ROWS.read_bytes()
    assert run("board", "run", "suite.toml", "--rows", ROWS)[1] == ""
    assert ROWS.read_bytes() == before


def test_a_plan_of_patterns_overrides_and_seeds(recipes):
    tasks = plan(["frappe_x1/dcn*"], [3], ["train.lr=0.5"])
    assert {task.recipe for task in tasks} >= {"frappe_x1/dcn", "frappe_x1/dcnv2", "frappe_x1/dcn_crossnet"}
    assert all(task.cfg.train.lr == 0.5 and task.cfg.train.seed == 3 for task in tasks)
    assert tasks[0].command == "recsys-zoo train frappe_x1/dcn --seed 3 --set train.lr=0.5"
    assert [task.name for task in plan(["lr.toml"], [], [])] == [f"lr.toml seed {n}" for n in range(1, 6)]
    more = 'recipes = ["lr.toml", "lr.toml"]\nseeds = [7]\noverrides = ["train.lr=0.25"]\n'
    Path("more.toml").write_text(more)
    (task,) = plan(["more.toml"], [], [])
    assert (task.cfg.train.lr, task.cfg.train.seed) == (0.25, 7)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("recipes = []", "recipes"),
        ('recipes = ["frappe_x1/dcnv"]', "no recipe named 'frappe_x1/dcnv'; did you mean"),
        ('recipes = ["nothing/*"]', "no recipe fits 'nothing/\\*'"),
        ('recipes = ["lr.toml"]\nseeds = ["a"]', "seeds"),
        ('recipes = ["lr.toml"]\nseed = [1]', "seed"),
        ('recipes = ["lr.toml"]\noverrides = ["train.lrr=1"]', "train.lrr"),
    ],
)
def test_mistakes_are_told_before_anything_is_run(recipes, text, said):
    Path("wrong.toml").write_text(text)
    with pytest.raises(InputError, match=said):
        plan(["wrong.toml"], [], [])
    assert not ROWS.exists()


def test_a_run_that_another_process_holds_is_left_to_it(recipes):
    tasks, said = plan(["suite.toml"], [], []), []
    held = suite.default_folder(tasks[1].cfg, Path("runs"))
    with locked(held.parent / f"{held.name}.claim"):
        assert Runner(tasks, ROWS, say=said.append).run() == 1
    assert made() == [("lr", 1), ("fm", 1), ("fm", 2)]
    assert said[-1] == "lr.toml seed 2: another process is at it"
    assert Runner(tasks, ROWS, say=said.append).run() == 0
    assert sorted(made()) == [("fm", 1), ("fm", 2), ("lr", 1), ("lr", 2)]


def test_a_model_in_which_nothing_is_drawn_is_run_once(recipes, monkeypatch):
    monkeypatch.setattr(model_class("lr"), "seeded", False)
    tasks = plan(["suite.toml"], [], [])
    assert Runner(tasks, ROWS, say=lambda line: None).run() == 0
    assert made() == [("lr", 1), ("fm", 1), ("fm", 2)]
    assert list(Runner(tasks, ROWS).estimate()) == []
    Runner(plan(["lr.toml"], [3], ["train.lr=0.5"]), ROWS, say=lambda line: None).run()
    assert made()[3:] == [("lr", 3)]


def test_a_failure_is_a_row_with_its_reason_and_not_repeated(recipes, run, monkeypatch):  # noqa: F811
    tasks, said, train = plan(["suite.toml"], [1], []), [], runs.train

    def broken(cfg, *args, **more):
        if cfg.model["name"] == "lr":
            raise RuntimeError("out of\nmemory")
        return train(cfg, *args, **more)

    monkeypatch.setattr(runs, "train", broken)
    assert Runner(tasks, ROWS, say=said.append).run() == 0
    rows = {row.model: row for row in read_rows(ROWS) if row.role == "model"}
    assert (rows["lr"].status, rows["lr"].reason, rows["lr"].metrics) == ("failed", "out of memory", {})
    assert rows["fm"].status == "done"
    assert "lr.toml seed 1 failed: out of memory" in said
    code, out, _ = run("board", "run", "suite.toml", "--seeds", "1", "--rows", ROWS)
    assert code == 1
    assert "1 of 2 runs failed, lr.toml seed 1 first" in out
    monkeypatch.setattr(runs, "train", train)
    Runner(tasks, ROWS, say=said.append).run()
    assert len(made()) == 2
    Runner(tasks, ROWS, say=said.append, retry=True).run()
    assert [row.status for row in read_rows(ROWS) if row.model == "lr"] == ["failed", "done"]
    assert run("board", "run", "suite.toml", "--seeds", "1", "--rows", ROWS)[0] == 0


def test_a_row_that_a_kill_kept_from_the_file_is_added(recipes):
    tasks = plan(["lr.toml"], [1], [])
    Runner(tasks, ROWS, say=lambda line: None).run()
    rows = ROWS.read_text().splitlines()
    ROWS.write_text("\n".join(rows[:-1]) + "\n")
    Runner(tasks, ROWS, say=lambda line: None).run()
    assert ROWS.read_text().splitlines() == rows


def test_a_dry_run_says_how_much_there_is_to_do(recipes, run):  # noqa: F811
    code, out, _ = run("board", "run", "suite.toml", "--rows", ROWS, "--dry-run")
    assert code == 0
    assert out.count(" s an epoch, at most 1 ") == 2
    assert re.search(r"^4 runs; one process; \d+ s for one epoch of each, measured now$", out, re.MULTILINE)
    assert not ROWS.exists()
    assert not Path("runs").exists()
    assert run("board", "run", "lr.toml", "--seeds", "1", "--rows", ROWS)[0] == 0
    lines = run("board", "run", "suite.toml", "--rows", ROWS, "--dry-run")[1].splitlines()
    assert lines[1].split()[:2] == ["lr.toml", "1"]
    assert lines[1].split()[2:] == ["0", "s", "a", "run", "0"]
    assert "an epoch, at most 1" in lines[2]
    said = r"about 0 s by rows of other seeds; \d+ s for one epoch of each other, measured now"
    assert re.fullmatch(f"3 runs; one process; {said}", lines[-1])


def _start(*more: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "recsys_zoo", "board", "run", "suite.toml", *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(suite.__file__).parents[1])}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@pytest.mark.slow
def test_twenty_kills_at_random_leave_exactly_the_rows_of_an_undisturbed_run(recipes):
    """Sixteen runs of sixty epochs; a worker is killed after some lines of its output, an epoch each."""
    for name in ("lr", "fm"):
        Path(f"{name}.toml").write_text(RECIPE.format(name=name, more="", epochs=60))
    Path("suite.toml").write_text('recipes = ["lr.toml", "fm.toml"]\nseeds = [1, 2, 3, 4, 5, 6, 7, 8]\n')
    undisturbed = _start("--rows", "calm.jsonl", "--out", "calm")
    undisturbed.communicate()
    assert undisturbed.returncode == 0
    rng, killed = random.Random(5), 0
    workers = [_start("--rows", ROWS, "--out", "runs") for _ in range(2)]
    for _ in range(20):
        worker = workers.pop(rng.randrange(2))
        for _ in range(rng.randrange(1, 40)):
            worker.stdout.readline()
        worker.kill()
        worker.communicate()
        killed += worker.returncode == -signal.SIGKILL
        workers.append(_start("--rows", ROWS, "--out", "runs"))
    for worker in (*workers, _start("--rows", ROWS, "--out", "runs")):
        worker.communicate()
        assert worker.returncode == 0

    def content(path: Path) -> list[tuple]:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        return sorted((r["model"], r["seed"], r["status"], json.dumps(r["metrics"])) for r in rows)

    assert content(ROWS) == content(Path("calm.jsonl"))
    assert killed > 15  # the others found nothing left to do
