"""Full rankings and lists against loops over users and items; the size of a block changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recsys_zoo.errors import InputError
from recsys_zoo.evaluation import full_rank
from recsys_zoo.evaluation.full_rank import full_ranking, top_items
from recsys_zoo.itemlists import ItemLists

USERS, ITEMS = 60, 41


def lists(share: float, seed: int) -> ItemLists:
    chosen = torch.from_numpy(np.random.default_rng(seed).random((USERS, ITEMS)) < share)
    chosen[0] = chosen[7] = False  # users with an empty list
    return ItemLists.of(*chosen.nonzero(as_tuple=True), USERS, ITEMS)


@pytest.fixture
def table() -> torch.Tensor:
    return torch.randint(0, 8, (USERS, ITEMS), generator=torch.Generator().manual_seed(0)).float()


def of(these: ItemLists, user: int) -> set[int]:
    return set(these.of_users(torch.tensor([user]))[1].tolist())


def one_by_one(monkeypatch) -> None:
    def blocks(users, items, block_mib):
        return ((place, users[place : place + 1]) for place in range(len(users)))

    monkeypatch.setattr(full_rank, "_blocks", blocks)


@pytest.mark.parametrize("alone", [False, True], ids=["one block", "user by user"])
def test_ranks_are_those_of_a_loop(monkeypatch, table, alone):
    if alone:
        one_by_one(monkeypatch)
    relevant, seen = lists(0.1, 1), lists(0.3, 2)
    found = full_ranking(lambda users: table[users].clone(), relevant, seen, ITEMS)
    expected = []
    for place, user in enumerate(found.users.tolist()):
        candidates = [i for i in range(ITEMS) if i not in of(seen, user)]
        scores = [float(table[user, i]) for i in candidates]
        assert int(found.ranks.candidates[place]) == len(candidates)
        for item in of(relevant, user) - of(seen, user):
            own = float(table[user, item])
            expected.append((place, sum(s > own for s in scores), scores.count(own)))
    ranks = found.ranks
    got = zip(ranks.user.tolist(), ranks.above.tolist(), ranks.tied.tolist(), strict=True)
    assert sorted(got) == sorted(expected)
    assert found.users.tolist() == [u for u in range(USERS) if of(relevant, u) - of(seen, u)]


@pytest.mark.parametrize("alone", [False, True], ids=["one block", "user by user"])
@pytest.mark.parametrize("k", [1, 5, ITEMS])
def test_lists_are_those_of_a_sort(monkeypatch, table, alone, k):
    if alone:
        one_by_one(monkeypatch)
    seen, users = lists(0.3, 2), torch.tensor([7, 3, 3, 59])
    item, value = top_items(lambda users: table[users].clone(), users, seen, ITEMS, k)
    for row, user in enumerate(users.tolist()):
        candidates = [i for i in range(ITEMS) if i not in of(seen, user)]
        best = sorted(candidates, key=lambda i: (-float(table[user, i]), i))[:k]
        assert item[row].tolist() == best + [-1] * (k - len(best))
        assert value[row, : len(best)].tolist() == [float(table[user, i]) for i in best]
        assert bool((value[row, len(best) :] == -torch.inf).all())


def test_a_seen_item_is_no_relevant_one(table):
    both = lists(0.2, 3)
    with pytest.raises(InputError, match="nothing to rank"):
        full_ranking(lambda users: table[users].clone(), both, both, ITEMS)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_are_refused(table, value):
    table[5, 3] = value
    with pytest.raises(InputError, match="NaN or infinite"):
        full_ranking(lambda users: table[users].clone(), lists(0.5, 1), lists(0.0, 1), ITEMS)


def test_scores_of_another_shape_are_refused(table):
    with pytest.raises(InputError, match="have the shape"):
        full_ranking(lambda users: table[users, :-1], lists(0.5, 1), lists(0.0, 1), ITEMS)


def test_whole_numbers_and_lists_of_other_users_are_refused(table):
    with pytest.raises(InputError, match=r"scores are of type torch\.int64: give fractions"):
        full_ranking(lambda users: table[users].long(), lists(0.5, 1), lists(0.0, 1), ITEMS)
    few = lists(0.0, 1).rows(torch.arange(3))
    with pytest.raises(InputError, match=f"lists of {USERS} users with relevant items and of 3 with seen"):
        full_ranking(lambda users: table[users].clone(), lists(0.5, 1), few, ITEMS)


@pytest.mark.parametrize("k", [0, ITEMS + 1])
def test_a_list_is_not_longer_than_the_catalogue(table, k):
    with pytest.raises(InputError, match=f"k = {k}: a list of {ITEMS} items"):
        top_items(lambda users: table[users].clone(), torch.tensor([1]), lists(0.1, 1), ITEMS, k)


def test_blocks_keep_to_their_memory():
    users = torch.arange(1000)
    sizes = [len(block) for _, block in full_rank._blocks(users, 1 << 16, 32)]
    assert sizes == [128] * 7 + [104]
    assert [len(block) for _, block in full_rank._blocks(users[:2], 1 << 30, 1)] == [1, 1]
