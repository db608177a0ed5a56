"""What lists hold beside hits: by hand, and against naive loops over lists."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys_zoo.metrics.beyond import (
    coverage,
    evaluate_lists,
    gini,
    inequality,
    novelty,
    popular_share,
)

COUNTS = torch.tensor([8, 4, 4, 2, 1, 0, 0, 0, 0, 0, 0, 0])  # of 16 users


def test_by_hand():
    """Three lists of two places, one of them half empty: items 0, 0, 1, 5, 3."""
    lists = torch.tensor([[0, 1], [0, 5], [3, -1]])
    assert coverage(lists, COUNTS, 16) == 4 / 12
    assert novelty(lists, COUNTS, 16) == (1 + 1 + 2 + 4 + 3) / 5  # nobody has item 5: as if one had
    # two of twelve items are popular: item 0, and of the items 1 and 2 one
    assert popular_share(lists, COUNTS, 16) == (1 + 1 + 0.5) / 5
    assert evaluate_lists(lists, COUNTS, 16, (1,))["coverage@1"] == 2 / 12


def test_ends_of_the_gini_index():
    assert inequality(torch.tensor([3, 3, 3, 3])) == 0
    assert inequality(torch.tensor([0, 7, 0, 0])) == pytest.approx(3 / 4)


def test_no_list_has_no_metric():
    assert evaluate_lists(torch.full((3, 2), -1), COUNTS, 16, (2,)) == {}


@given(st.integers(0, 10_000))
def test_naive_loops(seed):
    g = torch.Generator().manual_seed(seed)
    items, k = int(torch.randint(3, 30, (1,), generator=g)), 3
    lists = torch.stack([torch.randperm(items, generator=g)[:k] for _ in range(5)])
    lists[0, 2], lists[1, 1:] = -1, -1
    counts = torch.randint(0, 5, (items,), generator=g)
    for cut in (1, 3):
        shown = [i for row in lists.tolist() for i in row[:cut] if i >= 0]
        times = Counter(shown)
        assert coverage(lists[:, :cut], counts, 9) == pytest.approx(len(times) / items)
        bits = [-math.log2(max(int(counts[i]), 1) / 9) for i in shown]
        assert novelty(lists[:, :cut], counts, 9) == pytest.approx(sum(bits) / len(bits))
        differences = sum(abs(times[i] - times[j]) for i in range(items) for j in range(items))
        expected = differences / items**2 / (2 * len(shown) / items)
        assert gini(lists[:, :cut], counts, 9) == pytest.approx(expected)
        assert popular_share(lists[:, :cut], counts, 9) == pytest.approx(drawn_share(shown, counts))


def drawn_share(shown: list[int], counts: torch.Tensor) -> float:
    """The mean share over every order in which equal counts can stand."""
    size = math.ceil(len(counts) / 10)
    order = sorted(range(len(counts)), key=lambda i: -int(counts[i]))
    last = int(counts[order[size - 1]])
    equal = [i for i in order if int(counts[i]) == last]
    above = [i for i in order if int(counts[i]) > last]
    shares = []
    for turn in range(len(equal)):  # every rotation has each of them in front equally often
        popular = {*above, *(equal[turn:] + equal[:turn])[: size - len(above)]}
        shares.append(sum(i in popular for i in shown) / len(shown))
    return sum(shares) / len(shares)
