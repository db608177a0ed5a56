"""Lists of rows against loops, in whole numbers, whose sums are exact: values and gradients."""

from __future__ import annotations

import pytest
import torch

from recsys_zoo.nn.lists import distinct, products_of_lists, sums_of_lists

LISTS, ROWS = 300, 45


def whole(*shape: int) -> torch.Tensor:
    return torch.randint(-4, 5, shape).float()


@pytest.fixture
def lists() -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """Sizes, rows (some repeated, some in no list), and the list that each entry is in; some are empty."""
    sizes = torch.randint(0, 6, (LISTS,))
    sizes[[0, 50, LISTS - 1]] = 0
    item = torch.randint(0, ROWS - 5, (int(sizes.sum()),))
    return sizes, item, torch.arange(LISTS).repeat_interleave(sizes).tolist()


@pytest.mark.parametrize("width", [1, 16, 23, 64])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("weighted", [False, True])
def test_sums_of_lists(way, lists, width, threads, weighted):
    torch.set_num_threads(threads)
    sizes, item, of = lists
    vectors, grad = whole(ROWS, width).requires_grad_(), whole(LISTS, width)
    weight = whole(len(item)).requires_grad_() if weighted else None
    found = sums_of_lists(vectors, item, sizes, weight)
    found.backward(grad)
    wanted, to_vectors, to_weight = torch.zeros(LISTS, width), torch.zeros(ROWS, width), []
    for entry, (row, chosen) in enumerate(zip(of, item.tolist(), strict=True)):
        times = 1.0 if weight is None else float(weight[entry].detach())
        wanted[row] += times * vectors[chosen].detach()
        to_vectors[chosen] += times * grad[row]
        to_weight.append(float((grad[row] * vectors[chosen].detach()).sum()))
    assert torch.equal(found.detach(), wanted)
    assert torch.equal(vectors.grad, to_vectors)
    assert weight is None or weight.grad.tolist() == to_weight


@pytest.mark.parametrize("width", [1, 16, 23, 64])
@pytest.mark.parametrize("threads", [1, 2])
def test_products_of_lists(way, lists, width, threads):
    torch.set_num_threads(threads)
    sizes, item, of = lists
    own, vectors = whole(LISTS, width).requires_grad_(), whole(ROWS, width).requires_grad_()
    grad = whole(len(item))
    found = products_of_lists(own, vectors, item, sizes)
    found.backward(grad)
    to_own, to_vectors = torch.zeros(LISTS, width), torch.zeros(ROWS, width)
    for entry, (row, chosen) in enumerate(zip(of, item.tolist(), strict=True)):
        assert float(found[entry].detach()) == float((own[row] * vectors[chosen]).sum().detach())
        to_own[row] += grad[entry] * vectors[chosen].detach()
        to_vectors[chosen] += grad[entry] * own[row].detach()
    assert torch.equal(own.grad, to_own)
    assert torch.equal(vectors.grad, to_vectors)


def test_no_list_has_an_entry(way):
    sizes, none = torch.zeros(3, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
    vectors = torch.ones(4, 5, requires_grad=True)
    assert sums_of_lists(vectors, none, sizes).tolist() == [[0] * 5] * 3
    assert products_of_lists(torch.ones(3, 5), vectors, none, sizes).tolist() == []


def test_distinct_numbers_and_their_places():
    numbers, place = distinct(torch.tensor([7, 2, 7, 0, 2]), 9)
    assert (numbers.tolist(), place.tolist()) == ([0, 2, 7], [2, 1, 2, 0, 1])
