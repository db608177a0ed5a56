"""Lists of rows against loops, in whole numbers, whose sums are exact: values and gradients."""

from __future__ import annotations

import pytest
import torch

from recsys_zoo.nn import kernels
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
    """Vectors and gradients may be strided, numbers of rows of either width."""
    torch.set_num_threads(threads)
    sizes, item, of = lists
    vectors = whole(width, ROWS).t().requires_grad_()
    grad, item = whole(width).expand(LISTS, width), item.int() if weighted else item
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
    own, vectors = (whole(width, rows).t().requires_grad_() for rows in (LISTS, ROWS))
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
    given = torch.tensor([7, 2, 7, 0, 2])
    numbers, places = distinct(given, 9)
    assert (numbers.tolist(), places[given].tolist()) == ([0, 2, 7], [2, 1, 2, 0, 1])


@pytest.fixture
def kernel(monkeypatch) -> None:
    if kernels.missing("sparse_product"):
        pytest.skip("no C++ compiler")
    monkeypatch.setattr(kernels, "enabled", True)


def test_what_does_not_fit_together_is_refused(kernel):
    """Nothing is read beyond the ends."""
    sizes, item, vectors = torch.tensor([1, 2]), torch.tensor([0, 1, 2]), torch.ones(4, 5)
    for wrong in (lambda: sums_of_lists(vectors, item[:2], sizes),
                  lambda: sums_of_lists(vectors, item, sizes, torch.ones(2)),
                  lambda: products_of_lists(torch.ones(3, 5), vectors, item, sizes)):
        with pytest.raises(ValueError, match="lists of 3 entries"):
            wrong()
    with pytest.raises(RuntimeError, match="per_sample_weights"):  # torch's own sentence
        sums_of_lists(vectors, item, sizes, torch.ones(3, dtype=torch.float64))
    assert sums_of_lists(vectors, item, sizes).tolist() == [[1.0] * 5, [2.0] * 5]


def test_there_are_no_second_derivatives(kernel):
    """The kernel's gradients say so, instead of being wrong there."""
    vectors = torch.ones(4, 5, requires_grad=True)
    found = sums_of_lists(vectors, torch.tensor([0, 1, 2]), torch.tensor([1, 2]))
    grad, = torch.autograd.grad(found.square().sum(), vectors, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.square().sum().backward()
