"""Negatives: every place below the weight of what is left, one by one, and the draws over them."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys_zoo.errors import InputError
from recsys_zoo.itemlists import ItemLists
from recsys_zoo.nn import kernels
from recsys_zoo.tasks.negatives import Negatives, NegativesInRelease

USERS, ITEMS = 4, 6
pairs = st.sets(st.tuples(st.integers(0, USERS - 1), st.integers(0, ITEMS - 1)), max_size=15)


def lists(values) -> ItemLists:
    user, item = (torch.tensor([pair[k] for pair in sorted(values)], dtype=torch.int64) for k in (0, 1))
    return ItemLists.of(user, item, USERS, ITEMS)


def every_place(negatives: Negatives, user: int) -> list[int]:
    """By torch, and by the kernel where it can be had."""
    places, found = torch.arange(int(negatives.left[user]))[None], []
    for enabled in (False, not kernels.missing("item_places")):
        kernels.enabled = enabled
        found.append(negatives.at(places, torch.tensor([user]))[0].tolist())
    assert found[0] == found[1]
    return found[0]


@given(pairs)
def test_uniform_places_are_the_items_that_are_left_in_their_order(values):
    full = [u for u in range(USERS) if sum(pair[0] == u for pair in values) == ITEMS]
    if full:
        with pytest.raises(InputError, match=f"user number {full[0]}"):
            Negatives(lists(values), ITEMS)
        return
    negatives = Negatives(lists(values), ITEMS)
    for user in range(USERS):
        assert every_place(negatives, user) == [i for i in range(ITEMS) if (user, i) not in values]


@given(pairs, st.lists(st.integers(0, 3), min_size=ITEMS, max_size=ITEMS).filter(any))
def test_weighted_places_are_as_many_as_the_weights_of_what_is_left(values, weights):
    positives = lists(values)
    left = [[i for i in range(ITEMS) if (user, i) not in values and weights[i]] for user in range(USERS)]
    if not all(left):
        with pytest.raises(InputError, match="has an interaction with every item that may be drawn"):
            Negatives(positives, ITEMS, torch.tensor(weights))
        return
    negatives = Negatives(positives, ITEMS, torch.tensor(weights))
    # a unit of weight is so many places that only the borders are looked at
    units = negatives.cdf.diff(prepend=torch.zeros(1, dtype=torch.int64))
    torch.testing.assert_close(units / units.sum(), torch.tensor(weights) / sum(weights))
    for user in range(USERS):
        assert int(negatives.left[user]) == int(units[left[user]].sum())
        ends = units[left[user]].cumsum(0)
        places = torch.cat([ends - units[left[user]], ends - 1])
        assert negatives.at(places[None], torch.tensor([user]))[0].tolist() == left[user] * 2


@pytest.mark.parametrize("weight", [0.3, 1.0, 1e12])
def test_equal_weights_are_places_of_one_unit(weight):
    """Of what may be drawn, without a search: items 0 and 4 may not, item 2 is the user's own."""
    weights = torch.tensor([0.0, weight, weight, weight, 0.0, weight])
    negatives = Negatives(lists({(0, 2), (1, 0)}), ITEMS, weights)
    assert negatives.alike.tolist() == [1, 2, 3, 5]
    assert negatives.to("meta").alike.device.type == "meta"
    assert [every_place(negatives, user) for user in (0, 1)] == [[1, 3, 5], [1, 2, 3, 5]]
    assert negatives.to("cpu").draw(torch.tensor([0, 1]), 50).unique().tolist() == [1, 2, 3, 5]


@pytest.mark.parametrize("weighted", [False, True])
def test_draws_follow_the_weights(weighted):
    """Shares over 60,000 draws within five standard deviations."""
    values = {(0, 1), (0, 4), (2, 0)}
    weight = torch.tensor([5.0, 1, 0, 2, 7, 1]) if weighted else None
    negatives = Negatives(lists(values), ITEMS, weight)
    torch.manual_seed(2)
    drawn = negatives.draw(torch.tensor([0, 3, 2]), 60_000)
    for row, user in enumerate((0, 3, 2)):
        left = [0.0 if (user, i) in values else float(weight[i]) if weighted else 1.0 for i in range(ITEMS)]
        counts = Counter(drawn[row].tolist())
        for item, mass in enumerate(left):
            share = mass / sum(left)
            spread = (share * (1 - share) / 60_000) ** 0.5
            assert abs(counts[item] / 60_000 - share) <= 5 * spread


def test_the_generator_decides():
    negatives = Negatives(lists({(0, 1)}), ITEMS)
    users = torch.zeros(9, dtype=torch.int64)
    draws = [negatives.draw(users, 4, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_many_users_and_a_steep_popularity():
    """Whole numbers do not overflow, and an item of tiny weight can still be drawn."""
    users = 3_000_000
    user = torch.arange(users)
    positives = ItemLists.of(user, user % 2, users, 1000)
    weight = torch.ones(1000)
    weight[0], weight[999] = 1e12, 1e-9
    negatives = Negatives(positives, 1000, weight)
    last = torch.tensor([users - 1, users - 2])
    places = torch.stack([torch.zeros(2, dtype=torch.int64), negatives.left[last] - 1], 1)
    assert negatives.at(places, last).tolist() == [[0, 999], [1, 999]]


@pytest.mark.parametrize("weight", [[1.0] * 5, [1.0] * 5 + [-1.0], [1.0] * 5 + [float("nan")]])
def test_what_are_no_weights_is_refused(weight):
    with pytest.raises(InputError, match="weights of 6 items"):
        Negatives(lists(set()), ITEMS, torch.tensor(weight))


def test_weights_of_nothing_are_refused():
    with pytest.raises(InputError, match="all are 0"):
        Negatives(lists(set()), ITEMS, torch.zeros(ITEMS))


@pytest.mark.skipif(bool(kernels.missing("item_places")), reason="no C++ compiler")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("draws", "items"), [(3, 400), (256, 400), (300, 5000)])
def test_many_users_by_the_kernel_equal_torch(draws, items, weighted, threads, monkeypatch):
    """Lists of none to 300 items, so that fetching ahead and searches of every depth are met; users with few
    draws and with many, for whom the kernel has another search."""
    torch.set_num_threads(threads)
    g = torch.Generator().manual_seed(3)
    counts = torch.randint(0, 300, (60,), generator=g) * (torch.arange(60) % 7 != 0)
    own = [(u, int(i)) for u in range(60) for i in torch.randperm(items, generator=g)[: counts[u]]]
    user, item = (torch.tensor([pair[k] for pair in sorted(own)]) for k in (0, 1))
    weight = torch.rand(items, generator=g) if weighted else None
    negatives = Negatives(ItemLists.of(user, item, 60, items), items, weight)
    users = torch.randint(0, 60, (500,), generator=g)
    unit = torch.rand(500, draws, generator=g, dtype=torch.float64)
    places = (unit * negatives.left[users, None]).long()
    places[:, 0], places[:, 1] = 0, negatives.left[users] - 1
    expected, drawn = negatives.at(places, users), negatives.draw(users, draws, g.manual_seed(5))
    monkeypatch.setattr(kernels, "enabled", True)
    monkeypatch.setattr(kernels, "_NUMBERS_A_THREAD", 1)
    assert torch.equal(negatives.at(places, users), expected)
    assert torch.equal(negatives.draw(users, draws, g.manual_seed(5)), drawn)


moments = st.lists(st.integers(0, 5), min_size=ITEMS * USERS, max_size=ITEMS * USERS)


begins = st.lists(st.integers(0, 5) | st.just(math.inf), min_size=ITEMS, max_size=ITEMS)


@given(pairs, moments, begins, st.integers(0, 3))
def test_what_is_in_release_is_what_a_loop_finds(values, times, first, window):
    """At every pair, in the order of release: begun by then, at most the window before, not the user's."""
    positives = lists(values)
    user = positives.pairs()[0]
    moment = torch.tensor(times[: len(user)], dtype=torch.float64)
    drawn = NegativesInRelease(positives, moment, torch.tensor(first, dtype=torch.float64), float(window))
    for pair, (of, at) in enumerate(zip(user.tolist(), moment.tolist(), strict=True)):
        places = int(drawn.start[pair]) + torch.arange(int(drawn.left[pair]))
        found = drawn.order[drawn.negatives.at(places[None], torch.tensor([of]))[0]].tolist()
        assert found == [i for i in sorted(range(ITEMS), key=lambda i: first[i])
                         if first[i] <= at and (not window or first[i] >= at - window)
                         and (of, i) not in values]


def test_draws_in_release_are_even():
    """Within five standard deviations; nothing else is drawn."""
    positives = lists({(0, 1), (0, 4), (2, 0)})
    first = torch.tensor([0.0, 1.0, 1.0, 2.0, 0.0, 3.0], dtype=torch.float64)
    drawn = NegativesInRelease(positives, torch.tensor([2.0, 1.0, 3.0], dtype=torch.float64), first)
    torch.manual_seed(0)
    rows = torch.tensor([0, 1, 2])
    found = drawn.draw(rows, torch.tensor([0, 0, 2]), 6000)
    for counts, allowed in zip(found, ([0, 2, 3], [0, 2], [1, 2, 3, 4, 5]), strict=True):
        counts = torch.bincount(counts, minlength=ITEMS)
        assert counts.nonzero().squeeze(1).tolist() == allowed
        share = 1 / len(allowed)
        deviation = (6000 * share * (1 - share)) ** 0.5
        assert (counts[allowed] - 6000 * share).abs().max() < 5 * deviation
