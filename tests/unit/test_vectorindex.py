"""Indexes of vectors against a sort of all scores: no seen item comes, and no unseen one is lost."""

from __future__ import annotations

import importlib.util
import json
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from torch import Tensor

from recsys_zoo import create
from recsys_zoo.errors import InputError
from recsys_zoo.itemlists import ItemLists
from recsys_zoo.models.base import Scorer
from recsys_zoo.models.vectors import Placed
from recsys_zoo.vectorindex import VectorIndex, Worth, compare, placed_of
from tests import toys
from tests.contract import harness

needs_faiss = pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="faiss is not installed")
KINDS = [pytest.param("torch"), *(pytest.param(kind, marks=needs_faiss) for kind in ("flat", "ivf"))]
WORTH = Worth(recall=1.0, k=5, users=1, seed=1, users_per_s=1.0, exact_users_per_s=1.0, threads=1)
each_metric = pytest.mark.parametrize("metric", ["dot", "l2"])
each_kind = pytest.mark.parametrize("kind", KINDS)


def placed(metric: str, users: int = 40, items: int = 90, seed: int = 0, span: int = 3) -> Placed:
    """Vectors of small whole numbers, so that scores are exact and often equal."""
    g = torch.Generator().manual_seed(seed)
    u, i = (torch.randint(-span, span + 1, (n, 6), generator=g).float() for n in (users, items))
    return Placed(u, i, metric)


def built(vectors: Placed, kind: str, lists: int = 7) -> VectorIndex:
    return VectorIndex.build(vectors, kind, *((lists, lists) if kind == "ivf" else ()))


def test_an_unknown_kind_is_refused():
    with pytest.raises(InputError, match=r"kind of index .*'hnsw'"):
        built(placed("dot"), "hnsw")


def scores(vectors: Placed) -> Tensor:
    """In float64, pair by pair."""
    u, i = vectors.users.double()[:, None], vectors.items.double()[None]
    return (u * i).sum(2) if vectors.metric == "dot" else -(u - i).square().sum(2)


def check(vectors: Placed, kind: str, seen: ItemLists, k: int) -> None:
    """The k best unseen items, of equal scores the smaller number first, with their scores."""
    items, found = built(vectors, kind).top(vectors.users, seen, k)
    table = scores(vectors)
    for user, row in enumerate(table):
        own = set(seen.rows(torch.tensor([user])).items.tolist())
        best = sorted((i for i in range(len(row)) if i not in own), key=lambda i: (-float(row[i]), i))[:k]
        assert items[user].tolist() == best + [-1] * (k - len(best))
        assert found[user].tolist() == [float(row[i]) for i in best] + [-np.inf] * (k - len(best))


@each_kind
@each_metric
@examples(max_examples=12)
@given(seed=st.integers(0, 999), share=st.sampled_from([0.0, 0.2, 0.9, 1.0]), k=st.integers(1, 90))
def test_an_exact_index_gives_the_best_unseen_items(kind, metric, seed, share, k):
    check(placed(metric, users=7, seed=seed), kind, toys.random_lists(7, 90, share, seed), k)


@each_kind
@each_metric
def test_lists_of_users_who_have_seen_the_best_are_full(kind, metric):
    """User u has seen the 2 u best items, the last ones all but a few: fewer than k, or none at all."""
    vectors = placed(metric, users=46)
    best = scores(vectors).argsort(1, descending=True)
    pairs = [(u, int(best[u, place])) for u in range(46) for place in range(2 * u)]
    check(vectors, kind, ItemLists.of(*torch.tensor(pairs).t(), 46, 90), 5)


@each_kind
@each_metric
def test_blocks_change_nothing(monkeypatch, kind, metric):
    """Whoever else is asked for; many scores are equal."""
    vectors, seen = placed(metric), toys.random_lists(40, 90, 0.3)
    whole = built(vectors, kind).top(vectors.users, seen, 5)
    monkeypatch.setattr("recsys_zoo.vectorindex._QUERIES", 3)
    parts = built(vectors, kind).top(vectors.users, seen, 5)
    alone = [built(vectors, kind).top(vectors.users[[u]], seen.rows(torch.tensor([u])), 5) for u in range(40)]
    for found in (parts, [torch.cat(part) for part in zip(*alone, strict=True)]):
        assert torch.equal(whole[0], found[0])
        assert torch.equal(whole[1], found[1])


@needs_faiss
@each_metric
def test_more_probes_find_better_items_and_all_of_them_the_best(metric):
    vectors, seen = placed(metric, items=400, span=50), toys.random_lists(40, 400, 0.05)
    exact, best = built(vectors, "torch").top(vectors.users, seen, 10)
    recalls, before = [], torch.full_like(best, -torch.inf)
    for probes in (1, 3, 8, 20):
        items, found = VectorIndex.build(vectors, "ivf", 20, probes).top(vectors.users, seen, 10)
        recalls.append(float((items[:, :, None] == exact[:, None]).any(2).double().mean()))
        assert bool((found >= before).all())
        before = found
    assert 0 < recalls[0] < 0.9
    assert torch.equal(before, best)  # the items too, but for those of equal scores


@each_kind
def test_a_saved_index_finds_the_same(tmp_path, kind):
    vectors, seen = placed("l2", span=100), toys.random_lists(40, 90, 0.3)
    index = VectorIndex.build(vectors, kind, *((9, 2) if kind == "ivf" else ()))
    index.save(tmp_path / "index", "abc", WORTH)
    index.save(tmp_path / "index", "abc", WORTH)  # in the place of the first
    again = VectorIndex.open(tmp_path / "index", "abc")
    assert (again.kind, again.metric, again.lists, again.probes) == (kind, "l2", index.lists, index.probes)
    for one, other in zip(index.top(vectors.users, seen, 5), again.top(vectors.users, seen, 5), strict=True):
        assert torch.equal(one, other)
    assert json.loads((tmp_path / "index/index.json").read_text())["worth"]["recall"] == 1.0


@each_kind
def test_an_index_that_does_not_fit_is_refused(tmp_path, kind):
    folder = tmp_path / "index"
    built(placed("dot"), kind).save(folder, "abc", WORTH)
    with pytest.raises(InputError, match="index of another run"):
        VectorIndex.open(folder, "abd")
    file = next(path for path in folder.iterdir() if path.stem == "items")
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match="SHA-256"):
        VectorIndex.open(folder, "abc")
    file.unlink()
    with pytest.raises(InputError, match=file.name):
        VectorIndex.open(folder, "abc")
    (folder / "index.json").write_text('{"kind": "flat"}')
    with pytest.raises(InputError, match=r"index\.json: damaged"):
        VectorIndex.open(folder, "abc")
    with pytest.raises(InputError, match="no such file"):
        VectorIndex.open(tmp_path, "abc")


def test_only_an_index_is_replaced(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    for place in (tmp_path, tmp_path / "thesis.tex"):
        with pytest.raises(InputError, match="exists and is no index"):
            built(placed("dot"), "torch").save(place, "abc", WORTH)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize(("kind", "lists", "probes", "said"), [
    ("ivf", 91, 1, "lists = 91: choose 1 to 90"),
    ("ivf", 9, 10, "probes = 10: choose 1 to 9"),
    ("flat", 9, 0, "belong to ivf"),
    ("torch", 0, 3, "belong to ivf"),
])
def test_numbers_that_fit_no_index_are_refused(kind, lists, probes, said):
    with pytest.raises(InputError, match=said):
        VectorIndex.build(placed("dot"), kind, lists, probes)


def test_vectors_that_are_no_numbers_are_refused():
    vectors = placed("dot")
    vectors.items[3, 1] = torch.nan
    with pytest.raises(InputError, match="NaN or infinite"):
        VectorIndex.build(vectors)


@pytest.mark.parametrize("k", [0, 91])
def test_lists_are_not_longer_than_the_catalogue(k):
    vectors = placed("dot")
    with pytest.raises(InputError, match=f"k = {k}: a list of 90 items"):
        built(vectors, "torch").top(vectors.users, toys.random_lists(40, 90, 0.1), k)


def test_without_faiss_the_package_is_named_and_torch_works(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    vectors = placed("dot")
    with pytest.raises(InputError, match=r"pip install 'recsys-zoo\[faiss-cpu\]'"):
        VectorIndex.build(vectors, "flat")
    check(vectors, "torch", toys.random_lists(40, 90, 0.3), 5)


@pytest.mark.parametrize("name", [*harness.VECTORS, *harness.SCORERS, "mf.directau", "mf.softmax"])
def test_placed_vectors_rank_as_the_model_does(name):
    model, train = harness.told(create(name, toys.ranking(24, 15), seed=1)), toys.random_lists(24, 15, 0.3)
    (model.fit if isinstance(model, Scorer) else model.prepare)(train)
    if getattr(model, "placed", None) is None:
        with pytest.raises(InputError, match=f"{name}: has no vectors"):
            placed_of(model)
        return
    with torch.no_grad():
        users, items, metric = placed_of(model)
        expected = model.scoring()(torch.arange(24))
    torch.testing.assert_close(compare(users, items, metric), expected)
