"""Interactions from files to a board, by commands."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recsys_zoo import create
from recsys_zoo.data.store import Prepared
from recsys_zoo.tasks.ranking import RankingTask

SCHEMA = """
dataset = "films"
user = "who"
item = "what"
columns = [{name = "who", side = "user"}, {name = "what", side = "item"}]

[interactions]
rating = "stars"
above = 2
user_core = 3

[split]
method = "user"
user = "who"
random = true
keys = ["who", "what"]
last = {valid = 0.2, test = 0.2}
"""
RECIPE = """
board = "films"
data = "data"
protocol = "{protocol}"

[model]
name = "{name}"

[train]
epochs = 3
"""


@pytest.fixture
def films(tmp_path, monkeypatch) -> Path:
    """Two kinds of viewers and films, in a folder with a schema and recipes."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    who, what = draw.integers(0, 40, 900), draw.integers(0, 30, 900)
    stars = np.where(who % 2 == what % 2, 5, draw.integers(1, 4, 900))
    pl.DataFrame({"who": who, "what": what, "stars": stars}).write_csv("films.csv")
    Path("films.toml").write_text(SCHEMA)
    for name in ("popularity", "itemknn", "mf"):
        Path(f"{name}.toml").write_text(RECIPE.format(name=name, protocol="honest"))
    Path("as_published.toml").write_text(RECIPE.format(name="mf", protocol="published"))
    return tmp_path


def test_from_files_to_a_board(films, run):
    code, out, err = run("prepare", "films.csv", "--schema", "films.toml", "--out", "data")
    assert code == 0, err
    assert "valid" in out
    code, out, err = run("train", "itemknn", "data", "--out", "one")
    assert code == 0, err
    assert "test.recall@20" in out
    recipes = [f"{name}.toml" for name in ("popularity", "itemknn", "mf", "as_published")]
    assert run("board", "run", *recipes, "--seeds", "1,2", "--rows", "rows.jsonl")[0] == 0
    code, out, err = run("board", "show", "rows.jsonl")
    assert code == 0, err
    honest, published = out.split("films: ", 2)[1:]
    assert "recall@20" in honest
    assert "NDCG@20" in honest
    place = {name: honest.index(f" {name} ") for name in ("itemknn", "popularity (below itemknn)")}
    assert place["itemknn"] < place["popularity (below itemknn)"]
    assert "epoch picked on test" in published
    assert "mf" in published
    for ranking, models in ((honest, 3), (published, 1)):  # each with the floors of its protocol
        lines = [line for line in ranking.splitlines() if "\u2502" in line]
        assert ["floor" in line for line in lines] == [False] * models + [True] * 2
        assert "data: not audited" not in ranking
        assert "data: rows were held out at random" in ranking
    problems = run("board", "check", "rows.jsonl")[1].splitlines()
    told = [line for line in problems if "row" in line and "commit" not in line]
    assert not [line for line in told if "no problem" not in line]
    assert run("board", "page", "rows.jsonl", "--out", "page.html")[0] == 0
    code, out, err = run("board", "compare", "itemknn", "popularity", "--rows", "rows.jsonl")
    assert code == 0, err
    assert "test recall@20" in out
    assert "test NDCG@20" in out
    assert "users" in out
    latex = run("board", "compare", "itemknn", "popularity", "--rows", "rows.jsonl", "--latex")[1]
    assert "model & recall@20 & NDCG@20 &" in latex
    code, out, err = run("board", "reproduce", "rows.jsonl", "--entry", "mf", "--seed", "1", "--out", "again")
    assert code == 2  # of the honest and the published run
    code, out, err = run("board", "reproduce", "rows.jsonl:7", "--out", "again")
    assert (code, "reproduced bit for bit" in out) == (0, True), err
    code, out, err = run("board", "reproduce", "rows.jsonl:2", "--out", "again")
    assert (code, "itemknn on films" in out, "reproduced bit for bit" in out) == (0, True, True), err


def test_minutes_cut_trainings_and_leave_what_is_fitted_at_once_whole(films, run):
    assert run("prepare", "films.csv", "--schema", "films.toml", "--out", "data")[0] == 0
    code, _, err = run("tune", "itemknn.toml", "mf.toml", "--minutes", "1e-9")
    assert code == 0, err
    for name, epochs in (("itemknn", 3), ("mf", 1)):
        folder = Path("tuning/films", name)
        (trial,) = (json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines())
        recipe = tomllib.loads((folder / "recipe.toml").read_text())
        assert (trial["cut"], recipe["train"]["epochs"], recipe["minutes"]) == (name == "mf", epochs, 1e-9)


def test_mistakes_are_told(films, run):
    assert run("prepare", "films.csv", "--schema", "films.toml", "--out", "data")[0] == 0
    for words, said in (
        (("train", "fm", "data"), "model fm: learns from labels, and films holds interactions"),
        (("train", "mf", "data", "--set", "train.monitor=auc"), "train.monitor='auc': rankings are"),
        (("train", "mf", "data", "--set", "protocol=loose"), "protocol = 'loose'"),
        (("audit", "data", "--label", "stars"), "films: interactions have no label"),
    ):
        code, _, err = run(*words)
        assert (code, said in err) == (2, True), err
        assert "Traceback" not in err


def test_a_dry_run_and_tuning_know_what_has_a_training(films, run):
    pytest.importorskip("optuna")
    assert run("prepare", "films.csv", "--schema", "films.toml", "--out", "data")[0] == 0
    code, out, _ = run("board", "run", "itemknn.toml", "mf.toml", "--rows", "rows.jsonl", "--dry-run")
    assert code == 0
    assert "a fit without epochs" in out
    assert " an epoch, at most 3" in out
    code, out, err = run("tune", "mf.toml", "--trials", "2", "--sampler", "random", "--out", "tuning")
    assert code == 0, err
    assert "valid recall@20" in out
    code, _, err = run("tune", "as_published.toml", "--trials", "1", "--out", "tuning")
    assert (code, "the test rows pick the epoch" in err) == (2, True)
    code, _, err = run("tune", "popularity.toml", "--trials", "1", "--out", "tuning")
    assert (code, "popularity: no setting is left to tune" in err) == (2, True)


def test_a_scorer_is_tuned_by_fits_on_train_alone(films, run):
    """The record's values are those of fits on train, looked at on valid; the choice is the best of them."""
    pytest.importorskip("optuna")
    assert run("prepare", "films.csv", "--schema", "films.toml", "--out", "data")[0] == 0
    code, _, err = run("tune", "itemknn.toml", "--trials", "5", "--sampler", "random", "--out", "tuning")
    assert code == 0, err
    trials = [json.loads(line) for line in Path("tuning/films/itemknn/trials.jsonl").read_text().splitlines()]
    assert [trial["state"] for trial in trials] == ["done"] * 5
    assert all(name.startswith("model.") for trial in trials for name in trial["settings"])
    data = Prepared.open("data")
    task = RankingTask(data, 0)
    for trial in trials:
        settings = {name.removeprefix("model."): value for name, value in trial["settings"].items()}
        model = create("itemknn", data.schema, seed=1, **settings)
        model.fit(data.lists("train"))
        assert task.evaluate(model, task.valid, 0).metrics == trial["valid"][0]
        assert trial["value"] == trial["valid"][0]["recall@20"]
    chosen = tomllib.loads(Path("tuning/films/itemknn/recipe.toml").read_text())
    best = max(trials, key=lambda trial: trial["value"])
    assert chosen["model"]["neighbors"] == best["settings"]["model.neighbors"]
    assert (chosen["hparams"], chosen["trials"]) == ("valid", 5)


@pytest.mark.parametrize(("protocol", "split"), [("honest", "valid"), ("published", "test")])
def test_an_epoch_says_on_which_split_it_was_looked_at(films, run, protocol, split):
    assert run("prepare", "films.csv", "--schema", "films.toml", "--out", "data")[0] == 0
    said = "\n".join(run("train", "mf", "data", "--out", "one", "--set", f"protocol={protocol}")[1:])
    (other,) = {"valid", "test"} - {split}
    assert f"  {split} recall@20 " in said
    assert f"  {other} recall@20 " not in said


def test_what_a_run_of_rankings_answers(films, run):
    assert run("prepare", "films.csv", "--schema", "films.toml", "--out", "data")[0] == 0
    row = run("train", "itemknn", "data", "--out", "one")[1]
    code, out, err = run("evaluate", "one")
    assert code == 0, err
    number = next(line.split()[-1] for line in row.splitlines() if "test.ndcg@20 " in line)
    assert number in out
    code, _, err = run("predict", "one", "films.csv", "--out", "p.csv")
    assert (code, "ranks items and gives no probabilities" in err) == (2, True)
