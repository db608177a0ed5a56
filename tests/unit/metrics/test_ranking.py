"""Ranking metrics against loops over all orders of equal scores, and against scikit-learn."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from statistics import fmean

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from recsys_zoo.errors import InputError
from recsys_zoo.metrics import ranking
from recsys_zoo.metrics.ranking import METRICS, Ranks, evaluate_ranking


def ranks_of(lists: list[tuple[list[float], list[bool]]]) -> Ranks:
    """From the scores of all candidates of each user and which of them are relevant."""
    places = [
        (user, sum(s > score for s in scores), scores.count(score))
        for user, (scores, relevant) in enumerate(lists)
        for score, wanted in zip(scores, relevant, strict=True)
        if wanted
    ]
    columns = (torch.tensor(column) for column in zip(*places, strict=True))
    return Ranks.of(*columns, torch.tensor([len(scores) for scores, _ in lists]))


def of_a_list(relevant: list[bool], k: int) -> dict[str, float]:
    """The definitions, for one order without ties."""
    total, top = sum(relevant), relevant[:k]
    hits = [rank for rank, hit in enumerate(top, 1) if hit]
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, total) + 1))
    precisions = [sum(top[:rank]) / rank for rank in hits]
    return {
        "recall": len(hits) / total,
        "recall_capped": len(hits) / min(k, total),
        "precision": len(hits) / k,
        "hit_rate": float(bool(hits)),
        "ndcg": sum(1 / math.log2(rank + 1) for rank in hits) / ideal,
        "mrr": 1 / hits[0] if hits else 0.0,
        "map": sum(precisions) / min(k, total),
    }


def over_all_orders(scores: list[float], relevant: list[bool], k: int) -> dict[str, list[float]]:
    """Every metric in every order of the equal scores."""
    found = defaultdict(list)
    for order in itertools.permutations(range(len(scores))):
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order)):
            for name, value in of_a_list([relevant[i] for i in order], k).items():
                found[name].append(value)
    return found


users = st.integers(1, 6).flatmap(
    lambda n: st.tuples(
        st.lists(st.sampled_from([0.0, 1.0, 2.5]), min_size=n, max_size=n),
        st.lists(st.booleans(), min_size=n, max_size=n).filter(any),
    )
)


@given(st.lists(users, min_size=1, max_size=3), st.integers(1, 8))
def test_the_expected_value_is_the_mean_over_all_orders(lists, k):
    found = evaluate_ranking(ranks_of(lists), [k])
    for user, (scores, relevant) in enumerate(lists):
        for name, values in over_all_orders(scores, relevant, k).items():
            assert float(found[f"{name}@{k}"][user]) == pytest.approx(fmean(values), abs=1e-12)


@given(st.lists(users, min_size=1, max_size=3), st.integers(1, 8))
def test_pessimistic_and_optimistic_are_the_worst_and_the_best_order(lists, k):
    ranks = ranks_of(lists)
    for ties, extreme in (("pessimistic", min), ("optimistic", max)):
        found = evaluate_ranking(ranks, [k], ties)
        for user, (scores, relevant) in enumerate(lists):
            for name, values in over_all_orders(scores, relevant, k).items():
                assert float(found[f"{name}@{k}"][user]) == pytest.approx(extreme(values), abs=1e-12)


@given(st.lists(users, min_size=1, max_size=3))
def test_every_value_lies_between_0_and_1(lists):
    for values in evaluate_ranking(ranks_of(lists), [1, 3, 50]).values():
        assert bool(((values >= 0) & (values <= 1 + 1e-12)).all())


@pytest.mark.parametrize("levels", [4, 1000])
def test_ndcg_of_the_whole_list_is_that_of_scikit_learn(levels):
    """scikit-learn averages over ties too, when the list is not cut."""
    draw = np.random.default_rng(levels)
    scores = draw.integers(0, levels, (20, 50)).astype(float)
    relevant = draw.random((20, 50)) < 0.2
    relevant[:, 0] = True
    found = ranking.ndcg(ranks_of(list(zip(scores.tolist(), relevant.tolist(), strict=True))), 50)
    right = [ndcg_score(relevant[i : i + 1], scores[i : i + 1]) for i in range(20)]
    np.testing.assert_allclose(found.numpy(), right, atol=1e-12)


def test_hand_example():
    """Scores 3 2 2 1 with the second and the last relevant: a hit at rank 2 or 3, and one at 4."""
    found = evaluate_ranking(ranks_of([([3.0, 2, 2, 1], [False, True, False, True])]), [2])
    assert {name: round(float(value), 6) for name, value in found.items()} == {
        "recall@2": 0.25,
        "recall_capped@2": 0.25,
        "precision@2": 0.25,
        "hit_rate@2": 0.5,
        "ndcg@2": round(0.5 / math.log2(3) / (1 + 1 / math.log2(3)), 6),
        "mrr@2": 0.25,
        "map@2": 0.125,
    }


@pytest.mark.parametrize(("items", "wanted"), [(40_000, 1), (40_000, 9), (30, 7), (10, 10)])
def test_a_constant_scorer_gets_what_chance_gives(items, wanted):
    k = 20
    one = torch.ones(wanted, dtype=torch.int64)
    ranks = Ranks.of(0 * one, 0 * one, items * one, torch.tensor([items]))
    found = {name: float(value) for name, value in evaluate_ranking(ranks, [k]).items()}
    m = min(k, items)
    assert found[f"recall@{k}"] == pytest.approx(m / items)
    assert found[f"hit_rate@{k}"] == pytest.approx(1 - math.comb(items - wanted, m) / math.comb(items, m))
    first = sum(math.comb(items - p, wanted - 1) / p for p in range(1, m + 1)) / math.comb(items, wanted)
    assert found[f"mrr@{k}"] == pytest.approx(first)


def test_with_one_relevant_item_all_metrics_at_1_agree():
    draw = np.random.default_rng(0)
    lists = []
    for _ in range(40):
        relevant = [False] * 9
        relevant[draw.integers(9)] = True
        lists.append((draw.integers(0, 4, 9).astype(float).tolist(), relevant))
    first, *others = evaluate_ranking(ranks_of(lists), [1]).values()
    for other in others:
        torch.testing.assert_close(other, first)


def test_the_order_of_the_items_does_not_matter():
    lists = [([1.0, 1, 0], [True, False, True]), ([2.0, 1], [True, True])]
    ranks = ranks_of(lists)
    order = torch.tensor([3, 0, 2, 1])
    again = Ranks.of(ranks.user[order], ranks.above[order], ranks.tied[order], ranks.candidates)
    for name, values in evaluate_ranking(ranks, [1, 2]).items():
        assert torch.equal(values, evaluate_ranking(again, [1, 2])[name])
    assert ranks.mean_rank().tolist() == [1.5, 3.0, 1.0, 2.0]


def test_the_first_users_alone():
    lists = [([1.0, 1, 0], [True, False, True]), ([2.0, 1], [True, True]), ([1.0, 2], [True, False])]
    found, alone = ranks_of(lists).first(2), ranks_of(lists[:2])
    for name, values in evaluate_ranking(found, [1, 2]).items():
        assert torch.equal(values, evaluate_ranking(alone, [1, 2])[name])


@pytest.mark.parametrize(
    ("user", "above", "tied", "said"),
    [
        ([0, 0], [0, 1], [1, 1], "every user"),
        ([0, 1], [0, 5], [1, 1], "beyond the candidates"),
        ([0, 1], [0, -1], [1, 1], "beyond the candidates"),
        ([0, 1], [0, 0], [0, 1], "beyond the candidates"),
        ([0, 1, 1], [0, 0, 0], [1, 1, 1], "beyond the candidates"),  # two items share a place of one
    ],
)
def test_impossible_places_are_refused(user, above, tied, said):
    with pytest.raises(InputError, match=said):
        Ranks.of(*map(torch.tensor, (user, above, tied)), torch.tensor([5, 5]))


def test_a_list_has_a_place():
    with pytest.raises(InputError, match="k = 0"):
        evaluate_ranking(ranks_of([([1.0], [True])]), [0])


def test_metrics_are_named_as_documented():
    assert all(name in ranking.__doc__ for name in METRICS)
