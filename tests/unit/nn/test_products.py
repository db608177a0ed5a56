"""Places by inner products: the kernel against loops over items, on vectors with ties and without."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recsys_zoo.evaluation.full_rank import NotFinite, full_ranking
from recsys_zoo.itemlists import ItemLists
from recsys_zoo.nn import kernels, products
from recsys_zoo.nn.products import Distances, Products

pytestmark = pytest.mark.skipif(kernels.compiler() is None, reason="no C++ compiler")


def two_lists(users: int, items: int, seed: int = 0) -> tuple[ItemLists, ItemLists]:
    """Seen and wanted items, none both; the first user has no wanted item, the last has seen the others."""
    part = np.random.default_rng(seed).integers(0, 5, (users, items))
    part[0][part[0] == 1] = 2
    part[-1] = np.where(part[-1] == 1, 1, 0)
    part[-1, 0] = 1
    found = (torch.from_numpy(part == number).nonzero(as_tuple=True) for number in (0, 1))
    return tuple(ItemLists.of(*pairs, users, items) for pairs in found)


def naive(scores: torch.Tensor, seen: ItemLists, wanted: ItemLists) -> list[tuple[int, int]]:
    """Larger and equal scores of each wanted item, among those that are not seen."""
    places, table = [], scores.tolist()
    for user, row in enumerate(table):
        own, theirs = (set(lists.rows(torch.tensor([user])).items.tolist()) for lists in (wanted, seen))
        left = [score for item, score in enumerate(row) if item not in theirs]
        places += [(sum(s > row[i] for s in left), left.count(row[i])) for i in sorted(own)]
    return places


def placed(users: torch.Tensor, items: torch.Tensor, seen: ItemLists, wanted: ItemLists):
    above, tied = Products(users, items).places(torch.arange(len(users)), seen, wanted)
    return list(zip(above.tolist(), tied.tolist(), strict=True))


SHAPES = [(1, 1, 1), (5, 15, 3), (13, 33, 7), (40, 600, 4), (390, 60, 2)]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("users", "items", "width"), SHAPES)
def test_places_are_those_of_a_loop(users, items, width, threads):
    torch.set_num_threads(threads)
    left, right = (torch.randint(-2, 3, (count, width)).float() for count in (users, items))
    left[users // 2] = 0  # one to whom all items are alike
    seen, wanted = two_lists(users, items)
    assert placed(left, right, seen, wanted) == naive(left @ right.t(), seen, wanted)


def test_neighbouring_numbers_are_told_apart():
    """A thousand floats around 1 in one user's range of +-10^6, where they are one number of 16 bits."""
    steps = np.float32(1) + np.arange(-500, 500, dtype=np.float32) * np.float32(2**-23)
    items = torch.from_numpy(np.concatenate([steps, steps[::7], [1e6, -1e6, 0.0, -0.0]]).astype(np.float32))
    items = items[torch.randperm(len(items))][:, None]
    users = torch.tensor([[1.0], [-1.0], [0.5]])
    seen, wanted = two_lists(3, len(items), 3)
    assert placed(users, items, seen, wanted) == naive(users @ items.t(), seen, wanted)


def test_products_of_real_numbers_are_as_exact_as_theirs():
    """Counts lie between those of products in double precision that are off by a rounding either way."""
    users, items = torch.randn(60, 64), torch.randn(900, 64) * torch.rand(900, 1).exp()
    seen, wanted = two_lists(60, 900)
    found = placed(users, items, seen, wanted)
    exact = users.double() @ items.double().t()
    exact[seen.pairs()] = -torch.inf
    for (user, item), (above, tied) in zip(zip(*wanted.pairs(), strict=True), found, strict=True):
        error = 1e-6 * float(users[user].norm() * items.norm(dim=1).max())
        score = exact[user, item]
        assert int((exact[user] > score + error).sum()) <= above
        assert above + tied <= int((exact[user] > score - error).sum())


def test_a_long_catalogue_is_counted_in_parts():
    """A million larger numbers: 65 thousand in each of 16 lanes, more than 16 bits hold."""
    items = torch.arange(2**20 + 777).remainder(1000).float()[:, None]
    wanted = ItemLists.of(torch.zeros(3).long(), torch.tensor([0, 500, 2**20 + 776]), 1, len(items))
    seen = ItemLists.of(torch.zeros(2).long(), torch.tensor([999, 2**20 + 1]), 1, len(items))
    masked = items[:, 0].clone()
    masked[seen.items] = -1
    expected = [(int((masked > s).sum()), int((masked == s).sum())) for s in items[wanted.items, 0]]
    assert placed(torch.ones(1, 1), items, seen, wanted) == expected


def test_a_ranking_is_the_same_with_and_without_the_kernel(monkeypatch):
    users, items = (torch.randint(-3, 4, (count, 8)).float() for count in (90, 70))
    seen, wanted = two_lists(90, 70, 1)
    with_kernel = full_ranking(Products(users, items), wanted, seen, 70)
    monkeypatch.setattr(products, "_has_kernel", lambda: False)
    without = full_ranking(Products(users, items), wanted, seen, 70)
    for name in ("user", "above", "tied", "candidates"):
        assert torch.equal(getattr(with_kernel.ranks, name), getattr(without.ranks, name))
    assert torch.equal(with_kernel.items, without.items)
    assert torch.equal(with_kernel.users, without.users)


@pytest.mark.parametrize("kind", [Products, Distances])
def test_the_same_items_serve_other_users(kind):
    users, items = torch.randn(5, 4), torch.randn(30, 4)
    once = kind(users[:0], items)
    for some in (users, users[2:3]):
        other = once.of(some)
        assert torch.equal(other(torch.arange(len(some))), kind(some, items)(torch.arange(len(some))))
        assert other._turned is once._turned


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e25])
def test_scores_that_may_not_be_finite_are_left_to_the_check(value):
    users, items = torch.full((9, 4), 1e14), torch.ones(20, 4)
    items[3] = value
    seen, wanted = two_lists(9, 20)
    assert Products(users, items).places(torch.arange(9), seen, wanted) is None
    with pytest.raises(NotFinite):
        full_ranking(Products(users, items), wanted, seen, 20)


def test_other_types_are_not_counted_here():
    seen, wanted = two_lists(9, 20)
    vectors = torch.ones(9, 4).double(), torch.ones(20, 4).double()
    assert Products(*vectors).places(torch.arange(9), seen, wanted) is None


def test_distances_and_their_places_are_exact_where_numbers_are():
    users, items = (torch.randint(-3, 4, (count, 5)).float() for count in (90, 70))
    score, (seen, wanted) = Distances(users, items), two_lists(90, 70, 1)
    exact = -(users[:, None] - items).square().sum(2)
    assert torch.equal(score(torch.arange(90)), exact)
    above, tied = score.places(torch.arange(90), seen, wanted)
    assert list(zip(above.tolist(), tied.tolist(), strict=True)) == naive(exact, seen, wanted)
