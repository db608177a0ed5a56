"""Second-order term of a factorisation machine."""

from __future__ import annotations

import torch

from recsys_zoo.nn.interaction import pair_sum


def test_hand_example():
    assert pair_sum(torch.tensor([[[1.0, 2.0], [3.0, -1.0], [0.0, 1.0]]])).tolist() == [2.0]


def test_equals_the_double_loop():
    e = torch.randn(5, 7, 3, dtype=torch.float64)
    naive = sum(((e[:, i] * e[:, j]).sum(1) for i in range(7) for j in range(i + 1, 7)), torch.zeros(5))
    torch.testing.assert_close(pair_sum(e), naive)


def test_one_field_has_no_pairs():
    assert pair_sum(torch.randn(4, 1, 3)).abs().max() < 1e-6


def test_is_of_second_degree_and_blind_to_field_order():
    e = torch.randn(5, 7, 3, dtype=torch.float64)
    torch.testing.assert_close(pair_sum(3 * e), 9 * pair_sum(e))
    torch.testing.assert_close(pair_sum(e[:, torch.randperm(7)]), pair_sum(e))
