"""Runs on data whose test says what was judged: candidates, rare items, the SNIPS monitor, refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from recsys_zoo import create
from recsys_zoo.board.draws import FILE, read_draws
from recsys_zoo.board.key import JUDGED, PROTOCOLS, one_key
from recsys_zoo.board.rank import main_metric, main_pair
from recsys_zoo.board.rows import Row
from recsys_zoo.data.splitspec import rejected_of
from recsys_zoo.data.store import Prepared, Split
from recsys_zoo.errors import InputError
from recsys_zoo.evaluation.judged import judged_ranking, rare_items
from recsys_zoo.losses.propensity import popularity_propensities
from recsys_zoo.rankruns import evaluate, fitted_on, measured
from recsys_zoo.runs import RunConfig, identity, read_recipe, train
from recsys_zoo.space import space_of
from recsys_zoo.tasks import ranking
from recsys_zoo.tasks.ranking import RankingTask
from recsys_zoo.train.callbacks import Callback
from recsys_zoo.train.checkpoint import load_weights, read_config
from recsys_zoo.tuning import Study
from tests.unit.tasks.test_ranking import ITEMS, USERS, data

TRAIN = {"batch_size": 256, "lr": 0.05, "epochs": 6, "patience": 4, "device": "cpu"}


def judged(more_rejected: bool = False) -> Prepared:
    """The blocks; of the pairs in no split a third was judged beside the test, and rejected."""
    held = data()
    taken = held.lists("train", "valid", "test")
    free = torch.ones(USERS, ITEMS, dtype=torch.bool)
    free[taken.pairs()] = False
    share = 1.0 if more_rejected else 0.3
    free &= torch.rand(USERS, ITEMS, generator=torch.Generator().manual_seed(0)) < share
    ids = free.nonzero().numpy() + 2
    splits = {name: held.split(name) for name in held.names}
    splits[rejected_of("test")] = Split(held.schema, ids, None, torch.zeros(len(ids), 0).numpy())
    return Prepared.in_memory(held.schema, splits)


def config(name: str = "relmf", **more) -> RunConfig:
    width = {"dim": 4} if name == "expomf" else {"embedding": {"dim": 4, "init_std": 0.3}}
    return RunConfig.parse({"model": {"name": name, **width}, "train": TRAIN, **more}, "run")


def run(out: Path, cfg: RunConfig, held: Prepared | None = None) -> Row:
    return train(cfg, held or judged(), out, say=lambda line: None, callbacks=[Callback()])


def test_the_test_ranks_judged_items_and_rare_ones_apart(tmp_path):
    row, held = run(tmp_path, config()), judged()
    model = create("relmf", held.schema, embedding={"dim": 4})
    load_weights(tmp_path / "checkpoint", model, read_config(tmp_path / "checkpoint"))
    scoring, relevant = model.scoring(), held.lists("test")

    def score(users):
        return scoring(users).detach()

    shown = held.lists("test", "test_rejected")
    expected = judged_ranking(score, relevant, shown, ITEMS).metrics()
    for name, values in expected.items():
        assert row.metrics[f"test.{name}"] == pytest.approx(float(values.mean()), abs=1e-12)
    assert row.metrics["test.dcg@5|ties=worst"] == pytest.approx(row.metrics["test.dcg@5"])  # none is equal
    rare = rare_items(held.lists("train", "valid"), ITEMS)
    few = judged_ranking(score, relevant.among(rare), shown.among(rare), ITEMS).metrics()
    assert row.metrics["test.rare_dcg@5"] == pytest.approx(float(few["dcg@5"].mean()), abs=1e-12)
    assert row.metrics["test.dcg@5_low"] < row.metrics["test.dcg@5"] < row.metrics["test.dcg@5_high"]
    assert "dcg@5" in read_draws(tmp_path / FILE).metrics
    found = evaluate(tmp_path, model, held, "test")
    assert found["dcg@5"] == pytest.approx(row.metrics["test.dcg@5"], abs=1e-12)


def test_evaluate_means_the_rare_items_of_the_run(tmp_path):
    held = judged()
    counts = torch.bincount(held.lists("train", "valid").items, minlength=ITEMS)
    cfg = config(rare=int(counts.max()))  # all are: other items than those up to the median
    row, model = run(tmp_path, cfg), create("relmf", held.schema, embedding={"dim": 4})
    load_weights(tmp_path / "checkpoint", model, read_config(tmp_path / "checkpoint"))
    assert evaluate(tmp_path, model, held, "test")["rare_dcg@5"] == row.metrics["test.rare_dcg@5"]
    alone = evaluate(tmp_path / "checkpoint", model, held, "test")["rare_dcg@5"]
    assert alone == measured(model, held, ("train", "valid"), "test").means["rare_dcg@5"]
    assert alone != row.metrics["test.rare_dcg@5"]


def test_without_a_relevant_rare_item_there_is_no_such_metric():
    held = judged()
    model = create("popularity", held.schema)
    model.fit(held.lists("train"))
    least = int(torch.bincount(held.lists("train").items, minlength=ITEMS).min())
    for most, there in ((least - 1, False), (least + 30, True)):
        assert ("rare_dcg@5" in measured(model, held, ("train",), "test", most).means) is there


def test_such_rows_have_a_protocol_of_their_own(tmp_path):
    row, full = run(tmp_path / "judged", config()), run(tmp_path / "full", config(), data())
    assert row.protocol == JUDGED
    assert JUDGED in PROTOCOLS
    assert "test.recall@20" in full.metrics
    assert (main_metric([row]), main_metric([full])) == ("test.dcg@5", "test.recall@20")
    assert main_pair("test.dcg@5") == ("test.dcg@5", "test.rare_dcg@5")
    assert main_pair("test.ndcg@5") == ("test.recall@20", "test.ndcg@20")
    with pytest.raises(InputError, match="rows of different protocol"):
        one_key([row, full])


def test_what_was_rejected_is_never_learnt_from(tmp_path):
    few = run(tmp_path / "few", config())
    many = run(tmp_path / "many", config(), judged(more_rejected=True))
    valid = [{k: v for k, v in row.metrics.items() if k[:6] == "valid."} for row in (few, many)]
    assert valid[0] == valid[1]
    assert few.metrics["test.dcg@5"] > many.metrics["test.dcg@5"]
    one, two = (tmp_path / name / "checkpoint" / "model.safetensors" for name in ("few", "many"))
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("clip", [0.01, 0.8])
def test_the_snips_metric_of_valid_is_that_of_a_loop(monkeypatch, clip):
    """Propensities below the clip count as it: those of some items here, at 0.8."""
    monkeypatch.setattr(ranking, "PROPENSITY_CLIP", clip)
    held = judged()
    model = create("wmf", held.schema, seed=3, embedding={"dim": 4, "init_std": 0.3})
    task = RankingTask(held, 0, snips=("snips_dcg@5", "snips_recall@3"))
    found = task.evaluate(model, task.valid, 0).metrics
    seen, valid = held.lists("train"), held.lists("valid")
    theta = popularity_propensities(torch.bincount(seen.items, minlength=ITEMS))
    assert bool((theta < 0.8).any())
    theta = theta.clamp(min=clip)
    table, values, recalls = model.scoring()(torch.arange(USERS)).detach(), [], []
    for user in range(USERS):
        own, taken = (lists.of_users(torch.tensor([user]))[1].tolist() for lists in (valid, seen))
        if own:
            order = sorted(set(range(ITEMS)) - set(taken), key=lambda item: -float(table[user, item]))
            gains = [1, 1, 1 / 1.584962500721156, 0.5, 1 / 2.321928094887362]
            top = sum(g / float(theta[i]) for g, i in zip(gains, order, strict=False) if i in own)
            whole = sum(1 / float(theta[item]) for item in own)
            values.append(top / whole)
            recalls.append(sum(1 / float(theta[item]) for item in order[:3] if item in own) / whole)
    assert found["snips_dcg@5"] == pytest.approx(sum(values) / len(values))
    assert found["snips_recall@3"] == pytest.approx(sum(recalls) / len(recalls))
    assert "snips_dcg@5" not in RankingTask(held, 0).evaluate(model, task.valid, 0).metrics


def test_further_lengths_of_lists_are_of_the_judged_items_too(tmp_path):
    plain, asked = (run(tmp_path / str(len(ks)), config(ks=ks)) for ks in ([], [2]))
    more = {"test.dcg@2", "test.recall@2", "test.map@2", "test.rare_dcg@2"}
    assert more <= {*asked.metrics} - {*plain.metrics}
    assert all(asked.metrics[name] == value for name, value in plain.metrics.items())
    watched = config(ks=[2], train={**TRAIN, "monitor": "snips_dcg@2"})
    assert run(tmp_path / "watched", watched).status == "done"
    assert asked.metrics["test.dcg@1"] <= asked.metrics["test.dcg@2"] <= asked.metrics["test.dcg@3"]


@pytest.mark.parametrize("name", ["relmf", "wmf", "expomf"])
def test_the_models_of_the_study_are_chosen_by_it(tmp_path, name):
    cfg = config(name).resolved()
    assert cfg.train.monitor == "snips_dcg@5"
    assert 0 < run(tmp_path / "dcg", cfg).metrics["valid.snips_dcg@5"] <= 1
    watched = cfg.model_copy(update={"train": cfg.train.model_copy(update={"monitor": "snips_recall@5"})})
    assert 0 < run(tmp_path / "recall", watched).metrics["valid.snips_recall@5"] <= 1


def test_a_chosen_setting_that_is_the_default_of_others_stays_chosen(tmp_path):
    """The model's own table_l2 is not 0."""
    base = RunConfig.parse({"model": {"name": "wmf"}, "data": "x", "train": {**TRAIN, "epochs": 1}}, "run")
    base = base.resolved()
    space = replace(space_of(base, only=["train.lr"]), base=base.model_copy(
        update={"train": base.train.model_copy(update={"table_l2": 0.0})}))
    Study("wmf", space, judged(), tmp_path, 1, say=lambda line: None).run()
    found = read_recipe(tmp_path / "recipe.toml").resolved().train
    assert base.train.table_l2 > 0 == found.table_l2
    assert found == space.base.train


def test_what_makes_no_such_run_is_refused():
    with pytest.raises(InputError, match="never picks the epoch; set protocol=honest"):
        fitted_on(config(protocol="published").resolved(), judged())
    with pytest.raises(InputError, match="rankings are watched by"):
        run(Path("nowhere"), config(train={**TRAIN, "monitor": "snips_dcg@7"}))
    assert "rare" not in identity(config().resolved(), "d")
    assert identity(config(rare=3).resolved(), "d")["rare"] == 3
