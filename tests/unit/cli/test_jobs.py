"""What the command line does and prints, from raw file to row."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pandas
import polars as pl
import pytest

from recsys_zoo import cli

from .shop import QUICK, shop


def test_the_main_job_on_an_own_csv(prepared, run):
    code, out, err = run("train", "lr", "data", "--seed", 7, "--out", "run", *QUICK)
    assert code == 0, err
    row = json.loads(Path("run/row.json").read_text())
    assert row["seed"] == 7
    assert row["hparams"] == "default"
    assert row["config"]["model"]["embedding"]["dim"] == 4
    assert row["config"]["train"]["patience"] == 2  # defaults are written out
    assert {"valid.auc", "test.auc", "test.gauc", "test.auc_low", "test.auc_unseen_pairs"} <= row[
        "metrics"
    ].keys()
    assert f"{row['metrics']['test.auc']:.6f}" in out
    code, out, _ = run("evaluate", "run")
    assert code == 0
    assert f"test.auc  {row['metrics']['test.auc']:.6f}" in out
    code, out, _ = run("show", "run")
    assert code == 0
    assert row["data_digest"][:16] in out
    assert run("train", "--resume", "run")[0] == 0  # a finished run: nothing to do, same row


@pytest.mark.parametrize(
    ("model", "more"), [("deepfm", ()), ("autoint.plus", ("--set", "model.attention_dropout=0.3"))]
)
def test_a_killed_run_is_resumed_from_the_command_line(model, more, prepared, run, monkeypatch):
    """AutoInt with its kernel, whose dropout draws from a seed of torch's generator."""
    settings = (*QUICK, *more, "--set", "train.save_every_s=0", "--set", "train.epochs=3")
    assert run("train", model, "data", "--out", "whole", *settings)[0] == 0
    child = multiprocessing.get_context("fork").Process(target=_killed_run, args=(model, settings))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    code, _, err = run("evaluate", "cut")
    assert code == 2
    assert "not finished" in err
    code, out, err = run("train", "--resume", "cut")
    assert code == 0, err
    assert "resumed at epoch 2, step 3" in out
    whole, cut = (Path(name, "checkpoint/model.safetensors").read_bytes() for name in ("whole", "cut"))
    assert whole == cut
    rows = [json.loads(Path(name, "row.json").read_text()) for name in ("whole", "cut")]
    assert rows[0]["metrics"] == rows[1]["metrics"]
    assert rows[0]["scores_digest"] == rows[1]["scores_digest"]


def _killed_run(model, settings) -> None:
    from recsys_zoo.train.callbacks import Progress

    steps = []

    def count(self, info) -> None:
        steps.append(info["step"])
        if len(steps) == 10:  # six steps an epoch, and the tenth is not saved yet
            os.kill(os.getpid(), signal.SIGKILL)

    Progress.on_step_end = count
    sys.argv = ["recsys-zoo", "train", model, "data", "--out", "cut", *settings]
    cli.main()


def test_explain_draws_attention(prepared, run):
    assert run("train", "autoint", "data", "--out", "run", *QUICK, "--set", "model.layers=2")[0] == 0
    code, out, err = run("show", "run", "--explain")
    assert code == 0, err
    assert "strongest pairs of layer 1" in out
    picture = Path("run/attention.svg").read_text()
    assert picture.count("<title>") == 2 * 4 * 4  # layers x fields x fields
    assert "user attends to item" in picture
    assert run("train", "fm", "data", "--out", "fm", *QUICK)[0] == 0
    code, _, err = run("show", "fm", "--explain")
    assert code == 2
    assert "fm has no attention to draw" in err


def test_logs_of_a_run(prepared, run):
    assert run("train", "lr", "data", "--out", "run", *QUICK)[0] == 0
    entries = [json.loads(line) for line in Path("run/log.jsonl").read_text().splitlines()]
    assert [e["event"] for e in entries] == ["start", "epoch", "epoch", "end"]
    assert entries[1]["valid"]["auc"] > 0.4
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator("run/tb").Reload()
    logged = [e.value for e in events.Scalars("valid/auc")]
    assert logged == pytest.approx([e["valid"]["auc"] for e in entries[1:3]], abs=1e-6)


def test_predict_scores_raw_rows_with_unknown_values(prepared, run):
    assert run("train", "lr", "data", "--out", "run", *QUICK)[0] == 0
    frame = shop(50).drop("click").with_columns(user=pl.lit("nobody"))
    frame.write_parquet("new.parquet")
    code, _, err = run("predict", "run", "new.parquet", "--out", "scores.csv")
    assert code == 0, err
    scores = pl.read_csv("scores.csv")["score"].to_numpy()
    assert len(scores) == 50
    assert len(np.unique(scores)) > 10
    from recsys_zoo import load

    direct = load("run").predict(pandas.DataFrame(frame.to_dict(as_series=False)))
    np.testing.assert_allclose(scores, direct, atol=1e-6)


def test_scores_recompute_the_row(prepared, run):
    from sklearn.metrics import roc_auc_score

    assert run("train", "lr", "data", "--out", "run", *QUICK)[0] == 0
    row = json.loads(Path("run/row.json").read_text())
    scores = pl.read_parquet("run/scores_test.parquet")
    assert roc_auc_score(scores["label"], scores["score"]) == pytest.approx(
        row["metrics"]["test.auc"], abs=1e-12
    )


def test_board_run_adds_a_row_per_seed_once(prepared, run):
    recipe = Path("lr.toml")
    recipe.write_text(
        'board = "shop"\ndata = "data"\n[model]\nname = "lr"\n[train]\nepochs = 1\nbatch_size = 64\n'
    )
    for _ in range(2):
        code, _, err = run("board", "run", recipe, "--seeds", "1,2", "--rows", "rows.jsonl")
        assert code == 0, err
    rows = [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]
    assert sorted((r["model"], r["seed"]) for r in rows if r["hparams"] != "none") == [("lr", 1), ("lr", 2)]
    assert {"pair_memory", "base_rate"} <= {r["model"] for r in rows}
    assert len({r["config_digest"] for r in rows if r["model"] == "lr"}) == 1
    other = ("board", "run", recipe, "--seeds", "1", "--rows", "rows.jsonl", "--set", "train.lr=0.1")
    assert run(*other)[0] == 0  # other settings are another run, whatever folders exist
    last = json.loads(Path("rows.jsonl").read_text().splitlines()[-1])
    assert last["config"]["train"]["lr"] == 0.1
    assert last["metrics"] != next(r["metrics"] for r in rows if r["model"] == "lr")
    code, out, _ = run("board", "show", "rows.jsonl")
    assert code == 0
    assert "lr" in out
    (audited,) = Path("audits").iterdir()
    assert json.loads(audited.read_text())["data_digest"] == rows[0]["data_digest"]
    warnings = json.loads(audited.read_text())["warnings"]
    assert warnings
    joined = " ".join(out.split())
    assert all(f"data: {warning}" in joined for warning in warnings)
    audited.unlink()
    assert "not audited" in run("board", "show", "rows.jsonl")[1]
    assert run("board", "page", "rows.jsonl", "--out", "page.html")[0] == 0
    assert "<svg" in Path("page.html").read_text()


def test_list_and_show(run):
    code, out, _ = run("list", "lr*")
    assert code == 0
    assert out.startswith("lr ")
    lines = run("list", "[lp][ro]*")[1].splitlines()
    assert lines[0].startswith("lr          2007  ctr        Predicting")
    assert lines[1].startswith("popularity  2010  retrieval  Performance")
    assert "model.embedding" not in run("show", "popularity")[1]
    code, out, _ = run("show", "lr")
    assert code == 0
    assert "model.embedding.dim = 16" in out
    assert "0.935584" in out


def test_a_run_finds_its_data_from_anywhere(prepared, run, monkeypatch):
    assert run("train", "autoint", "data", "--out", "run", *QUICK)[0] == 0
    here = run("evaluate", "run")
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert run("evaluate", "../run") == here
    assert run("show", "../run", "--explain")[0] == 0
    code, _, err = run("train", "lr", "data")
    assert code == 2
    assert "no prepared folder 'data' here" in err


def test_a_bf16_run_is_evaluated_as_its_row_was(prepared, run):
    assert run("train", "autoint", "data", "--out", "run", *QUICK, "--set", "train.precision=bf16")[0] == 0
    row = json.loads(Path("run/row.json").read_text())
    assert f"test.auc  {row['metrics']['test.auc']:.6f}" in run("evaluate", "run")[1]
    assert row["kernels"] == "torch"
    assert run("predict", "run", "shop.csv", "--out", "scores.csv")[0] == 0


def test_the_row_says_whether_a_kernel_ran(prepared, run):
    from recsys_zoo.nn import kernels

    for name, expected in (("lr", "torch"), ("autoint", "c++" if kernels.compiler() else "torch")):
        assert run("train", name, "data", "--out", name, *QUICK)[0] == 0
        assert json.loads(Path(name, "row.json").read_text())["kernels"] == expected
        assert not kernels.enabled


def test_of_several_labels_the_first_is_taken_and_told(folder, run):
    shop().with_columns(buy=1 - pl.col("click")).write_csv("shop.csv")
    spec = Path("shop.toml").read_text().replace('["click"]', '["click", "buy"]')
    Path("shop.toml").write_text(spec)
    assert run("prepare", "shop.csv", "--schema", "shop.toml", "--out", "data")[0] == 0
    code, out, _ = run("train", "lr", "data", "--out", "first", *QUICK)
    assert code == 0
    assert "label click, one of ['click', 'buy']; another one by --set label=NAME" in out
    assert run("train", "lr", "data", "--out", "named", *QUICK, "--set", "label=click")[0] == 0
    rows = [json.loads(Path(name, "row.json").read_text()) for name in ("first", "named")]
    assert rows[0]["config_digest"] == rows[1]["config_digest"]
    Path("own.toml").write_text('data = "data"\nlabel = "buy"\n[model]\nname = "lr"\n[train]\nepochs = 1\n')
    words = ("board", "run", "own.toml", "--seeds", "1", "--rows", "rows.jsonl")
    assert run(*words)[0] == 0
    rows = [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]
    assert [r["config"]["label"] for r in rows] == ["buy"] * len(rows)
    assert {r["model"] for r in rows} == {"base_rate", "column_rates", "pair_memory", "lr"}
