"""The command line in one process: what it prints, its exit codes, and one sentence for every mistake."""

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

SPEC = """
dataset = "shop"
labels = ["click"]
group = "user"
user = "user"
item = "item"

[[columns]]
name = "user"
kind = "categorical"
side = "user"

[[columns]]
name = "item"
kind = "categorical"
side = "item"

[[columns]]
name = "price"
kind = "numeric"
rule = "standardise"

[[columns]]
name = "tags"
kind = "bag"
separator = "|"
max_len = 3

[split]
method = "hash"
keys = ["user", "item"]
fractions = {train = 0.6, valid = 0.2, test = 0.2}
"""


def shop(rows: int = 600) -> pl.DataFrame:
    """Raw rows whose click depends on the item and the price."""
    rng = np.random.default_rng(4)
    user, item = rng.integers(0, 40, rows), rng.integers(0, 25, rows)
    price = rng.normal(size=rows).round(3)
    click = (rng.random(rows) < 1 / (1 + np.exp(-(item - 12) / 3 - price))).astype(int)
    tags = ["|".join(f"t{t}" for t in rng.integers(0, 6, n)) for n in rng.integers(0, 4, rows)]
    return pl.DataFrame(
        {
            "click": click,
            "user": [f"u{u}" for u in user],
            "item": [f"i{i}" for i in item],
            "price": price,
            "tags": tags,
        }
    )


@pytest.fixture
def run(monkeypatch, capsys):
    """Call the command line: run("train", ...) -> (exit code, stdout, stderr)."""

    def call(*words) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["recsys-zoo", *map(str, words)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shop().write_csv("shop.csv")
    Path("shop.toml").write_text(SPEC)
    return tmp_path


@pytest.fixture
def prepared(folder, run):
    assert run("prepare", "shop.csv", "--schema", "shop.toml", "--out", "data")[0] == 0
    return folder


QUICK = (
    "--set",
    "train.epochs=2",
    "--set",
    "train.batch_size=64",
    "--set",
    "train.device=cpu",
    "--set",
    "model.embedding.dim=4",
)


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


def test_a_killed_run_is_resumed_from_the_command_line(prepared, run, monkeypatch):
    settings = (*QUICK, "--set", "train.save_every_s=0", "--set", "train.epochs=3")
    assert run("train", "deepfm", "data", "--out", "whole", *settings)[0] == 0
    child = multiprocessing.get_context("fork").Process(target=_killed_run, args=(settings,))
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


def _killed_run(settings) -> None:
    from recsys_zoo.train.callbacks import Progress

    steps = []

    def count(self, info) -> None:
        steps.append(info["step"])
        if len(steps) == 10:  # six steps an epoch, and the tenth is not saved yet
            os.kill(os.getpid(), signal.SIGKILL)

    Progress.on_step_end = count
    sys.argv = ["recsys-zoo", "train", "deepfm", "data", "--out", "cut", *settings]
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
        code, _, err = run("board", "run", recipe, "--seeds", "1,2", "--floors", "--rows", "rows.jsonl")
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
    assert run("board", "page", "rows.jsonl", "--out", "page.html")[0] == 0
    assert "<svg" in Path("page.html").read_text()


def test_list_and_show(run):
    code, out, _ = run("list", "l*")
    assert code == 0
    assert out.startswith("lr ")
    code, out, _ = run("show", "lr")
    assert code == 0
    assert "model.embedding.dim = 16" in out
    assert "0.935584" in out


MISTAKES = {
    "unknown model": (("train", "autoin", "data"), r"no model named 'autoin'; did you mean \['autoint'"),
    "unknown recipe": (("train", "frappe_x1/autoin"), r"no recipe named 'frappe_x1/autoin'; did you mean"),
    "unknown setting": (
        ("train", "lr", "data", "--set", "train.epoch=3"),
        r"no setting named 'train.epoch'; did you mean \['train.epochs'",
    ),
    "unknown model setting": (
        ("train", "lr", "data", "--set", "model.layers=3"),
        r"no setting named 'layers'",
    ),
    "unknown group": (("train", "lr", "data", "--set", "modl.layers=3"), r"did you mean \['model'\]"),
    "wrong value": (("train", "lr", "data", "--set", "train.lr=fast"), r"train.lr = 'fast': input should be"),
    "no value": (("train", "lr", "data", "--set", "train.lr"), r"write it as key=value"),
    "no data": (("train", "lr"), r"name the data"),
    "no such data": (("train", "lr", "nowhere"), r"nowhere"),
    "not prepared": (("train", "lr", "."), r"prepared"),
    "no target": (("train",), r"needs a recipe or a model name"),
    "no run": (("evaluate", "nowhere"), r"nowhere"),
    "resume nothing": (("train", "--resume", "data"), r"no run here"),
    "resume with settings": (("train", "lr", "--resume", "data"), r"--resume takes the settings of the run"),
    "no such device": (("train", "lr", "data", "--device", "cuda"), r"no CUDA device here; use cpu"),
    "no device": (("train", "lr", "data", "--device", "gpu"), r"train.device = 'gpu'"),
    "bad output": (("predict", "data", "shop.csv", "--out", "x.txt"), r"must end in .csv or .parquet"),
    "explain a name": (("show", "lr", "--explain"), r"--explain needs a run folder"),
    "bad seeds": (("board", "run", "frappe_x1/lr", "--seeds", "one"), r"write whole numbers with commas"),
    "no rows": (("board", "show", "none.jsonl"), r"none.jsonl"),
    "missing file": (("prepare", "none.csv", "--schema", "shop.toml", "--out", "new"), r"none.csv"),
    "no schema": (("prepare", "shop.csv", "--out", "new"), r"--schema"),
}


@pytest.mark.parametrize(("words", "sentence"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_sentence_and_exit_code_2(words, sentence, prepared, run):
    import re

    before = sorted(p.name for p in prepared.iterdir())
    code, _, err = run(*words)
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert re.search(sentence, err), err
    assert sorted(p.name for p in prepared.iterdir()) == before  # nothing half-written


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


DAMAGE = {
    "missing column": (lambda f: f.drop("item").write_csv("bad.csv"), "bad.csv", r"bad.csv: .*'item'"),
    "text in numbers": (
        lambda f: f.with_columns(price=pl.lit("dear")).write_csv("bad.csv"),
        "bad.csv",
        r"bad.csv.*price.*dear",
    ),
    "NaN": (
        lambda f: f.with_columns(price=pl.lit(float("nan"))).write_csv("bad.csv"),
        "bad.csv",
        r"bad.csv.*price.*NaN",
    ),
    "label": (
        lambda f: f.with_columns(click=pl.lit(2)).write_csv("bad.csv"),
        "bad.csv",
        r"bad.csv.*click.*2",
    ),
    "no positives": (lambda f: f.with_columns(click=pl.lit(0)).write_csv("bad.csv"), "bad.csv", r"positive"),
    "empty": (lambda f: Path("bad.csv").write_text(""), "bad.csv", r"bad.csv.*empty"),
    "truncated": (
        lambda f: (f.write_parquet("bad.parquet"), _cut(Path("bad.parquet"))),
        "bad.parquet",
        r"bad.parquet",
    ),
}


@pytest.mark.parametrize(("spoil", "name", "sentence"), DAMAGE.values(), ids=DAMAGE)
def test_bad_data_is_one_sentence_and_leaves_nothing(spoil, name, sentence, folder, run):
    import re

    spoil(shop(100))
    before = sorted(p.name for p in folder.iterdir())
    code, _, err = run("prepare", name, "--schema", "shop.toml", "--out", "data")
    assert code == 2
    assert err.count("\n") == 1
    assert re.search(sentence, err), err
    assert sorted(p.name for p in folder.iterdir()) == before


def test_a_full_disk_in_training_is_one_sentence(prepared, run, monkeypatch):
    import errno

    from recsys_zoo.train import checkpoint

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "state")

    monkeypatch.setattr(checkpoint, "write_whole", full)
    code, _, err = run("train", "lr", "data", "--out", "run", *QUICK)
    assert code == 2
    assert "No space left on device; free some space" in err


def test_infer_drafts_a_schema_that_prepares(folder, run):
    code, out, err = run("prepare", "shop.csv", "--infer", "--schema", "draft.toml")
    assert code == 0, err
    assert "prepare shop.csv --schema draft.toml" in out
    code, out, err = run("prepare", "shop.csv", "--schema", "draft.toml", "--out", "drafted")
    assert code == 0, err
    assert Path("drafted/schema.json").is_file()
    code, _, err = run("prepare", "shop.csv", "--infer", "--schema", "draft.toml")
    assert code == 2
    assert "exists already" in err


def test_a_failed_start_does_not_block_the_folder(prepared, run):
    assert run("train", "lr", "data", "--out", "run", *QUICK, "--set", "label=buy")[0] == 2
    assert run("train", "lr", "data", "--out", "run", *QUICK)[0] == 0


def test_seed_zero_is_a_seed(prepared, run):
    assert run("train", "lr", "data", "--out", "run", *QUICK, "--seed", "0")[0] == 0
    assert json.loads(Path("run/row.json").read_text())["seed"] == 0


def test_a_run_that_dies_at_once_has_a_row_that_says_so(prepared, run):
    settings = (*QUICK, "--set", "model.embedding.init_std=1e38", "--set", "train.lr=1e30")
    code, out, err = run("train", "fm", "data", "--out", "run", *settings)
    assert code == 0, err
    row = json.loads(Path("run/row.json").read_text())
    assert row["status"] == "dead"
    assert row["metrics"] == {}
    assert "dead run: " in out


def test_foreign_data_of_the_same_shape_are_refused(prepared, run):
    assert run("train", "lr", "data", "--out", "run", *QUICK)[0] == 0
    shop().with_columns(item=pl.col("item").str.replace("i", "j")).write_csv("shop.csv")
    assert run("prepare", "shop.csv", "--schema", "shop.toml", "--out", "other")[0] == 0
    code, _, err = run("evaluate", "run", "--data", "other")
    assert code == 2
    assert "not those the model was trained with" in err


def test_changed_bytes_of_prepared_data_are_refused(prepared, run):
    path = Path("data/train/ids.npy")
    content = bytearray(path.read_bytes())
    content[-4] ^= 1
    path.write_bytes(content)
    code, _, err = run("train", "lr", "data", "--out", "run", *QUICK)
    assert code == 2
    assert "ids.npy" in err


def test_a_run_folder_is_never_overwritten(prepared, run):
    assert run("train", "lr", "data", "--out", "run", *QUICK)[0] == 0
    code, _, err = run("train", "lr", "data", "--out", "run", *QUICK)
    assert code == 2
    assert "already holds a run" in err


def test_a_damaged_checkpoint_is_refused(prepared, run):
    assert run("train", "lr", "data", "--out", "run", *QUICK)[0] == 0
    path = Path("run/checkpoint/model.safetensors")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    code, _, err = run("evaluate", "run")
    assert code == 2
    assert "SHA-256" in err
