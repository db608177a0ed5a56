"""Lists of items: from pairs and back, gathered, and less others."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys_zoo.errors import InputError
from recsys_zoo.itemlists import ItemLists

USERS, ITEMS = 5, 7
pairs = st.lists(st.tuples(st.integers(0, USERS - 1), st.integers(0, ITEMS - 1)), max_size=30)


def made(values: list[tuple[int, int]]) -> ItemLists:
    user, item = (torch.tensor([pair[place] for pair in values], dtype=torch.int64) for place in (0, 1))
    return ItemLists.of(user, item, USERS, ITEMS)


@given(pairs)
def test_pairs_come_back_sorted_and_once(values):
    lists = made(values)
    assert list(zip(*(t.tolist() for t in lists.pairs()), strict=True)) == sorted(set(values))
    assert lists.counts.tolist() == [len({i for u, i in values if u == user}) for user in range(USERS)]
    assert len(lists) == USERS


@given(pairs, st.lists(st.integers(0, USERS - 1), max_size=6))
def test_items_of_some_users_in_their_order(values, users):
    row, item = made(values).of_users(torch.tensor(users, dtype=torch.int64))
    expected = [(r, i) for r, user in enumerate(users) for i in sorted({i for u, i in values if u == user})]
    assert list(zip(row.tolist(), item.tolist(), strict=True)) == expected


@given(pairs)
def test_padded_rows_hold_the_items_in_front(values):
    padded = made(values).padded()
    longest = max((len({i for u, i in values if u == user}) for user in range(USERS)), default=0)
    assert padded.shape == (USERS, longest)
    for user, row in enumerate(padded.tolist()):
        own = sorted({i for u, i in values if u == user})
        assert row == own + [-1] * (longest - len(own))


@given(pairs, pairs)
def test_lists_less_others(values, others):
    left = made(values).without(made(others))
    assert list(zip(*(t.tolist() for t in left.pairs()), strict=True)) == sorted(set(values) - set(others))
    assert len(left) == USERS


def test_fractions_are_no_numbers():
    with pytest.raises(InputError, match=r"item numbers are of type torch\.float32: give whole numbers"):
        ItemLists.of(torch.tensor([0]), torch.tensor([1.0]), 1, 2)


@pytest.mark.parametrize(("user", "item", "said"), [(5, 0, "user numbers 5 to 5"), (0, 7, "item numbers 7"),
                                                    (0, -1, "item numbers -1")])
def test_numbers_beyond_are_refused(user, item, said):
    with pytest.raises(InputError, match=said):
        made([(user, item)])
