"""One sentence and exit code 2 for every mistake, and nothing half-written."""

from __future__ import annotations

import json
import os
from pathlib import Path

import polars as pl
import pytest

from .shop import QUICK, shop

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
    "unknown board recipe": (("board", "run", "lr"), r"no recipe named 'lr'"),
    "bad second seed": (("board", "run", "frappe_x1/lr", "--seeds", "1,-2"), r"train.seed = -2"),
    "unknown family": (("list", "--family", "nope"), r"no family named 'nope'; choose one of \['ctr'"),
    "a run of a scorer": (("train", "ease", "data"), r"model ease: ranks items, and these data have labels"),
    "stage of nothing": (
        ("train", "fm", "data", "--out", "new", "--set", 'train.stages=[{name="a",train="nothing"}]'),
        r"stage 'a': no parameter of fm matches 'nothing'",
    ),
    "no rows": (("board", "show", "none.jsonl"), r"none.jsonl"),
    "missing file": (("prepare", "none.csv", "--schema", "shop.toml", "--out", "new"), r"none.csv"),
    "a split in the place of something else": (
        ("prepare", "shop.csv", "--split", "encoding=shop.csv", "--schema", "shop.toml", "--out", "new"),
        r"split name 'encoding': use letters",
    ),
    "a split that is no folder": (
        ("prepare", "shop.csv", "--split", "a/b=shop.csv", "--schema", "shop.toml", "--out", "new"),
        r"split name 'a/b': use letters",
    ),
    "prepare where one stands": (("prepare", "shop.csv", "--schema", "shop.toml", "--out", "."), r"\.: "),
    "a folder as schema": (
        ("prepare", "shop.csv", "--schema", "data", "--out", "new"),
        r"data: cannot be read: Is a directory; name a file",
    ),
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


def test_rows_without_any_value_are_scored_too(prepared, run):
    """Predictions stand in the order of the file's rows, one each, whatever is missing in them."""
    assert run("train", "lr", "data", "--out", "run", *QUICK)[0] == 0
    lines = Path("shop.csv").read_text().splitlines()
    Path("gaps.csv").write_text("\n".join([*lines[:3], ",,,,", *lines[3:5]]) + "\n")
    pl.read_csv("gaps.csv", infer_schema=False).write_parquet("gaps.parquet")
    for name in ("gaps.csv", "gaps.parquet"):
        code, out, err = run("predict", "run", name, "--out", f"{name}.scores.csv")
        assert (code, out) == (0, f"wrote 5 rows to {name}.scores.csv\n"), err
    assert Path("gaps.csv.scores.csv").read_text() == Path("gaps.parquet.scores.csv").read_text()
    Path("blank.csv").write_text("\n".join([*lines[:3], "", *lines[3:5], ""]) + "\n")
    assert run("predict", "run", "blank.csv", "--out", "blank.scores.csv")[1].startswith("wrote 4 rows")
    Path("both.csv").write_text("\n".join([*lines[:3], "", ",,,,", *lines[3:5]]) + "\n")
    code, _, err = run("predict", "run", "both.csv", "--out", "both.scores.csv")
    assert code == 2
    assert "has blank lines and rows without any value, which read alike" in err
    assert not Path("both.scores.csv").exists()
    assert run("predict", "run", "shop.csv", "--out", "x.csv", "--batch-size", "0")[0] == 2


def test_data_without_a_label_are_refused_in_training(folder, run):
    text = Path("shop.toml").read_text().replace('labels = ["click"]', "labels = []")
    Path("shop.toml").write_text(text)
    code, _, err = run("prepare", "shop.csv", "--schema", "shop.toml", "--out", "data")
    if code == 0:  # data for rankings need none
        code, _, err = run("train", "lr", "data", *QUICK)
    assert code == 2
    assert "label" in err
    assert err.count("\n") == 1


def test_a_checkpoint_that_is_gone_is_told(prepared, run):
    import shutil

    assert run("train", "lr", "data", "--out", "run", *QUICK)[0] == 0
    shutil.rmtree("run/checkpoint")
    code, _, err = run("evaluate", "run")
    assert code == 2
    assert "its checkpoint folder is missing" in err


def test_a_changed_card_is_refused(prepared, run):
    assert run("train", "lr", "data", "--out", "run", *QUICK)[0] == 0
    card = Path("run/checkpoint/card.json")
    card.write_text(card.read_text().replace("LR", "XX", 1))
    assert run("evaluate", "run")[0] == 2
