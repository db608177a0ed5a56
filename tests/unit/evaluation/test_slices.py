"""Slices of users and items against loops over users, with equal scores and without."""

from __future__ import annotations

import math

import pytest
import torch

from recsys_zoo import create
from recsys_zoo.evaluation.full_rank import full_ranking
from recsys_zoo.evaluation.slices import by_slice, by_ties, further
from recsys_zoo.itemlists import ItemLists
from recsys_zoo.metrics.beyond import evaluate_lists
from recsys_zoo.metrics.ranking import ndcg, recall
from tests import toys

USERS, ITEMS, K = 30, 44, 4
BOUNDS = {"history<=5": (0, 5), "history=6-20": (6, 20), "history>20": (21, 999)}
ITEM_BOUNDS = {"item_users=0": (0, 0), "item_users=1-5": (1, 5), "item_users>5": (6, 999)}


def lists() -> tuple[ItemLists, ItemLists]:
    """Seen and relevant items: users with 0 to 22 seen ones, items with none and more."""
    g = torch.Generator().manual_seed(2)
    share = torch.arange(USERS)[:, None] / USERS * torch.linspace(0, 1.7, ITEMS)[None] ** 2
    seen = torch.rand(USERS, ITEMS, generator=g) < share
    relevant = ~seen & (torch.rand(USERS, ITEMS, generator=g) < 0.3)
    return toys.lists(seen.int().tolist()), toys.lists(relevant.int().tolist())


def scores(levels: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(5)
    return torch.randint(0, levels, (USERS, ITEMS), generator=g).float()


def expected(user: int, wanted: set[int], seen: set[int], score: torch.Tensor) -> tuple[float, float]:
    """Recall and NDCG: the chance of each item to stand at each place, item by item."""
    candidates = [i for i in range(ITEMS) if i not in seen]
    hits = gain = 0.0
    for item in wanted:
        above = sum(float(score[user, i]) > float(score[user, item]) for i in candidates)
        tied = sum(float(score[user, i]) == float(score[user, item]) for i in candidates)
        for place in range(above, min(above + tied, K)):
            hits += 1 / tied
            gain += 1 / tied / math.log2(place + 2)
    ideal = sum(1 / math.log2(place + 2) for place in range(min(K, len(wanted))))
    return hits / len(wanted), gain / ideal


@pytest.mark.parametrize("levels", [4, 100_000], ids=["ties", "no ties"])
def test_every_slice_is_that_of_loops(levels):
    seen, relevant = lists()
    score = scores(levels)
    found = full_ranking(lambda users: score[users].clone(), relevant, seen, ITEMS)
    metrics = by_slice(found, seen, seen, ITEMS, K)
    own, wanted = ({u: set() for u in range(USERS)} for _ in range(2))
    for sets, of in ((own, seen), (wanted, relevant)):
        for user, item in zip(*(t.tolist() for t in of.pairs()), strict=True):
            sets[user].add(item)
    popularity = torch.bincount(seen.items, minlength=ITEMS)
    by_loops = {}
    for name, (least, most) in BOUNDS.items():
        by_loops[name] = {u: wanted[u] for u in wanted if least <= len(own[u]) <= most and wanted[u]}
    for name, (least, most) in ITEM_BOUNDS.items():
        kept = {u: {i for i in wanted[u] if least <= int(popularity[i]) <= most} for u in wanted}
        by_loops[name] = {u: items for u, items in kept.items() if items}
    assert all(by_loops.values())
    assert len(metrics) == 3 * len(by_loops)
    for name, users in by_loops.items():
        values = [expected(u, items, own[u], score) for u, items in users.items()]
        recall, ndcg = (sum(column) / len(column) for column in zip(*values, strict=True))
        assert metrics[f"recall@{K}|{name}"] == pytest.approx(recall)
        assert metrics[f"ndcg@{K}|{name}"] == pytest.approx(ndcg)
        assert metrics[f"users|{name}"] == len(users)


def test_the_worst_and_the_best_order_of_equal_scores_are_those_of_a_sort():
    """Equal scores broken by hand: relevant items last, or first."""
    seen, relevant = lists()
    score, user = scores(3), torch.arange(USERS)
    found = full_ranking(lambda users: score[users].clone(), relevant, seen, ITEMS)
    metrics = by_ties(found.ranks, K)
    wanted = torch.zeros(USERS, ITEMS)
    wanted[relevant.pairs()] = 0.5
    for name, moved in (("worst", score - wanted), ("best", score + wanted)):
        order = full_ranking(lambda users, of=moved: of[users].clone(), relevant, seen, ITEMS).ranks
        assert metrics[f"recall@{K}|ties={name}"] == pytest.approx(float(recall(order, K).mean()))
        assert metrics[f"ndcg@{K}|ties={name}"] == pytest.approx(float(ndcg(order, K).mean()))
    middle = float(recall(found.ranks, K).mean())
    assert metrics[f"recall@{K}|ties=worst"] < middle < metrics[f"recall@{K}|ties=best"]
    constant = full_ranking(lambda users: torch.zeros(len(users), ITEMS), relevant, seen, ITEMS)
    chance = K / (ITEMS - seen.counts[user[relevant.counts > 0]])  # each relevant item, whatever was seen
    torch.testing.assert_close(recall(constant.ranks, K), chance.clamp(max=1).double())


def test_users_who_are_held_out_are_known_by_what_is_given_of_them():
    """Short histories by the given items, rare ones by what training users have, lists without the given."""
    given, relevant = lists()
    learnt = toys.random_lists(7, ITEMS, 0.4)
    score = scores(100_000)
    found = full_ranking(lambda users: score[users].clone(), relevant, given, ITEMS)
    metrics = further(lambda users: score[users].clone(), found, given, learnt, ITEMS, (K,))
    warm = further(lambda users: score[users].clone(), found, given, given, ITEMS, (K,))
    for name in BOUNDS:
        assert metrics[f"recall@{K}|{name}"] == warm[f"recall@{K}|{name}"]
    popularity = torch.bincount(learnt.items, minlength=ITEMS)
    rare = relevant.among((popularity > 0) & (popularity <= 5))
    few = full_ranking(lambda users: score[users].clone(), rare, given, ITEMS)
    assert metrics["users|item_users=1-5"] == len(few.users)
    assert metrics[f"novelty@{K}"] != warm[f"novelty@{K}"]


def test_slices_of_nobody_are_left_out():
    seen, relevant = lists()
    few = seen.first(2)
    score = scores(9)
    found = full_ranking(lambda users: score[users].clone(), relevant.without(few), few, ITEMS)
    names = {name.partition("|")[2] for name in by_slice(found, few, few, ITEMS, K)}
    assert names == {"history<=5", "item_users=0", "item_users=1-5"}


def test_lists_are_the_best_items_that_were_not_seen_and_other_candidates_have_none():
    """Popularity: equal counts in the order of their numbers."""
    seen, relevant = lists()
    model = create("popularity", toys.ranking(USERS, ITEMS))
    model.fit(seen)
    found = full_ranking(model.score, relevant, seen, ITEMS)
    metrics = further(model.score, found, seen, seen, ITEMS, (K, 2))
    counts = torch.bincount(seen.items, minlength=ITEMS)
    rows = []
    for user in found.users.tolist():
        own = set(seen.items[seen.offsets[user] : seen.offsets[user + 1]].tolist())
        best = sorted((i for i in range(ITEMS) if i not in own), key=lambda i: (-int(counts[i]), i))[:K]
        rows.append(best + [-1] * (K - len(best)))
    known = int((seen.counts > 0).sum())
    assert known < USERS
    assert {k: v for k, v in metrics.items() if "|" not in k} == evaluate_lists(
        torch.tensor(rows), counts, known, (K, 2))
    only = full_ranking(model.score, relevant, seen, ITEMS, only=relevant)
    assert all("|" in name for name in further(model.score, only, seen, seen, ITEMS, (K,)))
