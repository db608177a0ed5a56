"""Every recipe and every published table: they are read, and parameter counts are the published ones."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from data_prep import RECIPES
from recsys_zoo import create
from recsys_zoo.board.rank import read_quoted
from recsys_zoo.board.rows import config_digest, read_rows
from recsys_zoo.catalog import published, recipes
from recsys_zoo.runs import RunConfig, identity, is_row_of, read_recipe, settings_of
from recsys_zoo.schema import Column, Schema
from recsys_zoo.suite import plan
from recsys_zoo.zoo import resolve

NAMES = recipes()
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
# The log counts DNN's perceptron twice (benchmarks/peers/fuxictr.toml).
DIFFERENT = {"dnn"}
# FuxiCTR 2 counts one padding row more a column; the logs of these runs are its.
FUXICTR_2 = {"finalmlp", "finalnet", "finalnet_one"}
FUXICTR_2_ALSO = {"criteo_x4_001/dcnv2", "criteo_x4_001/masknet", "avazu_x4_001/masknet"}


def schema(board: str, rows: int) -> Schema:
    """The categorical columns of a board; the last holds what makes `rows` rows of tables."""
    names = [c.name for c in RECIPES[board].spec.columns]
    sizes = [1] * (len(names) - 1) + [rows - len(names) + 1]
    columns = [
        Column(name=name, kind="categorical", vocab_size=size + 1)
        for name, size in zip(names, sizes, strict=True)
    ]
    return Schema(dataset=board, labels=("click",), columns=tuple(columns))


def parameters(cfg: RunConfig, rows: int) -> int:
    settings = dict(cfg.model)
    return create(settings.pop("name"), schema(cfg.data, rows), seed=1, **settings).num_parameters()


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_is_read(name):
    cfg = read_recipe(NAMES[name])
    board, _, file = name.partition("/")
    assert (cfg.board, cfg.data) == (board, board)
    assert board in RECIPES
    settings = dict(cfg.model)
    resolve(settings.pop("name"), settings, name)
    assert cfg.hparams != "valid" or cfg.trials > 1
    assert file.split("_")[0] == cfg.model["name"].split(".")[0].split("_")[0]


def logged() -> list[tuple[str, int]]:
    """Recipes with settings of a published run, and the parameters that its log counts."""
    found = []
    for name, path in NAMES.items():
        cfg = read_recipe(path)
        table = published(cfg.board)
        if cfg.hparams != "inherited" or table is None:
            continue
        with table.open(encoding="utf-8") as file:
            counts = {line["model"]: int(line.get("params") or 0) for line in csv.DictReader(file)}
        model = cfg.model["name"].removesuffix(".fuxi").removesuffix(".parallel").removesuffix(".serial")
        # FinalMLP's context columns have vectors of their own, and the small schema other sizes
        if counts.get(model) and not cfg.model.get("context"):
            found.append((name, counts[model]))
    return found


@pytest.mark.parametrize(("name", "count"), logged())
def test_parameters_are_those_of_the_published_run(name, count):
    cfg = read_recipe(NAMES[name])
    board, file = name.split("/")
    fields, rows = len(RECIPES[board].spec.columns), RECIPES[board].expected.table_size
    # the count grows evenly with the rows, and tables of millions need not be made for it
    small = [parameters(cfg, fields + extra) for extra in (100, 101)]
    ours = small[0] + (small[1] - small[0]) * (rows - fields - 100)
    if file in FUXICTR_2 or name in FUXICTR_2_ALSO:
        ours += fields * cfg.model["embedding"]["dim"]
    assert (ours == count) == (file not in DIFFERENT)


@pytest.mark.parametrize("board", ["frappe_x1", "movielens_1m", "gowalla_m1", "yelp18_m1",
                                   "amazonelectronics_m1", "movielens1m_m1", "lastfm", "citeulike_a",
                                   "citeulike_t", "movielens_100k_last", "movielens_1m_last",
                                   "movielens_1m_users", "citeulike_t_users", "movielens_100k_time",
                                   "movielens_100k_cold", "movielens_100k_release"])
def test_every_row_is_of_a_recipe_as_it_stands(board):
    """So that the command that made a row finds it, instead of training the model again."""
    rows = [row for row in read_rows(RESULTS / f"{board}.jsonl") if row.role == "model"]
    assert rows
    suite = RESULTS.parent / "suites" / f"{board}.toml"
    cfgs = [task.cfg for task in plan([str(suite) if suite.is_file() else f"{board}/*"], [1], [])]
    for row in rows:
        for seed in (row.seed, row.seed + 1):
            train = {"seed": seed}
            seeded = [cfg.model_copy(update={"train": cfg.train.model_copy(update=train)}) for cfg in cfgs]
            found = sum(is_row_of(row, cfg, row.data_digest) for cfg in seeded)
            assert found == (seed == row.seed), (row.label, row.seed)
            assert not any(is_row_of(row, cfg, "0" * 64) for cfg in seeded)


@pytest.mark.parametrize("file", sorted(RESULTS.glob("*.jsonl")), ids=lambda file: file.stem)
def test_a_row_is_trained_again_by_the_settings_that_it_was_trained_by(file):
    """Whatever a preset says by now of what the row leaves out."""
    rows = [row for row in read_rows(file) if row.role == "model" and row.status != "failed"]
    assert rows
    for row in rows:
        assert config_digest(identity(settings_of(row), row.data_digest)) == row.config_digest, row.label


def test_a_row_of_other_settings_is_another_run():
    cfg = read_recipe(NAMES["frappe_x1/lr"]).resolved()
    row = read_rows(RESULTS / "frappe_x1.jsonl")[-1].model_copy(
        update={"config": cfg.model_dump(mode="json"), "seed": 1, "data_digest": "d"}
    )
    assert is_row_of(row, cfg, "d")
    for change in ({"lr": 0.5}, {"epochs": 3}):
        train = {**row.config["train"], **change}
        assert not is_row_of(row.model_copy(update={"config": {**row.config, "train": train}}), cfg, "d")
    gone = {**row.config, "train": {**row.config["train"], "momentum": 0.9}}
    assert not is_row_of(row.model_copy(update={"config": gone}), cfg, "d")


def test_most_published_runs_are_compared():
    names = [name for name, _ in logged()]
    assert {name.split("/")[0] for name in names} >= {"frappe_x1", "movielenslatest_x1", "criteo_x4_001"}
    assert len(names) > 60


@pytest.mark.parametrize("board", RECIPES)
def test_every_published_table_is_read(board):
    table = published(board)
    if table is None:
        assert not board.endswith("_x1_published")
        return
    quoted = read_quoted(table)
    assert quoted
    if board.endswith("_m1"):
        assert all(0 < q.metrics["ndcg@20"] < q.metrics["recall@20"] < 0.5 for q in quoted)
    else:
        assert all(0.5 < q.metrics["auc"] < 1 and q.metrics.get("logloss", 1.0) > 0 for q in quoted)
