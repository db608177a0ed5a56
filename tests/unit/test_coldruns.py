"""Runs on data whose test items are new: candidates, negatives, what is refused, and nothing leaks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from recsys_zoo import create, load_ranker
from recsys_zoo.audit import audit
from recsys_zoo.board.key import COLD, PROTOCOLS, one_key
from recsys_zoo.board.rank import main_metric
from recsys_zoo.board.rows import Row
from recsys_zoo.data.content import item_tokens, releases
from recsys_zoo.data.prepare import prepare
from recsys_zoo.data.spec import DataSpec
from recsys_zoo.data.store import Prepared
from recsys_zoo.data.vectors import Vectors
from recsys_zoo.errors import InputError
from recsys_zoo.evaluation import cold
from recsys_zoo.launch import predict_file
from recsys_zoo.metrics.ranking import recall
from recsys_zoo.rankruns import begin, evaluate, fitted_on
from recsys_zoo.references import floors
from recsys_zoo.runs import RunConfig, train
from recsys_zoo.tasks.ranking import RankingTask
from recsys_zoo.train.callbacks import Callback
from recsys_zoo.train.checkpoint import load_weights, read_config
from tests.unit.tasks.test_ranking import data as warm

USERS, ITEMS = 60, 200
TRAIN = {"batch_size": 64, "optimizer": "adam", "lr": 0.02, "epochs": 8, "patience": 8, "device": "cpu"}
WIDTHS = {"deepcml": {"dim": 8, "hidden": [16], "content_dim": 8, "negatives": 4},
          "twotower": {"dim": 8, "hidden": [16], "content_dim": 8, "user_columns": True},
          "cml.features": {"embedding": {"dim": 8}, "hidden": [16], "content_dim": 8, "negatives": 4},
          "contentridge": {"dim": 8, "content_dim": 8, "epochs": 4}, "contentknn": {}}
each = pytest.mark.parametrize("name", WIDTHS)


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Prepared:
    """Users of four tastes; a fifth of the items is new in valid and another in test. Tags tell the taste;
    items of test also have a tag that no other has."""
    folder = tmp_path_factory.mktemp("shop")
    draw = np.random.default_rng(0)
    part = {i: ("train", "train", "train", "valid", "test")[i // 4 % 5] for i in range(ITEMS)}
    rows = [{"user": f"u{u}", "item": f"i{i}", "part": part[i], "at": int(draw.integers(0, 99))}
            for u in range(USERS) for i in range(ITEMS)
            if draw.random() < (0.4 if u % 4 == i % 4 else 0.03)]
    pl.DataFrame(rows).write_parquet(folder / "rows.parquet")
    tags = [[f"taste{i % 4}", f"noise{i % 7}", *["new"] * (part[i] == "test")] for i in range(ITEMS)]
    items = pl.DataFrame({"item": [f"i{i}" for i in range(ITEMS)], "tags": tags})
    items.write_parquet(folder / "items.parquet")
    ages = [f"age{u % 5}" for u in range(USERS)]
    users = pl.DataFrame({"user": [f"u{u}" for u in range(USERS)], "age": ages})
    users.write_parquet(folder / "users.parquet")
    columns = [{"name": "user", "side": "user"}, {"name": "item", "side": "item"},
               {"name": "tags", "side": "item", "kind": "bag"}, {"name": "age", "side": "user"}]
    tables = [{"files": ["items.parquet"], "key": "item", "columns": ["tags"]},
              {"files": ["users.parquet"], "key": "user", "columns": ["age"]}]
    spec = DataSpec.parse({"dataset": "shop", "user": "user", "item": "item", "columns": columns,
                           "split": {"method": "column", "column": "part"}, "interactions": {"time": "at"},
                           "tables": tables}, "spec")
    return prepare([folder / "rows.parquet"], spec, folder / "out", tables_from=folder)


@pytest.fixture(scope="module")
def encoded(shop, tmp_path_factory) -> Prepared:
    """The same with a vector of each item, as a text encoder would give it: the taste, and noise."""
    draw, folder = np.random.default_rng(1), shop.folder.parent
    rows = draw.normal(size=(4, 12))[np.arange(ITEMS) % 4] + 0.3 * draw.normal(size=(ITEMS, 12))
    texts = Vectors(pl.Series([f"i{i}" for i in range(ITEMS)]), rows, "texts")
    return prepare([folder / "rows.parquet"], DataSpec.model_validate(shop.record["spec"]),
                   tmp_path_factory.mktemp("encoded") / "out", tables_from=folder, vectors={"item": texts})


@pytest.mark.parametrize("name", ["contentknn", "contentridge", "deepcml", "twotower"])
def test_vectors_that_come_with_items_place_new_ones(shop, encoded, tmp_path, name):
    """Those of a text encoder tell the taste here; a model that is given none says so."""
    cfg = config(name)
    cfg = cfg.model_copy(update={"model": {**cfg.model, "content": "vectors"}})
    control = config("contentknn")
    control = control.model_copy(update={"model": {**control.model, "content": "random"}})
    row, chance = run(tmp_path / "with", cfg, encoded), run(tmp_path / "control", control, shop)
    assert row.metrics["test.recall@20"] > 1.5 * chance.metrics["test.recall@20"]
    with pytest.raises(InputError, match="items have no vectors; prepare again with --vectors item=FILE"):
        begin(cfg, shop)


def test_the_chance_that_a_user_takes_a_new_item(shop, tmp_path):
    """From Python and by `predict`, of raw ids in any order, as the model's own logits say."""
    run(tmp_path / "run", config("deepcml"), shop)
    ranker = load_ranker(tmp_path / "run")
    users, items = ["u7", "u3", "u7", "u0"], ["i16", "i5", "i199", "i16"]
    found = ranker.probabilities(users, items)
    assert found.dtype == np.float32
    for user, item, value in zip(users, items, found, strict=True):
        number = ranker._codes("user", ranker.texts("user", [user]))
        column = ranker._codes("item", ranker.texts("item", [item]))
        logit = float(ranker.model.logits()(number)[0, column].detach())
        assert value == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-6)
    assert 0 < min(found) < max(found) < 1
    pl.DataFrame({"item": items, "user": users}).write_csv(tmp_path / "pairs.csv")
    assert predict_file(tmp_path / "run", tmp_path / "pairs.csv", tmp_path / "p.csv", 16) == 4
    assert pl.read_csv(tmp_path / "p.csv")["score"].to_numpy() == pytest.approx(found, abs=1e-6)
    with pytest.raises(InputError, match="no item 'i999'"):
        ranker.probabilities(["u1"], ["i999"])
    with pytest.raises(InputError, match="2 users and 1 items"):
        ranker.probabilities(["u1", "u2"], ["i1"])


def config(name: str, **more) -> RunConfig:
    cfg = {"model": {"name": name, **WIDTHS.get(name, {})}, "train": TRAIN}
    return RunConfig.parse({**cfg, **more}, "run").resolved()


def run(out: Path, cfg: RunConfig, data: Prepared) -> Row:
    return train(cfg, data, out, say=lambda line: None, callbacks=[Callback()])


def looks_of(out: Path) -> list[dict[str, float]]:
    """Metrics of valid of every epoch of the first fit."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line["valid"] for line in lines if line["event"] == "epoch"]


@each
def test_planted_tastes_of_new_items_are_found(tmp_path, shop, name):
    """Ten of the forty new items are of a user's own taste."""
    row = run(tmp_path, config(name), shop)
    assert row.status == "done"
    assert row.metrics["test.user_auc"] > 0.75
    assert row.metrics["test.item_auc"] > 0.7
    model = create(name, shop.schema, **WIDTHS[name])
    load_weights(tmp_path / "checkpoint", model, read_config(tmp_path / "checkpoint"))
    new = cold.new_items(shop.lists("test"), shop.lists("train", "valid"))
    found = cold.cold_ranking(lambda users: model.scoring()(users).detach(), shop.lists("test"), new, ITEMS)
    assert row.metrics["test.recall@20"] == pytest.approx(float(recall(found.ranks, 20).mean()))
    assert set(found.ranks.candidates.tolist()) == {len(new)} == {40}
    for metric, value in evaluate(tmp_path, model.eval(), shop, "test").items():
        assert value == pytest.approx(row.metrics[f"test.{metric}"], rel=1e-6), metric


def test_random_vectors_find_nothing(tmp_path, shop):
    control = {"name": "contentknn", "content": "random"}
    values = [run(tmp_path / str(seed), config("", model=control, train={**TRAIN, "seed": seed}), shop)
              for seed in range(6)]
    assert abs(sum(row.metrics["test.user_auc"] for row in values) / 6 - 0.5) < 0.1


def test_such_rows_have_a_protocol_of_their_own(tmp_path, shop):
    row = run(tmp_path / "cold", config("contentknn"), shop)
    other = run(tmp_path / "warm", config("popularity"), warm())
    assert row.protocol == COLD
    assert COLD in PROTOCOLS
    assert other.protocol != COLD
    assert main_metric([row]) == "test.recall@20"
    assert "test.logloss" not in row.metrics
    assert "test.auc" not in other.metrics
    with pytest.raises(InputError, match="rows of different protocol"):
        one_key([row, other])


def test_the_floor_of_new_items_reads_their_columns(tmp_path, shop):
    (floor,) = floors(shop, "own", replicates=0)
    row = run(tmp_path / "run", config("contentknn", bootstrap=0), shop)
    assert (floor.label, floor.role, floor.protocol) == ("contentknn", "floor", COLD)
    assert floor.metrics == row.metrics
    record = audit(shop)
    assert list(record["floors"]) == ["contentknn"]
    assert any("100.0% of the test rows are of items without a row" in w for w in record["warnings"])


def test_probabilities_beat_the_base_rate_where_the_model_learns_them(tmp_path, shop):
    row = run(tmp_path, config("deepcml", train={**TRAIN, "epochs": 30, "patience": 30}), shop)
    assert row.metrics["test.logloss"] < row.metrics["test.base_logloss"]
    assert row.metrics["test.calibration_error"] < 0.1


@each
def test_nothing_of_a_new_item_is_learnt_from(tmp_path, shop, name):
    """Other tags of the items of test leave the fit as it is; only their own scores change."""
    tokens, width = item_tokens(shop)
    new = torch.unique(shop.lists("test", "valid").items)
    item, token = tokens.pairs()
    poisoned = torch.where(torch.isin(item, new), (token + 3) % width, token)
    states = []
    for given in (token, poisoned):
        model = create(name, shop.schema, seed=1, **WIDTHS[name])
        model.content.give(type(tokens).of(item, given, ITEMS, width), width)
        fit = getattr(model, "prepare", None) or model.fit
        fit(shop.lists("train"))
        states.append({key: value for key, value in model.state_dict().items() if "vectors" not in key})
        states[-1]["known"] = _known(model)
    for key, value in states[0].items():
        if name == "contentridge" and key == "items":
            value, states[1][key] = (state[key][model.content.known] for state in states)
        if name == "cml.features" and key.startswith("item_table"):
            value, states[1][key] = (state[key][2:][model.content.known] for state in states)
        if key.startswith("content.rows"):
            continue
        assert torch.equal(value, states[1][key]), key


def _known(model) -> torch.Tensor:
    """The vectors of the items of the fit."""
    if model.content.dim:
        return model.content.vectors[model.content.known]
    return model.content.rows.tensor().to_dense()[model.content.known]


def test_columns_of_users_reach_the_model(shop):
    _, model = begin(config("twotower"), shop)
    assert model.told.counts.tolist() == [1] * USERS
    assert model.values.shape == (5, 8)


def test_new_items_are_never_drawn_as_negatives(shop):
    task, model = begin(config("deepcml"), shop)
    drawn = task.train.batch(torch.arange(len(task.train)).repeat(20)).neg.unique()
    assert set(drawn.tolist()) <= set(shop.lists("train").items.tolist())
    assert len(drawn) == len(shop.lists("train").items.unique())
    model.losses(task.train.batch(torch.arange(16)))


@pytest.mark.parametrize("window", [0, 6])
def test_negatives_in_release_were_taken_by_somebody_by_then(shop, tmp_path, window):
    settings = {"name": "deepcml", **WIDTHS["deepcml"], "negatives": 50, "released": True, "window": window}
    cfg = config("", model=settings)
    examples = begin(cfg, shop)[0].train
    moment, first = releases(shop, "train")
    at = dict(zip(zip(*(part.tolist() for part in shop.lists("train").pairs()), strict=True),
                  moment.tolist(), strict=True))
    batch = examples.batch(torch.arange(len(examples)))
    for user, pos, neg in zip(batch.user.tolist(), batch.pos.tolist(), batch.neg, strict=True):
        assert all((user, item) not in at for item in neg.tolist())
        assert bool((first[neg] <= at[user, pos]).all())
        assert not window or bool((first[neg] >= at[user, pos] - window).all())
    assert 0 < len(examples) <= len(at)
    assert (len(examples) < len(at)) == bool(window)  # nothing was new when the last were taken
    row = run(tmp_path, config("", model={**settings, "negatives": 4}), shop)
    assert row.metrics["test.user_auc"] > 0.7


def test_without_times_nothing_is_in_release_and_no_folder_is_made(shop, tmp_path):
    rows = pl.read_parquet(shop.folder.parent / "rows.parquet")
    rows.drop("at").write_parquet(tmp_path / "rows.parquet")
    spec = {**shop.record["spec"], "interactions": {}}
    timeless = prepare([tmp_path / "rows.parquet"], DataSpec.model_validate(spec), tmp_path / "out",
                       tables_from=shop.folder.parent)
    with pytest.raises(InputError, match="shop: holds no times, by which items are in release"):
        run(tmp_path / "run", config("", model={"name": "deepcml", "released": True}), timeless)
    with pytest.raises(InputError, match="shop: holds no times, by which what came later is left out"):
        run(tmp_path / "run", config("", model={"name": "deepcml", "past": True}), timeless)
    assert not (tmp_path / "run").exists()


def test_histories_of_the_past_are_by_the_times_of_the_data(shop, tmp_path):
    """The size of each pair's history is the number of the user's earlier rows, those of its moment as they
    stand in the files."""
    said = {"name": "deepcml", **WIDTHS["deepcml"], "negatives": 4, "past": True}
    task, model = begin(config("", model=said), shop)
    batch, moment = task.train.batch(torch.arange(len(task.train))), releases(shop, "train")[0]
    pairs = list(zip(batch.user.tolist(), moment.tolist(), strict=True))
    before, then = ([int(((batch.user == user) & earlier(moment, at)).sum()) for user, at in pairs]
                    for earlier in (torch.lt, torch.le))
    sizes = model.sizes(batch).tolist()
    assert all(low <= size < high for low, size, high in zip(before, sizes, then, strict=True))
    assert sum(size + 1 < high for size, high in zip(sizes, then, strict=True)) < len(sizes) / 5  # few ties
    assert max(before) > 1
    assert run(tmp_path, config("", model=said), shop).metrics["test.user_auc"] > 0.7


def test_a_window_is_of_items_in_release():
    with pytest.raises(InputError, match="window=3 is of items in release: set released=true too"):
        config("", model={"name": "deepcml", "window": 3})


@pytest.mark.parametrize(("part", "said"), [
    ("test", "valid asks about items that are in no training row, test about those of training too"),
    ("valid", "test asks about items that are in no training row, valid about those of training too")])
def test_a_split_of_new_items_and_one_of_old_ones_make_no_run(shop, tmp_path, part, said):
    """One row of an item of training is enough."""
    rows = pl.read_parquet(shop.folder.parent / "rows.parquet")
    user = rows.filter(pl.col("part") == part)["user"][0]
    own = rows.filter(pl.col("user") == user)["item"]
    old = rows.filter((pl.col("part") == "train") & ~pl.col("item").is_in(own.implode())).row(0, named=True)
    more = pl.DataFrame([{**old, "user": user, "part": part}])
    pl.concat([rows, more]).write_parquet(tmp_path / "rows.parquet")
    spec = {**shop.record["spec"], "tables": [], "columns": shop.record["spec"]["columns"][:2]}
    data = prepare([tmp_path / "rows.parquet"], DataSpec.model_validate(spec), tmp_path / "out")
    with pytest.raises(InputError, match=f"shop: {said}"):
        run(tmp_path / "run", config("popularity", model={"name": "popularity"}), data)
    assert not (tmp_path / "run").exists()
    told = audit(data)["no_floors"]
    assert len(told) == (1 if part == "valid" else 2)
    assert all("no floor" in line and said in line for line in told)


def test_what_a_floor_is_told_of_is_no_reason_against_it(encoded):
    """That vectors of items start no table of its."""
    record = audit(encoded)
    assert list(record["floors"]) == ["contentknn"]
    assert record["no_floors"] == []


def test_a_metric_that_says_nothing_of_few_candidates_is_named(shop, tmp_path):
    task, lines = begin(config("deepcml"), shop)[0], []
    assert len(task.valid.new) == 40
    assert [task.unwatchable(name) for name in ("recall@39", "ndcg@50", "map@50")] == ["", "", ""]
    cfg = config("deepcml", train={**TRAIN, "epochs": 1, "monitor": "recall@50"})
    train(cfg, shop, tmp_path, say=lines.append, callbacks=[Callback()])
    assert lines.count("recall@50 on valid is the same whatever the scores are, since no user has more than "
                       "40 candidates; watch another metric, by --set train.monitor=ndcg@50") == 1
    held = warm()
    seen = RankingTask(held).valid.seen.counts[held.lists("valid").counts > 0]
    most = held.schema.size("item") - int(seen.min())
    assert RankingTask(held).unwatchable(f"recall@{most - 1}") == ""
    assert f"more than {most} candidates" in RankingTask(held).unwatchable(f"hit_rate@{most}")
    nobody = RankingTask(held)
    nobody.valid.relevant = nobody.valid.relevant.first(0)
    assert nobody.unwatchable("recall@20") == ""  # the ranking will say that there is none


@pytest.mark.parametrize("monitor", ["auc", "user_auc", "item_auc", "logloss"])
def test_metrics_over_pairs_pick_the_epoch(shop, tmp_path, monitor):
    row = run(tmp_path, config("deepcml", train={**TRAIN, "monitor": monitor}), shop)
    looks = looks_of(tmp_path)
    values = [look[monitor] for look in looks]
    assert len(set(values)) == len(values) == TRAIN["epochs"]
    assert row.best_epoch == 1 + values.index((min if monitor == "logloss" else max)(values))
    chosen = looks[row.best_epoch - 1]
    assert {f"valid.{name}" for name in chosen} <= set(row.metrics)
    assert row.metrics["valid.logloss"] == chosen["logloss"]


def test_chances_of_the_distance_of_content_alone_are_learnt(shop, tmp_path):
    """Its lists stay as they are, and its chances come to beat the base rate."""
    settings = {"name": "deepcml", "distance": "content", "content_dim": 8, "negatives": 4}
    training = {**TRAIN, "epochs": 20, "patience": 20, "lr": 0.05, "monitor": "logloss"}
    row = run(tmp_path, config("deepcml", model=settings, train=training), shop)
    looks = looks_of(tmp_path)
    assert len({look["recall@20"] for look in looks}) == 1
    assert looks[-1]["logloss"] < looks[0]["logloss"]
    assert row.metrics["test.logloss"] < row.metrics["test.base_logloss"]


def test_chances_are_watched_where_a_model_has_them_and_items_are_new(shop):
    with pytest.raises(InputError, match=r"rankings are watched by one of \[.*'item_auc'\]"):
        begin(config("twotower", train={**TRAIN, "monitor": "logloss"}), shop)
    with pytest.raises(InputError, match=r"'auc': rankings are watched by one of .*@50'"):
        begin(config("mf", model={"name": "mf"}, train={**TRAIN, "monitor": "auc"}), warm())


def test_models_of_ids_and_epochs_by_the_test_are_refused(tmp_path, shop):
    assert cold.is_cold(shop)
    assert not cold.is_cold(warm())
    for name in ("popularity", "mf", "cml"):
        with pytest.raises(InputError, match=f"{name}: no test item of shop is in training, .* such as con"):
            run(tmp_path, config(name, model={"name": name}), shop)
    with pytest.raises(InputError, match="a test of new items never picks the epoch"):
        fitted_on(config("contentknn", protocol="published"), shop)
    with pytest.raises(InputError, match="items have no column of values beside their id"):
        run(tmp_path, config("contentknn"), warm())
    assert not (tmp_path / "config.toml").exists()
