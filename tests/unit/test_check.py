"""Rows are held against themselves; the committed ones have no problems."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from recsys_zoo.board.draws import draws_of, kept_at, write_draws
from recsys_zoo.board.key import JUDGED
from recsys_zoo.board.rows import append_row
from recsys_zoo.board.scores import read_scores, write_scores
from recsys_zoo.check import check_file
from recsys_zoo.cli import app
from recsys_zoo.errors import InputError
from recsys_zoo.metrics.bootstrap import bootstrap

from .board.toys import row

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
FILES = sorted([*RESULTS.glob("*.jsonl"), *RESULTS.glob("studies/*.jsonl")])


def sound(**changes):
    """A row without problems; `changes` may make some."""
    config = {"board": "toy_x1", "data": "d", "label": "", "model": {"name": "lr"}, "data_digest": "d" * 64,
              "train": {"seed": 1, "table_update": "exact", "precision": "fp32"}, "hparams": "inherited",
              "trials": 1, "bootstrap": 50}
    config |= changes.pop("config", {})
    return row("lr", 0.8, config=config, scores_digest="5" * 64, **changes)


def problems(tmp_path, *rows):
    file = tmp_path / "rows.jsonl"
    file.unlink(missing_ok=True)
    for one in rows:
        append_row(file, one)
    return [problem.removeprefix(f"{file}") for problem in check_file(file)]


@pytest.mark.parametrize("file", FILES, ids=lambda p: p.stem)
def test_committed_rows_have_no_problems(file):
    assert check_file(file) == []


def test_a_sound_row(tmp_path):
    assert problems(tmp_path, sound()) == []
    dead = sound(status="dead", reason="NaN loss", metrics={})
    assert problems(tmp_path, dead) == []


@pytest.mark.parametrize(("changes", "problem"), [
    ({"config_digest": "0" * 64}, "not those of its settings digest"),
    ({"board": "other"}, "of another board or model"),
    ({"git": "0123456789ab-dirty"}, "run it from a clean checkout"),
    ({"git": "0123456789ab-dirty..ba9876543210"}, "run it from a clean checkout"),
    ({"git": ""}, "commit unknown"),
    ({"data_digest": "e" * 64}, "other data than its data digest"),
    ({"seed": 2}, "its settings have seed 1"),
    ({"precision": "bf16"}, "precision is bf16, its settings say fp32"),
    ({"trials": 7}, "origin of the settings, trials or minutes"),
    ({"minutes": 5.0}, "origin of the settings, trials or minutes"),
    ({"hparams": "valid", "config": {"hparams": "valid"}}, "tuned on valid in one trial"),
    ({"config": {"model": {"name": "lr", "depth": 3}}}, "not known to this version"),
    ({"status": "dead"}, "dead without a reason"),
    ({"metrics": {"test.auc": 0.8, "test.auc_low": 0.7, "test.auc_high": 0.9, "test.logloss": float("nan"),
                  "valid.auc": 0.8}}, "test.logloss not finite"),
    ({"metrics": {"test.auc": 0.8, "test.auc_low": 0.7, "test.auc_high": 0.9}},
     "without test.logloss, valid.auc"),
    ({"metrics": {"test.auc": 0.95, "test.logloss": 0.1, "valid.auc": 0.8}}, "without an interval"),
    ({"metrics": {"test.auc": 0.95, "test.auc_low": 0.7, "test.auc_high": 0.9, "test.logloss": 0.1,
                  "valid.auc": 0.8}}, "does not lie in its interval"),
])
def test_each_problem_is_named(tmp_path, changes, problem):
    found = problems(tmp_path, sound(**changes))
    assert len(found) == 1
    assert problem in found[0]
    assert found[0].startswith(", row 1 (lr seed ")


def judged(*missing: str):
    """A sound row of a test among judged items, but for some metrics."""
    config = {"board": "toy_x1", "data": "d", "model": {"name": "wmf"}, "data_digest": "d" * 64,
              "train": {"seed": 1, "table_update": "exact", "precision": "fp32", "monitor": "snips_dcg@5"},
              "hparams": "inherited", "trials": 1}
    metrics = {"test.dcg@5": 0.8, "test.dcg@5_low": 0.7, "test.dcg@5_high": 0.9, "test.rare_dcg@5": 0.3,
               "valid.snips_dcg@5": 0.2, "valid.recall@20": 0.1}
    metrics = {name: value for name, value in metrics.items() if name not in missing}
    return row("wmf", 0.8, config=config, scores_digest="5" * 64, metrics=metrics, protocol=JUDGED)


def test_of_judged_items_other_metrics_are_asked(tmp_path):
    assert problems(tmp_path, judged()) == []
    (found,) = problems(tmp_path, judged("valid.snips_dcg@5", "test.rare_dcg@5"))
    assert "without test.rare_dcg@5, valid.snips_dcg@5" in found


def test_a_row_without_scores(tmp_path):
    (found,) = problems(tmp_path, sound().model_copy(update={"scores_digest": ""}))
    assert "without the digest of its test scores" in found


def test_rows_are_held_against_each_other(tmp_path):
    (found,) = problems(tmp_path, sound(), sound())
    assert found == ": row 2 (lr seed 1) is there twice; the later one counts"
    other = sound(data_digest="e" * 64, config={"data_digest": "e" * 64})
    (found,) = problems(tmp_path, sound(), other)
    assert found == ": toy_x1: rows of different data (dddddddddddd, eeeeeeeeeeee)"


def test_a_failed_run_may_be_made_again(tmp_path):
    failed = sound(status="failed", reason="memory", metrics={})
    assert problems(tmp_path, failed, sound()) == []


def test_a_model_has_one_setting_a_budget(tmp_path):
    """Three settings of 16 trials each would show the best of 48."""
    def tuned(lr):
        train = {"seed": 1, "table_update": "exact", "precision": "fp32", "lr": lr}
        return sound(hparams="valid", trials=16, config={"hparams": "valid", "trials": 16, "train": train})
    assert problems(tmp_path, tuned(0.1)) == []
    (found,) = problems(tmp_path, tuned(0.1), tuned(0.2))
    assert found == ": lr: 2 settings of tuned on valid, 16 trials; one budget gives one setting"


@pytest.mark.parametrize("config", [{"model": "lr"}, {"train": [1]}])
def test_settings_that_are_no_tables_are_no_row(tmp_path, config):
    values = {**json.loads(sound().model_dump_json()), "config": {**sound().config, **config}}
    (tmp_path / "rows.jsonl").write_text(json.dumps(values) + "\n")
    with pytest.raises(InputError, match=r"rows.jsonl, line 1: config\.\w+ is no table of settings"):
        check_file(tmp_path / "rows.jsonl")


def test_an_interval_is_held_against_the_draws_kept_beside(tmp_path):
    rng = np.random.default_rng(0)
    label, score = rng.integers(0, 2, 200), rng.random(200).astype(np.float32)
    digest = write_scores(tmp_path / "s.parquet", label, score)
    scores = read_scores(tmp_path / "s.parquet")
    interval = bootstrap(scores.score, scores.label, replicates=50)["auc"]
    write_draws(kept_at(tmp_path / "rows.jsonl", digest), draws_of(scores, 80))  # the first 50 are the same
    metrics = {"test.auc": interval.value, "test.auc_low": interval.low, "test.auc_high": interval.high,
               "test.logloss": 0.7, "valid.auc": 0.5}
    good = sound(metrics=metrics).model_copy(update={"scores_digest": digest})
    assert problems(tmp_path, good) == []
    narrow = sound(metrics={**metrics, "test.auc_high": interval.high - 1e-4})
    (found,) = problems(tmp_path, narrow.model_copy(update={"scores_digest": digest}))
    assert "not that of its resampled metrics" in found


def test_from_the_command_line(tmp_path):
    problems(tmp_path, sound())
    good = CliRunner().invoke(app, ["board", "check", str(tmp_path / "rows.jsonl")])
    assert (good.exit_code, good.output[:17]) == (0, "no problems found")
    problems(tmp_path, sound(), sound(git="x-dirty"))
    bad = CliRunner().invoke(app, ["board", "check", str(tmp_path / "rows.jsonl")])
    assert bad.exit_code == 1
    assert "row 2 (lr seed 1): commit x-dirty" in bad.output
