"""Recommendations of trained runs against a sort of the model's own scores, by raw ids."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from recsys_zoo import load, load_ranker
from recsys_zoo.config import json_digest
from recsys_zoo.data.prepare import prepare
from recsys_zoo.data.spec import DataSpec
from recsys_zoo.data.store import Prepared
from recsys_zoo.errors import InputError
from recsys_zoo.itemlists import ItemLists
from recsys_zoo.ranker import Ranker, _hits
from recsys_zoo.rankfiles import RANKS, USERS
from recsys_zoo.runs import RunConfig, read_row, train
from recsys_zoo.train.callbacks import Callback
from recsys_zoo.vectorindex import VectorIndex

ITEMS = 30
SCHEMA = """
dataset = "films"
user = "who"
item = "what"
columns = [{name = "who", side = "user"}, {name = "what", side = "item"}]
[interactions]
[split]
method = "column"
column = "part"
"""
MODELS = {"mf": {"embedding": {"dim": 4}}, "cml": {"embedding": {"dim": 4}}, "ials": {"dim": 4},
          "itemknn": {}}


def films() -> pl.DataFrame:
    """Viewers 0 to 39 of two kinds; "fan" has seen all films but 7 and 8; "late" is there on test alone."""
    draw = np.random.default_rng(0)
    who, what = (a.ravel() for a in np.meshgrid(np.arange(40), np.arange(ITEMS), indexing="ij"))
    kept = draw.random(len(who)) < np.where(who % 2 == what % 2, 0.5, 0.1)
    who, what = who[kept], what[kept]
    part = draw.choice(["train", "valid", "test"], len(who), p=[0.6, 0.2, 0.2])
    rows = [(str(u), i, p) for u, i, p in zip(who.tolist(), what.tolist(), part.tolist(), strict=True)]
    rows += [("fan", i, "train") for i in range(ITEMS) if i not in (7, 8)] + [("late", 3, "test")]
    rows = [(u, f"film {i}", p) for u, i, p in rows]
    return pl.DataFrame(rows, schema=["who", "what", "part"], orient="row")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A folder with a run of each model, named by it, and of a click model."""
    folder = tmp_path_factory.mktemp("runs")
    films().write_csv(folder / "films.csv")
    (folder / "films.toml").write_text(SCHEMA)
    data = prepare([folder / "films.csv"], DataSpec.load(folder / "films.toml"), folder / "data")
    settings = {"batch_size": 64, "lr": 0.05, "epochs": 5, "device": "cpu"}
    for name, model in MODELS.items():
        cfg = RunConfig.parse({"model": {"name": name, **model}, "train": settings, "bootstrap": 0}, name)
        train(cfg, data, folder / name, callbacks=[Callback()], say=lambda line: None)
    return folder


@pytest.fixture
def ranker(runs) -> Ranker:
    return load_ranker(runs / "mf")


def history(user: str) -> set[str]:
    rows = films().filter((pl.col("who") == user) & pl.col("part").is_in(["train", "valid"]))
    return set(rows["what"])


@pytest.mark.parametrize("name", MODELS)
def test_lists_are_a_sort_of_the_scores_of_unseen_items(runs, name):
    ranker, data = load_ranker(runs / name), Prepared.open(runs / "data")
    who, what = (ranker.encoder.vocabularies[column].values.to_list() for column in ("who", "what"))
    with torch.no_grad():
        table = load(runs / name).model.scoring()(torch.arange(data.schema.size("user")))
    users = ["3", "fan", "12", "3"]
    items, scores = ranker.recommend(users, k=6)
    for user, row, values in zip(users, items, scores, strict=True):
        own = table[who.index(user)].tolist()
        left = [i for i in range(ITEMS) if what[i] not in history(user)]
        best = sorted(left, key=lambda i: (-own[i], i))[:6]
        assert row.tolist() == [what[i] for i in best] + [None] * (6 - len(best))
        assert values[: len(best)] == pytest.approx([own[i] for i in best], abs=1e-5)
        assert np.isneginf(values[len(best) :]).all()
    assert [set(items[1][:2]), items[1][2]] == [{"film 7", "film 8"}, None]


@pytest.mark.parametrize("name", MODELS)
def test_a_run_keeps_places_and_metrics_of_each_user_by_raw_ids(runs, name):
    """The items of test that are new to their users, each with the number of unseen items that are scored
    higher; and metrics whose means are those of the row."""
    ranks, users = (pl.read_parquet(runs / name / file) for file in (RANKS, USERS))
    test = films().filter(pl.col("part") == "test")
    asked = sorted((u, i) for u, i in test.select("who", "what").iter_rows() if i not in history(u))
    assert sorted(ranks.select("user_id", "item_id").iter_rows()) == asked
    assert users["user_id"].to_list() == ranks["user_id"].unique(maintain_order=True).to_list()
    ranker = load_ranker(runs / name)
    for user, item, above in ranks.select("user_id", "item_id", "above").head(12).iter_rows():
        items, scores = ranker.recommend([user], k=ITEMS)
        row = dict(zip(items[0].tolist(), scores[0].tolist(), strict=True))
        assert sum(score > row[item] for other, score in row.items() if other) == above
    row = json.loads((runs / name / "row.json").read_text())["metrics"]
    named = [column for column in users.columns if column not in ("user", "user_id")]
    assert {"recall@20", "ndcg@50", "mrr@20"} <= {*named}
    for column in named:
        assert users[column].mean() == pytest.approx(row[f"test.{column}"], abs=1e-12)


@pytest.mark.parametrize("name", ["mf", "cml", "ials"])
def test_an_index_gives_the_same_lists(runs, tmp_path, name):
    ranker = load_ranker(runs / name)
    worth = ranker.index(tmp_path / "index", k=5)
    assert (worth.recall, worth.users, worth.k) == (1.0, 41, 5)
    assert min(worth.users_per_s, worth.exact_users_per_s) > 0
    indexed = load_ranker(runs / name, tmp_path / "index")
    users = ranker.users().to_list()
    (items, scores), (found, values) = (r.recommend(users, 5) for r in (ranker, indexed))
    assert (items == found).mean() > 0.99  # all but places of equal scores
    assert values == pytest.approx(scores, abs=1e-5)
    with pytest.raises(InputError, match="index of another run"):
        load_ranker(runs / ("cml" if name == "mf" else "mf"), tmp_path / "index")


def test_the_worth_of_an_index_is_the_share_of_the_exact_lists_that_it_finds(runs, tmp_path):
    """By a hand count over users, for an index that finds some."""
    pytest.importorskip("faiss")
    ranker = load_ranker(runs / "mf")
    worth = ranker.index(tmp_path / "index", "ivf", lists=6, probes=1, k=5)
    users = ranker.users().to_list()
    exact, found = (r.recommend(users, 5)[0] for r in (ranker, load_ranker(runs / "mf", tmp_path / "index")))
    pairs = [({*one} - {None}, {*other}) for one, other in zip(exact, found, strict=True)]
    shares = [len(one & other) / len(one) for one, other in pairs]
    assert worth.recall == pytest.approx(np.mean(shares), abs=1e-12)
    assert 0 < worth.recall < 1
    assert (found == None).any()  # noqa: E711 - what is not found leaves a place empty
    again = json.loads((tmp_path / "index/index.json").read_text())["worth"]
    assert again["recall"] == worth.recall


def test_a_scorer_has_no_index(runs, tmp_path):
    with pytest.raises(InputError, match="itemknn: has no vectors"):
        load_ranker(runs / "itemknn").index(tmp_path / "index")
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize(("device", "said"), [("gpu", "torch knows no such device"), (None, "torch knows"),
                                              ("cuda", "no CUDA device here; use cpu")])
def test_a_device_that_is_not_there_is_refused(runs, monkeypatch, device, said):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=said):
        load_ranker(runs / "mf", device=device)


def test_a_damaged_row_is_named(runs, tmp_path):
    shutil.copytree(runs / "mf", tmp_path / "mf")
    (tmp_path / "mf/row.json").write_text("{")
    with pytest.raises(InputError, match=r"row\.json: damaged, not valid JSON"):
        read_row(tmp_path / "mf")


def test_the_run_is_enough(runs, tmp_path):
    """Without the prepared data, and from another place."""
    expected = load_ranker(runs / "itemknn").recommend(["3"])
    shutil.copytree(runs / "itemknn" / "checkpoint", tmp_path / "moved")
    found = load_ranker(tmp_path / "moved").recommend(["3"])
    assert found[0].tolist() == expected[0].tolist()


def test_items_of_the_score_of_the_last_one_are_worth_as_much():
    """The best and one of three equal ones are asked for: two of these are one hit, nothing is none."""
    scores = torch.tensor([[5.0, 3.0, 3.0, 3.0, 1.0]]).repeat(5, 1)
    exact = torch.tensor([[0, 1]] * 5)
    found = torch.tensor([[0, 3], [2, 3], [4, 0], [4, -1], [0, 1]])
    assert _hits(scores, exact, found).tolist() == [2, 1, 1, 0, 2]
    assert _hits(scores * 1e-6, exact, found).tolist() == [2, 1, 1, 0, 2]  # rounding is of the scores' size
    assert _hits(scores[:1], torch.tensor([[0, -1]]), torch.tensor([[0, -1]])).tolist() == [1]


def test_a_user_who_has_had_everything_does_not_count_in_the_worth_of_an_index(runs, tmp_path):
    ranker = load_ranker(runs / "mf")
    before = ranker.index(tmp_path / "index", k=5)
    user, item = ranker._lists.pairs()
    every, users = torch.arange(ITEMS), len(ranker._lists)
    for full in ([3], range(users)):
        owner = torch.tensor([*full]).repeat_interleave(ITEMS)
        pairs = torch.cat([user, owner]), torch.cat([item, every.repeat(len(full))])
        one = torch.unique(torch.stack(pairs), dim=1)
        ranker._lists = ItemLists.of(*one, users, ITEMS)
        if len(full) == 1:
            worth = ranker.worth(VectorIndex.open(tmp_path / "index", ranker.weights_sha256), 5)
            assert (worth.recall, worth.users) == (1.0, before.users - 1)
    with pytest.raises(InputError, match="its users have had every item"):
        ranker.index(tmp_path / "other", k=5)


@pytest.mark.parametrize("k", ["3", 3.0, None, True])
def test_a_length_that_is_no_whole_number_is_refused(ranker, k):
    with pytest.raises(InputError, match="give a whole number of places"):
        ranker.recommend(["3"], k=k)


def test_a_length_may_be_of_numpy(ranker):
    assert ranker.recommend(["3"], k=np.int64(3))[0].shape == (1, 3)


@pytest.mark.parametrize("seen", [["film 1"], [1], 5, "film 1"])
def test_seen_items_are_lists(ranker, seen):
    with pytest.raises(InputError, match="seen: expected a list of ids for each user"):
        ranker.recommend(["3"], seen=seen)


def test_given_items_are_masked_in_place_of_those_of_the_fit(ranker):
    free = ranker.recommend(["3", "4"], ITEMS, seen=[[], []])[0]
    assert set(free[0]) == {f"film {i}" for i in range(ITEMS)}
    masked = ranker.recommend(["3", "4"], ITEMS, seen=[[], [free[1][0], "a film of another world"]])[0]
    assert masked[0].tolist() == free[0].tolist()
    assert masked[1].tolist() == [*free[1][1:], None]
    with pytest.raises(InputError, match="seen: 1 lists for 2 users"):
        ranker.recommend(["3", "4"], seen=[[]])


def test_users_without_a_history_are_named_or_get_what_is_popular(ranker):
    with pytest.raises(InputError, match="nothing was learnt of user 'late', 'who', 'x' and 1 more"):
        ranker.recommend(["late", "3", "who", "x", "y", "x"])
    items, scores = ranker.recommend(["late", "3", "who"], 5, unknown="popular")
    counts = films().filter(pl.col("part") != "test")["what"].value_counts()
    count = dict(counts.iter_rows())
    assert scores[0].tolist() == sorted(count.values(), reverse=True)[:5]
    assert [count[item] for item in items[0]] == scores[0].tolist()
    assert items[0].tolist() == items[2].tolist()
    assert items[1].tolist() == ranker.recommend(["3"], 5)[0][0].tolist()
    fewer = ranker.recommend(["who"], 5, seen=[[items[0][0]]], unknown="popular")[0][0]
    assert fewer[:4].tolist() == items[0][1:].tolist()
    assert "late" not in ranker.users().to_list()
    with pytest.raises(InputError, match=r"'popluar'; did you mean \['popular'\]"):
        ranker.recommend(["3"], unknown="popluar")


@pytest.mark.parametrize("users", [
    [3, 4], np.array([3, 4]), pd.Series([3.0, 4.0]), pl.Series(["3", "4"]), ("3", "4"),
], ids=["ints", "array", "pandas", "polars", "tuple"])
def test_ids_are_compared_as_texts(ranker, users):
    assert ranker.recommend(users)[0].tolist() == ranker.recommend(["3", "4"])[0].tolist()


@pytest.mark.parametrize(("users", "said"), [
    (1, r"users: expected a list of ids, got 1; write \[1\]"),
    (None, r"users: expected a list of ids, got None"),
    ("fan", r"expected a list of ids, got 'fan'; write \['fan'\]"),
    ([["3"], ["4"]], "neither text nor numbers"),
    (["3", None], "users: number 2 is missing"),
    ([3.5], "nothing was learnt of user '3.5'"),
    (pd.DataFrame({"who": ["3"]}), "expected a list of ids, got a DataFrame; give a list, or one column"),
    ({"3"}, "got a set"),
    ({"who": ["3"]}, "got a dict"),
])
def test_what_is_no_list_of_ids_is_refused(ranker, users, said):
    with pytest.raises(InputError, match=said):
        ranker.recommend(users)


def test_no_users_no_lists(ranker):
    items, scores = ranker.recommend([], 5)
    assert items.shape == scores.shape == (0, 5)
    assert ranker.similar([], 5)[0].shape == (0, 5)


@pytest.mark.parametrize("k", [0, -1, ITEMS + 1])
def test_lists_are_not_longer_than_the_catalogue(ranker, runs, tmp_path, k):
    for call in (lambda: ranker.recommend(["3"], k), lambda: ranker.similar(["film 1"], k),
                 lambda: ranker.frames(ranker.users(), k), lambda: ranker.index(tmp_path / "index", k=k)):
        with pytest.raises(InputError, match=f"k = {k}: a list of 30 items has 1 to 30 places"):
            call()
    assert not (tmp_path / "index").exists()


def test_similar_items_are_those_of_a_loop_over_vectors(runs):
    for name, likeness in (("mf", lambda a, b: torch.nn.functional.cosine_similarity(a, b, 0)),
                           ("cml", lambda a, b: -(a - b).square().sum())):
        ranker = load_ranker(runs / name)
        vectors = ranker.model.placed().items
        what = ranker.encoder.vocabularies["what"].values.to_list()
        items, scores = ranker.similar(["film 4", "film 9"], 3)
        for asked, row, values in zip(("film 4", "film 9"), items, scores, strict=True):
            own = what.index(asked)
            like = {w: float(likeness(vectors[i], vectors[own])) for i, w in enumerate(what) if i != own}
            best = sorted(like, key=lambda w: -like[w])[:3]
            assert row.tolist() == best
            assert values == pytest.approx([like[w] for w in best], abs=1e-5)
    with pytest.raises(InputError, match="no item 'film 99'; leave"):
        ranker.similar(["film 4", "film 99"])


def test_tables_are_the_lists_whatever_their_size(ranker, monkeypatch):
    users = ranker.users()
    items, scores = ranker.recommend(users, 4)
    for size in (4096, 7):
        monkeypatch.setattr("recsys_zoo.ranker._USERS", size)
        frame = pl.concat(ranker.frames(users, 4))
        listed = zip(users, items, strict=True)
        rows = [(u, r + 1, i) for u, row in listed for r, i in enumerate(row) if i is not None]
        assert frame.select("user", "rank", "item").rows() == rows
        assert frame["score"].to_numpy() == pytest.approx(scores[np.isfinite(scores)], abs=1e-6)


def test_a_run_of_an_earlier_version_says_what_it_lacks(runs, tmp_path):
    """Such a run has no lists of what was seen; its scores serve all the same."""
    folder = tmp_path / "old"
    shutil.copytree(runs / "mf" / "checkpoint", folder)
    (folder / "seen.safetensors").unlink()
    config = json.loads((folder / "config.json").read_text())
    with pytest.raises(InputError, match=r"seen\.safetensors: missing or damaged"):
        load_ranker(folder)
    del config["files_sha256"]["seen.safetensors"], config["digest"]
    (folder / "config.json").write_text(json.dumps({**config, "digest": json_digest(config)}))
    old, now = load_ranker(folder), load_ranker(runs / "mf")
    for call in (lambda: old.recommend(["3"]), old.users, lambda: old.frames(pl.Series(["3"])),
                 lambda: old.recommend(["new"], seen=[[]], unknown="popular")):
        with pytest.raises(InputError, match="does not hold what its users have seen"):
            call()
    assert old.recommend(["3"], 5, seen=[[]])[0].tolist() == now.recommend(["3"], 5, seen=[[]])[0].tolist()
    assert pl.concat(old.frames(pl.Series(["3"]), 5, with_seen=True)).height == 5
