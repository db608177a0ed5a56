"""DCG with an undiscounted second rank, its self-normalised form, and the sums behind recall and MAP."""

from __future__ import annotations

import itertools
import math
from statistics import fmean

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys_zoo.metrics.ranking import (
    average_precision,
    dcg,
    hits,
    precision_sum,
    recall,
    snips_dcg,
    snips_recall,
)
from tests.unit.metrics.test_ranking import ranks_of

LISTS = st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=5).filter(
    lambda rows: any(wanted for _, wanted in rows))


def gain(rank: int, k: int) -> float:
    return 0.0 if rank > k else 1.0 if rank == 1 else 1 / math.log2(rank)


def listed(rank: int, k: int) -> float:
    return float(rank <= k)


def of_orders(scores: list[int], relevant: list[bool], k: int, gain=gain) -> dict[tuple[int, ...], float]:
    """What each relevant item gains in the mean over all orders of equal scores."""
    orders = [order for order in itertools.permutations(range(len(scores)))
              if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))]
    return {item: fmean(gain(order.index(item) + 1, k) for order in orders)
            for item, wanted in enumerate(relevant) if wanted}


def test_by_hand():
    ranks = ranks_of([([3.0, 2.0, 1.0], [False, True, True])])
    assert float(dcg(ranks, 3)) == pytest.approx(1.63093, abs=1e-5)
    assert float(dcg(ranks, 2)) == 1
    assert float(dcg(ranks, 1)) == 0


@given(rows=LISTS, k=st.integers(1, 6))
def test_equal_scores_count_by_the_mean_over_their_orders(rows, k):
    scores, relevant = (list(column) for column in zip(*rows, strict=True))
    ranks = ranks_of([(scores, relevant)])
    gains = of_orders(scores, relevant, k)
    assert float(dcg(ranks, k)) == pytest.approx(sum(gains.values()))
    # in the order of the ranks: from the top, equal ones as they came
    order = sorted(gains, key=lambda item: -scores[item])
    theta = torch.tensor([0.1 + 0.15 * item for item in order])
    weights = {item: 1 / (0.1 + 0.15 * item) for item in order}
    expected = sum(weights[i] * gains[i] for i in order) / sum(weights.values())
    assert float(snips_dcg(ranks, k, theta)) == pytest.approx(expected)
    assert float(snips_dcg(ranks, k, torch.full_like(theta, 0.3))) == pytest.approx(
        float(dcg(ranks, k)) / len(order))
    chances = of_orders(scores, relevant, k, listed)
    expected = sum(weights[i] * chances[i] for i in order) / sum(weights.values())
    assert float(snips_recall(ranks, k, theta)) == pytest.approx(expected)
    alike = torch.full_like(theta, 0.3)
    assert float(snips_recall(ranks, k, alike)) == pytest.approx(float(recall(ranks, k)))


def test_hits_and_precisions_are_sums():
    ranks = ranks_of([([5.0, 4.0, 3.0, 2.0], [True, False, True, True]), ([2.0, 1.0], [False, True])])
    assert hits(ranks, 3).tolist() == [2, 0 + 1]
    assert precision_sum(ranks, 3).tolist() == pytest.approx([1 + 2 / 3, 1 / 2])
    assert torch.equal(recall(ranks, 3), hits(ranks, 3) / ranks.relevant)
    assert torch.equal(average_precision(ranks, 2), precision_sum(ranks, 2) / ranks.relevant.clamp(max=2))
