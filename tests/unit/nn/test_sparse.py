"""Sparse matrices in buffers: products, and the sizes they take from a state dict."""

from __future__ import annotations

import pytest
import torch
from scipy.sparse import csr_matrix

from recsys_zoo.nn import sparse
from recsys_zoo.nn.sparse import SparseMatrix, scipy_csr
from tests import toys

# rows: (1, 0, 2), (0, 0, 0), (0, 3, 4)
EXAMPLE = csr_matrix(([1.0, 2.0, 3.0, 4.0], [0, 2, 1, 2], [0, 2, 2, 4]), shape=(3, 3))


def example() -> SparseMatrix:
    matrix = SparseMatrix(3)
    matrix.assign(EXAMPLE)
    return matrix


@pytest.mark.parametrize("width", [1, 16, 23, 64, 150])
@pytest.mark.parametrize("threads", [1, 2])
def test_products_are_those_of_dense_matrices(way, width, threads):
    """A symmetric matrix with rows of no and of many entries, in whole numbers, whose sums are exact."""
    torch.set_num_threads(threads)
    whole = lambda *shape: torch.randint(-4, 5, shape).float()  # noqa: E731
    dense = whole(300, 300) * (torch.rand(300, 300) < torch.rand(300, 1) ** 3)
    dense = dense + dense.t()
    dense[7] = dense[:, 7] = 0
    matrix, x, rows = SparseMatrix(300), whole(300, width), torch.randperm(300)[:40]
    matrix.assign(csr_matrix(dense.numpy()))
    right = dense @ x
    assert torch.equal(matrix.product(x), right)
    assert torch.equal(matrix.product_of(rows, x), right[rows])
    some = torch.zeros(300, width).index_copy_(0, rows, x[:40])
    assert torch.equal(matrix.symmetric_product_from(rows, x[:40]), dense @ some)


def test_products_of_strided_vectors(way):
    x = torch.arange(6.0).view(2, 3).t()
    assert example().product(x).tolist() == [[4, 13], [0, 0], [11, 32]]
    assert example().product_of(torch.tensor([2, 0, 2]), x).tolist() == [[11, 32], [4, 13], [11, 32]]


def test_tensor_is_the_matrix():
    assert example().tensor().to_dense().tolist() == [[1, 0, 2], [0, 0, 0], [0, 3, 4]]


def test_entries_of_rows_in_any_order():
    place, col, value = example().rows(torch.tensor([2, 1, 2]))
    assert (place.tolist(), col.tolist(), value.tolist()) == ([0, 0, 2, 2], [1, 2, 1, 2], [3, 4, 3, 4])


def test_columns_of_rows_as_lists():
    lists = example().lists(torch.tensor([2, 1, 0]))
    assert lists.offsets.tolist() == [0, 2, 2, 4]
    assert lists.items.tolist() == [1, 2, 0, 2]


@pytest.mark.parametrize("entries", [1, 2, 3, 1 << 18])
def test_weighted_rows_hand_example(monkeypatch, entries):
    """Result 0: 10 x row 0 + row 2; result 1: nothing; result 2: -1 x row 2; some entries at a time."""
    monkeypatch.setattr(sparse, "ENTRIES", entries)
    place, row, weight = torch.tensor([0, 0, 2]), torch.tensor([0, 2, 2]), torch.tensor([10.0, 1.0, -1.0])
    found = example().weighted_rows(place, row, weight, 3)
    assert found.tolist() == [[10, 3, 24], [0, 0, 0], [0, -3, -4]]


@pytest.mark.parametrize("entries", [1, 7, 64, 1 << 18])
def test_weighted_rows_equal_the_dense_product(monkeypatch, entries):
    monkeypatch.setattr(sparse, "ENTRIES", entries)
    left, right = toys.random_lists(9, 12, 0.3), toys.random_lists(12, 8, 0.4, seed=1)
    one, two = SparseMatrix(12), SparseMatrix(8)
    one.assign(scipy_csr(left, 12))
    two.assign(scipy_csr(right, 8))
    found = two.weighted_rows(*one.rows(torch.arange(9)), 9)
    assert torch.equal(found.double(), toys.matrix(left, 12) @ toys.matrix(right, 8))


def test_nothing_gives_zeros():
    none = torch.arange(0)
    assert example().weighted_rows(none, none, torch.zeros(0), 2).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_columns_come_in_order():
    matrix = SparseMatrix(3)
    matrix.assign(csr_matrix(([1.0, 2.0], [2, 0], [0, 2]), shape=(1, 3)))
    assert (matrix.col.tolist(), matrix.values.tolist()) == ([0, 2], [2, 1])


def test_a_state_dict_brings_its_sizes():
    other = SparseMatrix(3)
    other.load_state_dict(example().state_dict())
    assert torch.equal(other.tensor().to_dense(), example().tensor().to_dense())
    other.load_state_dict(SparseMatrix(3).state_dict())
    assert len(other.values) == 0


def test_a_state_dict_without_a_buffer_is_refused():
    state = example().state_dict()
    del state["col"]
    with pytest.raises(RuntimeError, match="col"):
        SparseMatrix(3).load_state_dict(state)
