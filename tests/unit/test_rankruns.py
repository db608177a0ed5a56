"""Runs of models that rank: both protocols step by step, what is kept, and going on after a stop."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
import torch

from recsys_zoo import create
from recsys_zoo.board.draws import FILE, read_draws
from recsys_zoo.board.key import RANKING, one_key
from recsys_zoo.board.rows import Row
from recsys_zoo.data.store import Prepared
from recsys_zoo.errors import InputError
from recsys_zoo.evaluation.slices import further
from recsys_zoo.itemlists import ItemLists
from recsys_zoo.metrics.ranking import Ranks, recall
from recsys_zoo.rankfiles import RANKS, USERS
from recsys_zoo.rankruns import begin
from recsys_zoo.runs import RunConfig, evaluate, identity, is_row_of, train
from recsys_zoo.tasks.ranking import KS, PairExamples, RankingTask, UserPairExamples, scores_of
from recsys_zoo.train.callbacks import Callback
from recsys_zoo.train.checkpoint import load_weights, read_config
from recsys_zoo.train.config import TrainConfig
from recsys_zoo.train.trainer import Trainer
from tests.unit.tasks.test_ranking import Stop, data
from tests.unit.test_audit import prepared, splits

TRAIN = {"batch_size": 64, "lr": 0.05, "epochs": 12, "patience": 4, "plateau_factor": 0.5, "device": "cpu",
         "save_every_s": 0.0}


def config(name: str = "mf", **more) -> RunConfig:
    model = {"name": name, **({"embedding": {"dim": 4}} if name == "mf" else {})}
    return RunConfig.parse({"model": model, "train": TRAIN} | more, "run")


def run(out: Path, cfg: RunConfig, **more) -> Row:
    return train(cfg, data(), out, say=lambda line: None, **{"callbacks": [Callback()], **more})


def places(out: Path) -> Ranks:
    frame = pl.read_parquet(out / RANKS)
    columns = ("user", "above", "tied", "candidates")
    user, above, tied, candidates = (torch.tensor(frame[c].to_numpy()).long() for c in columns)
    _, place = torch.unique(user, return_inverse=True)
    first = torch.zeros(int(place.max()) + 1, dtype=torch.int64).scatter_(0, place, candidates)
    return Ranks.of(place, above, tied, first)


def test_an_honest_run_step_by_step(tmp_path):
    """Epoch and rates from valid, a fit of as many epochs on both, one test."""
    row = run(tmp_path, config())
    held, cfg = data(), config().resolved().train
    model = create("mf", held.schema, seed=cfg.seed, embedding={"dim": 4})
    fit = Trainer(RankingTask(held, 1), cfg).fit(model)
    assert 1 < fit.best_epoch == row.best_epoch
    assert {k.removeprefix("valid."): v for k, v in row.metrics.items() if k[:6] == "valid."} == fit.valid
    rates = fit.rates[: fit.best_epoch]
    log = [json.loads(line) for line in (tmp_path / "refit.jsonl").read_text().splitlines()]
    refit = [event for event in log if event["event"] == "epoch"]
    assert [event["lr"] for event in refit] == list(rates)
    assert not any(event["valid"] for event in refit)
    again = create("mf", held.schema, seed=cfg.seed, embedding={"dim": 4})
    task = RankingTask(held, 1, train=("train", "valid"), valid="test")
    Trainer(task, cfg, schedule=rates).fit(again)
    expected = task.evaluate(again, task.valid, 0).metrics
    both = held.lists("train", "valid")
    with scores_of(again) as score:
        expected |= further(score, task.ranking(again, task.valid), both, both, task.items, KS)
    assert {k.removeprefix("test."): v for k, v in row.metrics.items()
            if k[:5] == "test." and not k.endswith(("_low", "_high"))} == expected
    assert (row.protocol, row.selection, row.status) == (RANKING["honest"], "valid", "done")
    held_model = create("mf", held.schema, embedding={"dim": 4})
    load_weights(tmp_path / "checkpoint", held_model, read_config(tmp_path / "checkpoint"))
    assert all(torch.equal(t, again.state_dict()[n]) for n, t in held_model.state_dict().items())


def test_the_popularity_sampler_of_a_run_draws_items_by_their_users(tmp_path):
    """The negatives of a run's batches: by the square root of the number of training users, never an item
    without any; learnt with the correction for just these rates."""
    held, said = data(), {"name": "mf.softmax", "embedding": {"dim": 4}, "sampler": "popularity",
                          "popularity_power": 0.5, "negatives": 400}
    task, model = begin(RunConfig.parse({"model": said, "train": TRAIN}, "run").resolved(), held)
    train = held.lists("train")
    weight = torch.bincount(train.items, minlength=task.items).double().sqrt()
    torch.testing.assert_close(model.log_q, (weight / weight.sum()).log().float())
    batch = task.train.batch(torch.arange(len(task.train)))
    drawn = torch.bincount(batch.neg.flatten(), minlength=task.items).double()
    allowed = torch.zeros(task.items, dtype=torch.float64)  # by the items that the user of each draw has not
    for user in batch.user.tolist():
        own = weight.clone()
        own[train.of_users(torch.tensor([user]))[1]] = 0
        allowed += 400 * own / own.sum()
    assert not drawn[weight == 0].any()
    assert float(((drawn - allowed) ** 2 / allowed.clamp(min=1)).mean()) < 2


@pytest.mark.parametrize("name", ["mf", "itemknn"])
def test_further_lengths_of_lists_are_measured_and_change_nothing_else(tmp_path, name):
    """Of test, of valid and of what is watched, and when the run is evaluated again; not where they are no
    lengths."""
    plain, asked = (run(tmp_path / str(len(ks)), config(name, ks=ks)) for ks in ([], [3, 20]))
    found = recall(places(tmp_path / "2"), 3)
    assert asked.metrics["test.recall@3"] == pytest.approx(float(found.mean()))
    assert {"test.coverage@3", "valid.ndcg@3", "test.map@20"} <= {*asked.metrics}
    more = {metric for metric in asked.metrics if metric.partition("|")[0].endswith("@3")}
    assert {*asked.metrics} - more == {*plain.metrics}
    assert all(asked.metrics[metric] == value for metric, value in plain.metrics.items())
    cfg = config(name, ks=[20, 3]).resolved()
    assert is_row_of(asked, cfg, asked.data_digest)
    assert not is_row_of(plain, cfg, plain.data_digest)
    assert "ks" not in identity(config(name).resolved(), "d")
    assert config(name, ks=[20, 3, 3]) == config(name, ks=[3, 20])
    if name == "mf":
        watched = run(tmp_path / "watched", config(ks=[3], train={**TRAIN, "monitor": "ndcg@3"}))
        assert watched.status == "done"
        again = evaluate(tmp_path / "2", data(), "test")
        assert again["recall@3"] == asked.metrics["test.recall@3"]
    with pytest.raises(InputError, match=r"run: ks\.0 = 0: input should be greater"):
        config(name, ks=[0])


def test_lengths_of_lists_are_of_no_use_for_labels(tmp_path):
    cfg = RunConfig.parse({"model": {"name": "lr"}, "ks": [5]}, "run")
    with pytest.raises(InputError, match="ks: is of rankings, and shop holds labels; leave it out"):
        train(cfg, prepared(splits(1)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("protocol", "split"), [("honest", "valid"), ("published", "test")])
def test_a_model_whose_scores_are_no_numbers_has_a_row_that_says_so(tmp_path, protocol, split):
    """A vector that is sharpened without bound; nothing is measured of it."""
    settings = {"name": "bspm", "sharpen_time": 1e38, "vectors": 3, "sharpen_steps": 4}
    row = run(tmp_path, config(model=settings, protocol=protocol))
    assert (row.status, row.metrics) == ("dead", {})
    assert row.reason == f"bspm: its scores on {split} are NaN or infinite; choose milder settings"
    assert json.loads((tmp_path / "row.json").read_text())["status"] == "dead"


@pytest.mark.parametrize(("said", "kind"), [({}, PairExamples), ({"positives": "users"}, UserPairExamples)])
def test_the_positives_of_a_run_are_drawn_as_it_says(said, kind):
    task, _ = begin(config(model={"name": "lightgcn", **said}).resolved(), data())
    assert type(task.train) is kind


def test_settings_younger_than_a_row_leave_its_identity_alone():
    for name, newer in (("mf", ("sampler", "popularity_power", "candidates")), ("cml", ("rank_weight",)),
                        ("lightgcn", ("sampler", "popularity_power", "candidates", "positives"))):
        cfg = RunConfig.parse({"model": {"name": name}}, "run").resolved()
        assert not {*newer} & {*identity(cfg, "d")["model"]}
        assert {*newer} <= {*cfg.model}
    hard = RunConfig.parse({"model": {"name": "mf", "sampler": "hard"}}, "run").resolved()
    assert identity(hard, "d")["model"]["sampler"] == "hard"


def test_nothing_is_measured_on_what_a_model_was_fitted_on(tmp_path):
    """An honest model is fitted on valid too: its items there would be ranked as if they were new."""
    row = run(tmp_path, config("itemknn"))
    assert evaluate(tmp_path, data(), "test")["recall@20"] == row.metrics["test.recall@20"]
    for split in ("train", "valid"):
        with pytest.raises(InputError, match=f"split {split}: the model was fitted on train and valid"):
            evaluate(tmp_path, data(), split)


def test_a_scheduled_training_validates_nothing_and_keeps_the_last_weights():
    held = data()

    class Once(RankingTask):
        def evaluate(self, *args, **more):
            raise AssertionError("nothing is validated")

    rates: list[float] = []

    class Watch(Callback):
        def on_step_end(self, info) -> None:
            rates.append(trainer.at.lr)

    model = create("mf", held.schema, seed=1, embedding={"dim": 4})
    trainer = Trainer(Once(held, 1), TrainConfig(batch_size=256, device="cpu"), callbacks=[Watch()],
                      schedule=[0.1, 0.05, 0.01])
    fit = trainer.fit(model)
    assert (fit.epochs, fit.status, fit.valid) == (3, "done", {})
    assert list(dict.fromkeys(rates)) == [0.1, 0.05, 0.01]


def test_the_places_that_are_kept_give_the_metrics_again(tmp_path):
    row = run(tmp_path, config())
    values = recall(places(tmp_path), 20)
    assert float(values.mean()) == pytest.approx(row.metrics["test.recall@20"], abs=1e-12)
    assert pl.read_parquet(tmp_path / USERS)["recall@20"].to_list() == values.tolist()
    draws = read_draws(tmp_path / FILE)
    assert draws.unit == "users"
    low, high = (row.metrics[f"test.recall@20_{end}"] for end in ("low", "high"))
    assert low < row.metrics["test.recall@20"] < high
    assert float(draws.metrics["recall@20"].std()) == pytest.approx(
        float(values.std()) / len(values) ** 0.5, rel=0.2)


def test_draws_of_two_models_are_pairs(tmp_path):
    rows = [run(tmp_path / name, config(name)) for name in ("mf", "popularity")]
    one, two = (read_draws(tmp_path / name / FILE) for name in ("mf", "popularity"))
    assert one.test_rows == two.test_rows
    assert rows[0].scores_digest != rows[1].scores_digest
    assert one_key(rows).protocol == RANKING["honest"]


def test_the_published_protocol_picks_the_epoch_on_test(tmp_path):
    row = run(tmp_path, config(protocol="published"))
    held, cfg = data(), config().resolved().train
    model = create("mf", held.schema, seed=cfg.seed, embedding={"dim": 4})
    fit = Trainer(RankingTask(held, 1, train=("train", "valid"), valid="test"), cfg).fit(model)
    assert row.metrics["test.recall@20"] == fit.valid["recall@20"]
    assert (row.protocol, row.selection) == (RANKING["published"], "test")
    assert not [name for name in row.metrics if name.startswith("valid.")]
    honest = run(tmp_path / "honest", config())
    with pytest.raises(InputError, match="rows of different protocol"):
        one_key([row, honest])


@pytest.mark.parametrize("protocol", ["honest", "published"])
def test_a_scorer_is_fitted_on_both_splits(tmp_path, protocol):
    row = run(tmp_path, config("itemknn", protocol=protocol))
    held = data()
    model = create("itemknn", held.schema)
    model.fit(held.lists("train", "valid"))
    task = RankingTask(held, 0, train=("train", "valid"), valid="test")
    assert row.metrics["test.ndcg@20"] == task.evaluate(model, task.valid, 0).metrics["ndcg@20"]
    assert ("valid.ndcg@20" in row.metrics) == (protocol == "honest")
    assert (row.epochs, row.status) == (0, "done")


@pytest.mark.parametrize("step", [5, -3], ids=["while the epoch is chosen", "while it is fitted again"])
def test_a_run_that_was_stopped_goes_on_to_the_same_numbers(tmp_path, step):
    whole = run(tmp_path / "whole", config())
    steps = Stop(10**9)
    run(tmp_path / "count", config(), callbacks=[steps])
    at = step if step > 0 else 10**9 - steps.left + step
    with pytest.raises(SystemExit):
        run(tmp_path / "parts", config(), callbacks=[Stop(at)])
    again = run(tmp_path / "parts", config(), resume=True)
    assert again.metrics == whole.metrics
    assert again.scores_digest == whole.scores_digest


def test_models_and_data_must_fit(tmp_path):
    with pytest.raises(InputError, match="model fm: learns from labels, and blocks holds interactions"):
        run(tmp_path, config("fm"))
    assert not (tmp_path / "config.toml").exists()


@pytest.mark.parametrize("board", ["../a", "a/b", "a\\b", ".a", ""])
def test_a_board_is_the_name_of_a_folder(board):
    with pytest.raises(InputError, match="board = "):
        RunConfig.parse({"model": {"name": "mf"}, "board": board}, "run")


def test_a_model_that_ranks_has_defaults_of_its_own_which_a_recipe_overrides():
    cfg = RunConfig.parse({"model": {"name": "mf"}, "train": {"patience": 3}}, "run").resolved()
    assert (cfg.train.monitor, cfg.train.patience, cfg.train.plateau_factor) == ("recall@20", 3, 1.0)
    assert cfg.resolved() == cfg
    graph = RunConfig.parse({"model": {"name": "xsimgcl"}}, "run").resolved()
    assert (graph.train.monitor, graph.train.patience) == ("recall@20", 100)
    click = RunConfig.parse({"model": {"name": "fm"}}, "run").resolved()
    assert click.train == TrainConfig()


def test_the_protocol_is_part_of_a_run(tmp_path):
    row = run(tmp_path, config("popularity"))
    honest, published = (config("popularity", protocol=p).resolved() for p in ("honest", "published"))
    assert is_row_of(row, honest, data().data_digest)
    assert not is_row_of(row, published, data().data_digest)
    assert "protocol" not in identity(honest, "d")


def test_a_lost_log_changes_nothing(tmp_path):
    """The rates are part of the state, so that the refit never falls back on the test split."""
    whole = run(tmp_path / "whole", config())
    first = Stop(10**9)
    Trainer(RankingTask(data(), 1), config().resolved().train, callbacks=[first]).fit(
        create("mf", data().schema, seed=1, embedding={"dim": 4}))
    with pytest.raises(SystemExit):
        run(tmp_path / "parts", config(), callbacks=[Stop(10**9 - first.left + 1)])  # first step of the refit
    (tmp_path / "parts" / "log.jsonl").unlink()
    again = run(tmp_path / "parts", config(), resume=True)
    assert (again.metrics, again.best_epoch) == (whole.metrics, whole.best_epoch)
    assert again.seconds > 0.5 * whole.seconds


def test_several_stages_and_other_metrics_are_refused_before_there_is_a_folder(tmp_path):
    two = {**TRAIN, "stages": [{"name": "a", "train": ".*"}, {"name": "b", "train": ".*"}]}
    for train_, said in ((two, "leave one"), ({**TRAIN, "monitor": "recall@7"}, "rankings are watched by"),
                         ({**TRAIN, "micro_batch": 8}, "no mean over")):
        with pytest.raises(InputError, match=said):
            run(tmp_path, config("cml", train=train_))
    assert not (tmp_path / "config.toml").exists()
    with pytest.raises(InputError, match="has an epoch, and belongs to one stage"):
        Trainer(RankingTask(data(), 1), TrainConfig(), schedule=[])


def test_histories_of_held_out_users_are_not_ignored(tmp_path):
    held = data()
    splits = {**{name: held.split(name) for name in held.names}, "test_given": held.split("valid")}
    other = Prepared.in_memory(held.schema, splits)
    with pytest.raises(InputError, match="no split named 'valid_given'"):
        train(config(), other, tmp_path, say=lambda line: None)


def test_a_user_who_has_everything_gives_no_pair():
    lists = ItemLists.of(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), 3, 2)
    assert [t.tolist() for t in lists.shorter_than(2).pairs()] == [[1], [1]]


def test_what_comes_before_a_training_is_computed_alike_whatever_ran_before():
    found = []
    for left_over in ("highest", "medium"):
        torch.set_float32_matmul_precision(left_over)
        begin(config("lightgcn").resolved(), data())
        found.append(torch.get_float32_matmul_precision())
    assert found[0] == found[1]
