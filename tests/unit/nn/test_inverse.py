"""The inverse in place against numpy's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recsys_zoo.nn.inverse import negative_inverse_


def positive(n: int, seed: int = 0) -> torch.Tensor:
    a = torch.randn(n, 2 * n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return a @ a.T / n + torch.eye(n, dtype=torch.float64)


@pytest.mark.parametrize("block", [1, 3, 7, 20, 64])
@pytest.mark.parametrize("n", [1, 2, 20, 33])
def test_equal_to_the_inverse_of_numpy(n, block):
    matrix = positive(n)
    expected = -np.linalg.inv(matrix.numpy())
    matrix += torch.full((n, n), float("nan")).triu(1)  # what is above the diagonal is not read
    assert negative_inverse_(matrix, block)
    np.testing.assert_allclose(matrix.numpy(), expected, rtol=1e-10, atol=1e-12)


def test_single_precision_loses_as_little_as_a_factorisation_does():
    matrix = positive(300)
    exact, found = torch.linalg.inv(matrix), matrix.float()
    assert negative_inverse_(found, 64)
    plain = torch.cholesky_inverse(torch.linalg.cholesky(matrix.float()))
    lost, least = ((inverse.double() - exact).norm() for inverse in (-found, plain))
    assert lost < 3 * least
    assert lost / exact.norm() < 1e-5


def test_hand_example():
    """(2, 1), (1, 3) has the determinant 5."""
    matrix = torch.tensor([[2.0, 1], [1, 3]])
    assert negative_inverse_(matrix, 1)
    torch.testing.assert_close(matrix, -torch.tensor([[3.0, -1], [-1, 2]]) / 5)


@pytest.mark.parametrize("block", [1, 2])
def test_what_is_not_positive_definite_is_said(block):
    assert not negative_inverse_(torch.tensor([[1.0, 2], [2, 1]]), block)
    assert not negative_inverse_(torch.tensor([[1.0, 1], [1, 1]]), block)
