"""Nothing of held-out rows reaches a model: its scores are the same to the last bit whatever these rows say.

The data are prepared from files in which all held-out rows carry a marker: items, a user and a tag that stand
in no training row. The same files with other held-out rows, or with one alone, must give equal scores of
every model that ranks, fitted as runs fit them: on train, whatever valid and test hold; again on both,
whatever test holds. A model that does see them scores otherwise, so that each of these tests can fail.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from recsys_zoo import create, rankruns
from recsys_zoo.data.prepare import prepare
from recsys_zoo.data.spec import DataSpec
from recsys_zoo.data.store import Prepared
from recsys_zoo.data.vectors import Vectors
from recsys_zoo.itemlists import ItemLists
from recsys_zoo.models.base import Scorer
from recsys_zoo.runs import RunConfig
from recsys_zoo.tasks.ranking import FreePairExamples, PairExamples
from recsys_zoo.train.trainer import Trainer
from recsys_zoo.zoo import model_class, resolve
from tests import toys
from tests.contract import harness

Pair = tuple[str, str]
USERS, ITEMS = 16, 12
MARKER, TAG = ("poison_1", "poison_2", "poison_3"), "poisoned"
SPEC = {
    "dataset": "poisoned", "user": "user", "item": "item",
    "columns": [{"name": "user", "side": "user"}, {"name": "age", "side": "user"},
                {"name": "item", "side": "item"}, {"name": "tags", "side": "item", "kind": "bag"},
                {"name": "price", "side": "item", "kind": "numeric", "rule": "standardise"}],
    "tables": [{"files": ["users.parquet"], "key": "user", "columns": ["age"]},
               {"files": ["items.parquet"], "key": "item", "columns": ["tags", "price"]}],
    "split": {"method": "column", "column": "split"},
}
ALL = [(f"u{u}", f"i{i}") for u in range(USERS) for i in range(ITEMS)]
TRAIN = [pair for n, pair in enumerate(ALL) if (n // ITEMS + 2 * n) % 3 and (n * n) % 7 < 4]
FREE = [pair for pair in ALL if pair not in TRAIN]
VALID = [*FREE[::4], *((f"u{u}", MARKER[u % 3]) for u in range(0, USERS, 2))]
TEST = [*FREE[1::4], *((f"u{u}", MARKER[u % 2]) for u in range(USERS)), ("poisoned", "i1")]
# other pairs; then nearly none
OTHER_VALID = [*FREE[2::4], *((f"u{u}", MARKER[0]) for u in range(1, USERS, 2)), ("poisoned", MARKER[1])]
OTHER_TEST = [*FREE[3::4], *((f"u{u}", MARKER[2]) for u in range(USERS // 2))]
ABSENT = FREE[2:3], FREE[3:4]
# of new items alone, which models rank by what their columns say
NEW_VALID = [(f"u{u}", MARKER[0]) for u in range(0, USERS, 2)]
NEW_TEST = [(f"u{u}", MARKER[1 + u % 2]) for u in range(USERS)]
OTHER_NEW = [(f"u{u}", MARKER[2 - u % 2]) for u in range(1, USERS, 3)]

each = pytest.mark.parametrize("name", harness.RETRIEVAL)
FOLDING = [name for name in harness.RETRIEVAL if model_class(name).folds]
READERS = [name for name in harness.RETRIEVAL if hasattr(create(name, toys.ranking(3, 3)), "content")]
OPTIONS: list[tuple[str, dict[str, Any]]] = [  # what no preset sets, and makes other things of the pairs
    ("mf", {"sampler": "popularity"}), ("mf.softmax", {"sampler": "popularity"}),
    ("lightgcn", {"sampler": "hard", "positives": "users"}), ("ultragcn", {"own_negatives": True}),
    ("simplex", {"pooling": "user_attention", "history_vectors": "own"}),
    ("simplex", {"pooling": "self_attention", "count_padding": True}),
    ("bspm", {"solver": "rk4", "merge": "late"}), ("itemknn", {"similarity": "pearson", "weights": "bm25"}),
    ("userknn", {"similarity": "jaccard", "weights": "tfidf"}),
    ("cml.features", {"covariance": 1.0, "hinge": "sum"}),
    ("twotower", {"user_columns": True})]
# with moments, of which those of held-out rows are the first of all, and vectors of the items
TIMED: list[tuple[str, dict[str, Any]]] = [
    ("deepcml", {"pooling": "attention"}), ("deepcml", {"released": True}), ("deepcml", {"past": True}),
    *((name, {"content": "vectors"}) for name in READERS if "." not in name)]


def items(tag: str) -> pl.DataFrame:
    """Tags and prices of all items; those of the marked ones are given."""
    names = [*(f"i{i}" for i in range(ITEMS)), *MARKER]
    tags = [*(f"t{i % 4}|t{i % 3 + 4}" for i in range(ITEMS)), *[f"t1|{tag}"] * len(MARKER)]
    prices = [*(float(i) for i in range(ITEMS)), *[1000.0 * len(tag)] * len(MARKER)]
    return pl.DataFrame({"item": names, "tags": tags, "price": prices})


def made(folder: Path, valid: list[Pair], test: list[Pair], tag: str = TAG, catalogue: str = "table"
         ) -> Prepared:
    return of_splits(folder, {"train": TRAIN, "valid": valid, "test": test}, tag, catalogue)


def of_splits(folder: Path, splits: dict[str, list[Pair]], tag: str = TAG, catalogue: str = "table",
              timed: bool = False) -> Prepared:
    folder.mkdir()
    rows = [{"user": user, "item": item, "split": name, "at": number + 1000 * (name == "train")}
            for name, pairs in splits.items() for number, (user, item) in enumerate(pairs)]
    pl.DataFrame(rows).write_parquet(folder / "rows.parquet")
    users = [*(f"u{u}" for u in range(USERS)), "poisoned"]
    pl.DataFrame({"user": users, "age": [f"a{len(u) % 2}" for u in users]}).write_parquet(
        folder / "users.parquet")
    items(tag).write_parquet(folder / "items.parquet")
    rule = {**SPEC["split"], "names": {name: name for name in splits}}
    interactions = {"catalogue": catalogue, **({"time": "at"} if timed else {})}
    spec = DataSpec.parse({**SPEC, "split": rule, "interactions": interactions}, "spec")
    vectors = {"item": encoded()} if timed else {}
    return prepare([folder / "rows.parquet"], spec, folder / "out", tables_from=folder, vectors=vectors)


def encoded() -> Vectors:
    """What a text encoder might say of all items."""
    names = pl.Series([*(f"i{i}" for i in range(ITEMS)), *MARKER])
    return Vectors(names, np.random.default_rng(0).normal(size=(len(names), 8)), "texts")


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> dict[str, Prepared]:
    """The same training rows beside several held-out ones, and the leaks that must show."""
    base = tmp_path_factory.mktemp("poison")
    given = {"there": (VALID, TEST), "changed": (OTHER_VALID, OTHER_TEST), "absent": ABSENT,
             "test changed": (VALID, OTHER_TEST), "test absent": (VALID, ABSENT[1]),
             "new": (NEW_VALID, NEW_TEST), "new changed": (NEW_VALID[:2], OTHER_NEW),
             "new test changed": (NEW_VALID, OTHER_NEW)}
    found = {name: made(base / name.replace(" ", "_"), *splits) for name, splits in given.items()}
    found["content"] = made(base / "content", VALID, TEST, tag="otherwise")
    return found


@pytest.fixture(scope="module")
def timed(tmp_path_factory) -> dict[str, Prepared]:
    """The same with moments and vectors, and with rows that were held out among those of train."""
    base, leak = tmp_path_factory.mktemp("timed"), [*TRAIN, *FREE[1::4]]
    given = {"there": (TRAIN, VALID, TEST), "changed": (TRAIN, OTHER_VALID, OTHER_TEST),
             "leak": (leak, VALID, OTHER_TEST)}
    return {name: of_splits(base / name, {"train": train, "valid": valid, "test": test}, timed=True)
            for name, (train, valid, test) in given.items()}


class Leaking(Prepared):
    """Half of the users' valid and test pairs are among those of train."""

    def lists(self, *names: str) -> ItemLists:
        right = super().lists(*names)
        if "train" not in names:
            return right
        parts = (right, super().lists("valid", "test").first(USERS // 2))
        user, item = (torch.cat(column) for column in zip(*(part.pairs() for part in parts), strict=True))
        return ItemLists.of(user, item, len(right), self.schema.size("item"))


def leaking(data: Prepared) -> Prepared:
    """The same data with the leak that the tests are there for."""
    return Leaking(data.schema, data._splits, data.record, data.folder)


def config(name: str, **settings: Any) -> RunConfig:
    """Of one epoch, which is the best one whatever valid says."""
    small = {"embedding": {"dim": 4}, "dim": 8, "epochs": 2}
    known = resolve(name)[0].Config.model_fields
    model = {"name": name, **{key: value for key, value in small.items() if key in known}, **settings}
    train = {"epochs": 1, "batch_size": 64, "lr": 0.05, "device": "cpu"}
    return RunConfig.parse({"model": model, "train": train, "bootstrap": 0}, name).resolved()


def scores(model: Any, data: Prepared) -> Tensor:
    """Of all users and items [U, I]."""
    model.eval()
    with torch.no_grad():
        return model.scoring()(torch.arange(data.schema.size("user")))


def fitted(name: str, data: Prepared, **settings: Any) -> Tensor:
    """The scores after the fit on train that chooses settings and epoch."""
    cfg = config(name, **settings)
    task, model = rankruns.begin(cfg, data)
    if isinstance(model, Scorer):
        model.fit(data.lists("train"))
    else:
        assert Trainer(task, cfg.train).fit(model).status == "done"
    return scores(model, data)


def of_run(name: str, data: Prepared, out: Path) -> tuple[Tensor, dict[str, float]]:
    """The scores of the model that an honest run tests, and the run's metrics."""
    run = rankruns.RankingRun(config(name), data, out, False, lambda line: None, [])
    model, metrics, _ = run.run()
    assert run.fit.status == "done"
    return scores(model, data), metrics


@each
def test_a_fit_on_train_knows_nothing_of_valid_and_test(name, sets):
    """What is said of items without a training row may move their own scores alone."""
    data = sets["there"]
    expected = fitted(name, data)
    for held_out in ("changed", "absent"):
        assert torch.equal(fitted(name, sets[held_out]), expected), held_out
    assert not torch.equal(fitted(name, leaking(data)), expected)
    warm = torch.bincount(data.lists("train").items, minlength=data.schema.size("item")) > 0
    assert int((~warm).sum()) == len(MARKER)
    assert torch.equal(fitted(name, sets["content"])[:, warm], expected[:, warm])


@pytest.mark.parametrize(("name", "settings"), OPTIONS, ids=str)
def test_whatever_settings_it_has(name, settings, sets):
    expected = fitted(name, sets["there"], **settings)
    assert not torch.equal(fitted(name, sets["there"]), expected)
    for held_out in ("changed", "absent"):
        assert torch.equal(fitted(name, sets[held_out], **settings), expected), held_out
    assert not torch.equal(fitted(name, leaking(sets["there"]), **settings), expected)


@pytest.mark.parametrize(("name", "settings"), TIMED, ids=str)
def test_nor_of_moments_of_held_out_rows(name, settings, timed):
    expected = fitted(name, timed["there"], **settings)
    assert not torch.equal(fitted(name, timed["there"]), expected)
    assert torch.equal(fitted(name, timed["changed"], **settings), expected)
    assert not torch.equal(fitted(name, timed["leak"], **settings), expected)


@each
def test_a_tested_model_knows_nothing_of_test(name, sets, tmp_path):
    expected, metrics = of_run(name, sets["there"], tmp_path / "there")
    for held_out in ("test changed", "test absent"):
        found, others = of_run(name, sets[held_out], tmp_path / held_out)
        assert torch.equal(found, expected), held_out
        valid, test = ([{k: v for k, v in m.items() if k.startswith(split)} for m in (metrics, others)]
                       for split in ("valid.", "test."))
        assert valid[0] == valid[1]
        assert test[0] != test[1]
    assert not torch.equal(of_run(name, leaking(sets["there"]), tmp_path / "leak")[0], expected)


@pytest.mark.parametrize("name", READERS)
def test_of_new_items_too(name, sets, tmp_path):
    assert torch.equal(fitted(name, sets["new changed"]), fitted(name, sets["new"]))
    (expected, metrics), (found, others) = (
        of_run(name, sets[held_out], tmp_path / held_out) for held_out in ("new", "new test changed"))
    assert torch.equal(found, expected)
    assert metrics["valid.recall@20"] == others["valid.recall@20"]
    assert not torch.equal(of_run(name, leaking(sets["new"]), tmp_path / "leak")[0], expected)


@pytest.fixture(scope="module")
def asked(tmp_path_factory) -> dict[str, Prepared]:
    """The same for users who are held out: what is given of them and what is asked."""
    def of(users: range, items: tuple[str, ...]) -> list[Pair]:
        return [(f"u{user}", item) for user in users for item in items]

    base, known = tmp_path_factory.mktemp("asked"), [pair for pair in TRAIN if int(pair[0][1:]) < 10]
    valid = {"valid_given": of(range(10, 13), ("i1", "i2")), "valid": of(range(10, 13), ("i5", MARKER[0]))}
    other = {"valid_given": of(range(11, 13), ("i4",)), "valid": of(range(11, 13), ("i6", MARKER[2]))}
    test = {"test_given": of(range(13, 16), ("i3", "i4")), "test": of(range(13, 16), ("i7", MARKER[1]))}
    change = {"test_given": of(range(13, 15), ("i9",)), "test": of(range(13, 15), ("i3", MARKER[0]))}
    parts = {"there": {**valid, **test}, "test changed": {**valid, **change}, "changed": {**other, **change},
             "leak": {**valid, **test}}
    leak = {"leak": [*known, *of(range(9), ("i7",))]}
    return {name: of_splits(base / name.replace(" ", "_"), {"train": leak.get(name, known), **part})
            for name, part in parts.items()}


@pytest.mark.parametrize("name", FOLDING)
def test_of_users_who_are_held_out_too(name, asked, tmp_path):
    """By the scores of a list that none of them has."""
    lists, metrics = toys.random_lists(3, asked["there"].schema.size("item"), 0.3), {}
    cfg, found = config(name), {}
    cfg = cfg.model_copy(update={"train": cfg.train.model_copy(update={"monitor": "ndcg@100"})})
    for kind, data in asked.items():
        run = rankruns.RankingRun(cfg, data, tmp_path / kind, False, lambda line: None, [])
        model, metrics[kind], _ = run.run()
        with torch.no_grad():
            found[kind] = model.eval().score_lists(lists)
    assert torch.equal(found["there"], found["test changed"])
    assert torch.equal(found["there"], found["changed"])
    assert not torch.equal(found["there"], found["leak"])
    valid = {kind: {k: v for k, v in m.items() if k[:6] == "valid."} for kind, m in metrics.items()}
    assert valid["there"] == valid["test changed"] != valid["changed"]
    assert metrics["there"] != metrics["test changed"]


def test_items_of_held_out_rows_alone_are_never_drawn(sets, tmp_path):
    """Where the catalogue is that of the rows too; docs/numbers.md tells of models that learn of all pairs
    of users and items, those of no row among them."""
    data, drawing = made(tmp_path / "rows", VALID, TEST, catalogue="rows"), []
    known = torch.bincount(data.lists("train").items, minlength=data.schema.size("item")) > 0
    assert int((~known).sum()) == len(MARKER)
    for name in harness.RETRIEVAL:
        task, _ = rankruns.begin(config(name), data)
        if not isinstance(task.train, PairExamples) or not task.train.count:
            continue
        neg = task.train.batch(torch.arange(len(task.train)).repeat(30)).neg
        assert bool(known[neg].all()) != isinstance(task.train, FreePairExamples), name
        drawing.append(name)
    assert {"mf", "mf.ccl", "neumf", "lightgcn", "ultragcn", "cml", "simplex", "wmf", "relmf"} <= {*drawing}
    cfg = config("mf").model_copy(update={"protocol": "published"})
    neg = rankruns.begin(cfg, data)[0].train.batch(torch.arange(60).repeat(30)).neg
    assert neg.unique().tolist() == list(range(len(known)))  # from all items, as published runs draw


def test_vocabularies_and_numbers_are_those_of_training_rows(sets):
    """Ids, tags and the mean of prices; items and users of a table alone are known, and stand last."""
    record = sets["there"].record
    for name in ("changed", "absent", "test changed", "test absent"):
        for part in ("vocabularies", "fitted", "table_sizes", "schema"):
            assert sets[name].record[part] == record[part], (name, part)
    assert sets["content"].record["fitted"] == record["fitted"]
    tables = {name: pl.read_parquet(sets["there"].folder / f"encoding/{name}.parquet")
              for name in ("user", "item", "tags")}
    assert TAG not in tables["tags"]["value"]
    assert tables["item"].filter(pl.col("count") == 0)["value"].to_list() == list(MARKER)
    assert tables["item"]["value"].to_list()[-3:] == list(MARKER)
    assert tables["user"].filter(pl.col("count") == 0)["value"].to_list() == ["poisoned"]
