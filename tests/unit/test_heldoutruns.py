"""Runs on data that hold users out of training: prepared, fitted, tested, recommended, refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from recsys_zoo import create, load_ranker
from recsys_zoo.board.columns import columns
from recsys_zoo.board.draws import FILE, read_draws
from recsys_zoo.board.key import HELD_OUT, PROTOCOLS, one_key
from recsys_zoo.board.rank import main_metric, main_pair, rank
from recsys_zoo.board.rows import Row
from recsys_zoo.data.prepare import prepare
from recsys_zoo.data.spec import DataSpec
from recsys_zoo.data.store import Prepared
from recsys_zoo.errors import InputError
from recsys_zoo.evaluation import heldout, slices
from recsys_zoo.evaluation.full_rank import top_items
from recsys_zoo.rankruns import fitted_on
from recsys_zoo.runs import RunConfig, evaluate, train
from recsys_zoo.space import space_of
from recsys_zoo.tasks.ranking import RankingTask
from recsys_zoo.train.callbacks import Callback
from recsys_zoo.train.checkpoint import load_seen, load_weights, read_config
from recsys_zoo.train.trainer import Trainer
from recsys_zoo.tuning import Study
from tests.unit.tasks.test_ranking import data as blocks

SPEC = {
    "dataset": "films", "user": "who", "item": "what", "interactions": {"user_core": 4},
    "columns": [{"name": "who", "side": "user"}, {"name": "what", "side": "item"}],
    "split": {"method": "users", "user": "who", "random": True, "keys": ["who", "what"], "salt": "films",
              "fractions": {"train": 0.6, "valid": 0.2, "test": 0.2}, "given": 0.7}}
TRAIN = {"batch_size": 20, "lr": 0.02, "epochs": 6, "patience": 3, "device": "cpu", "monitor": "ndcg@100"}
SMALL = {"ease": {"l2": 3.0}, "multivae": {"hidden": [16], "latent": 4, "dropout": 0.2}}


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Prepared:
    """The pairs of the blocks."""
    folder = tmp_path_factory.mktemp("films")
    user, item = blocks().lists("train", "valid", "test").pairs()
    frame = pl.DataFrame({"who": user.numpy(), "what": item.numpy()})
    frame.select(pl.format("u{}", "who").alias("who"), pl.format("f{}", "what").alias("what")).write_csv(
        folder / "films.csv")
    return prepare([folder / "films.csv"], DataSpec.parse(SPEC, "films"), folder / "data")


def config(name: str = "ease", **more) -> RunConfig:
    return RunConfig.parse({"model": {"name": name, **SMALL.get(name, {})}, "train": TRAIN, **more}, "run")


def run(out: Path, cfg: RunConfig, data: Prepared) -> Row:
    return train(cfg, data, out, say=lambda line: None, callbacks=[Callback()])


def test_a_prepared_folder_says_what_is_given_and_what_is_asked(films):
    """Of each held-out user the rows are divided, by shares, and no row is in two parts."""
    assert set(films.names) == {"train", "valid_given", "valid", "test_given", "test"}
    known = heldout.known_users(films)
    for split in ("valid", "test"):
        given, asked = films.lists(f"{split}_given"), films.lists(split)
        sizes = given.counts + asked.counts
        assert sizes[:known].tolist() == [0] * known
        assert given.counts.tolist() == [int(np.floor(0.7 * n + 1e-9)) for n in sizes.tolist()]
        assert asked.without(given).items.tolist() == asked.items.tolist()
    assert "the first 0.7 of a held-out one" in run_words(films)


def run_words(films: Prepared) -> str:
    return DataSpec.model_validate(films.record["spec"]).split.words


def test_a_scorer_is_fitted_on_the_users_of_training_alone(films, tmp_path):
    row = run(tmp_path, config(), films)
    model = create("ease", heldout.schema_of(films), l2=3.0)
    model.fit(heldout.learnt(films, "train"))
    for split in ("valid", "test"):
        task = RankingTask(films, 0, valid=split)
        expected = task.evaluate(model, task.valid, 0).metrics
        found = {k.removeprefix(f"{split}."): v for k, v in row.metrics.items()
                 if k.startswith(f"{split}.") and not k.endswith(("_low", "_high"))}
        more = {name: found.pop(name) for name in [*found] if name not in expected}
        assert found == expected
        assert bool(more) == (split == "test")
        assert evaluate(tmp_path, films, split) == expected
    with pytest.raises(InputError, match="test_given: is what is given of users, and not measured"):
        evaluate(tmp_path, films, "test_given")
    given = films.lists("test_given")
    best = top_items(lambda users: model.score_lists(given.rows(users)), given.counts.nonzero().squeeze(1),
                     given, task.items, 20)[0]
    assert more["coverage@20"] == len(set(best.flatten().tolist())) / task.items
    assert sum(more.get(f"users|{name}", 0) for name in slices.USERS) == len(best)
    held = create("ease", heldout.schema_of(films), l2=3.0)
    config_file = read_config(tmp_path / "checkpoint")
    load_weights(tmp_path / "checkpoint", held, config_file)
    assert torch.equal(held.weight, model.weight)
    assert len(load_seen(tmp_path / "checkpoint", config_file)) == heldout.known_users(films)
    assert (row.protocol, row.selection, row.status) == (HELD_OUT, "valid", "done")
    assert row.metrics["test.ndcg@100_low"] < row.metrics["test.ndcg@100"] < row.metrics["test.ndcg@100_high"]
    assert "ndcg@100" in read_draws(tmp_path / FILE).metrics


def test_a_trained_model_is_tested_with_the_weights_of_its_best_epoch(films, tmp_path):
    row = run(tmp_path, config("multivae"), films)
    cfg = config("multivae").resolved().train
    model = create("multivae", heldout.schema_of(films), seed=cfg.seed, **SMALL["multivae"])
    task = RankingTask(films, 0, lists=True)
    model.prepare(task.learnt)
    fit = Trainer(task, cfg).fit(model)
    assert row.best_epoch == fit.best_epoch
    assert {k.removeprefix("valid."): v for k, v in row.metrics.items() if k[:6] == "valid."} == fit.valid
    test = RankingTask(films, 0, valid="test")
    assert row.metrics["test.ndcg@100"] == test.evaluate(model, test.valid, 0).metrics["ndcg@100"]
    assert not (tmp_path / "refit").exists()


def test_models_with_fold_in_beat_the_same_list_for_everybody(films, tmp_path):
    names = ("popularity", "itemknn", "slim", "ease", "gfcf", "bspm", "ials", "multivae")
    more = {"gfcf": {"vectors": 3}, "bspm": {"vectors": 3}, "ials": {"dim": 8}, "slim": {"alpha": 0.02}}
    found = {}
    for name in names:
        cfg = RunConfig.parse({"model": {"name": name, **more.get(name, SMALL.get(name, {}))},
                               "train": {**TRAIN, "epochs": 12}}, "run")
        found[name] = run(tmp_path / name, cfg, films).metrics["test.ndcg@100"]
    floor = found.pop("popularity")
    assert min(found.values()) > floor + 0.1, (floor, found)


def test_such_rows_have_a_protocol_of_their_own(films, tmp_path):
    row, full = run(tmp_path / "users", config(), films), run(tmp_path / "full", config(), blocks())
    assert row.protocol in PROTOCOLS
    assert (main_metric([row]), main_metric([full])) == ("test.ndcg@100", "test.recall@20")
    assert main_pair("test.ndcg@100") == ("test.ndcg@100", "test.recall_capped@20")
    with pytest.raises(InputError, match="rows of different protocol"):
        one_key([row, full])
    shown = {}
    for one in (row, full):
        ranking = rank([one], main_metric([one]), ())
        shown[one.protocol] = [column.name for column in columns(ranking, [ranking])]
    assert {"test.recall_capped@20", "test.recall_capped@50"} <= set(shown[HELD_OUT])
    assert "test.recall_capped@20" not in shown[full.protocol]


def test_a_study_chooses_by_the_users_of_valid(films, tmp_path):
    space = space_of(config().resolved(), only=["model.l2"])
    study = Study("ease", space, films, tmp_path, 3, say=lambda line: None)
    study.run()
    for trial in study.read():
        model = create("ease", heldout.schema_of(films), l2=trial.settings.get("model.l2", 3.0))
        task = RankingTask(films, 0)
        model.fit(task.learnt)
        assert trial.value == task.evaluate(model, task.valid, 0).metrics["ndcg@100"]


def test_nothing_was_learnt_of_users_who_are_held_out(films, tmp_path):
    run(tmp_path, config("itemknn"), films)
    ranker, known = load_ranker(tmp_path), heldout.known_users(films)
    assert len(ranker.users()) == known
    names = pl.read_parquet(films.folder / "encoding" / "who.parquet")["value"].to_list()
    lists, _ = ranker.recommend(names[:3], 5)
    assert lists.shape == (3, 5)
    with pytest.raises(InputError, match="nothing was learnt of user 'u"):
        ranker.recommend([names[-1]], 5)
    popular, _ = ranker.recommend([names[-1]], 5, unknown="popular")
    assert popular.shape == (1, 5)


def test_what_makes_no_such_run_is_refused(films, tmp_path):
    refused = (r"model mf: learns something of each user, and films asks about users who are held out .* "
               r"choose one of \['bspm', .*'ease', 'gfcf',")
    with pytest.raises(InputError, match=refused):
        run(tmp_path, config("mf"), films)
    with pytest.raises(InputError, match="never pick the epoch; set protocol=honest"):
        fitted_on(config(protocol="published").resolved(), films)
    with pytest.raises(InputError, match="rankings are watched by"):
        run(tmp_path, config("multivae", train={**TRAIN, "monitor": "snips_dcg@5"}), films)
    splits = {name: films.split(name) for name in films.names if name != "test_given"}
    with pytest.raises(InputError, match="no split named 'test_given'"):
        fitted_on(config().resolved(), Prepared.in_memory(films.schema, splits))
    assert not (tmp_path / "config.toml").exists()
