"""Self-attention over fields, against loops and against torch's own module."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from recsys_zoo.nn.attention import attend, attend_with_weights


def naive(projected: torch.Tensor, heads: int, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Row by row, head by head, field by field; weights [B, H, F queries, F keys]."""
    rows, fields, width = projected.shape[0], projected.shape[1], projected.shape[2] // 3
    size = width // heads
    out, weights = projected.new_zeros(rows, fields, width), projected.new_zeros(rows, heads, fields, fields)
    for b in range(rows):
        q, k, v = projected[b].split(width, 1)
        for h in range(heads):
            own = slice(h * size, (h + 1) * size)
            for m in range(fields):
                scores = torch.stack([scale * q[m, own] @ k[n, own] for n in range(fields)]).exp()
                weights[b, h, m] = scores / scores.sum()
                out[b, m, own] = sum(weights[b, h, m, n] * v[n, own] for n in range(fields))
    return out, weights


@pytest.mark.parametrize(("heads", "scale"), [(1, 1.0), (2, 1.0), (3, 0.5), (6, 2.0)])
def test_equals_the_loops(heads, scale):
    projected = torch.randn(3, 4, 18, dtype=torch.float64)
    out, weights = attend_with_weights(projected, heads, scale)
    expected, expected_weights = naive(projected, heads, scale)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(weights.permute(1, 0, 3, 2), expected_weights)


@pytest.mark.parametrize("heads", [1, 4])
def test_equals_torch_multihead_attention(heads):
    width, x = 16, torch.randn(5, 7, 16, dtype=torch.float64)
    theirs = nn.MultiheadAttention(width, heads, bias=False, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        theirs.out_proj.weight.copy_(torch.eye(width))
    expected, expected_weights = theirs(x, x, x, average_attn_weights=False)
    out, weights = attend_with_weights(x @ theirs.in_proj_weight.T, heads, 1 / math.sqrt(width / heads))
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(weights.permute(1, 0, 3, 2), expected_weights)


def test_weights_are_distributions_over_keys():
    weights = attend_with_weights(torch.randn(3, 4, 18), 2)[1]
    assert weights.shape == (2, 3, 4, 4)
    assert weights.min() >= 0
    torch.testing.assert_close(weights.sum(2), torch.ones(2, 3, 4))


def test_large_scores_stay_finite():
    out, weights = attend_with_weights(torch.randn(3, 4, 18) * 1e3, 2)
    assert torch.isfinite(out).all()
    assert torch.isfinite(weights).all()


def test_permuting_fields_permutes_the_output():
    projected, order = torch.randn(3, 6, 18), torch.randperm(6)
    torch.testing.assert_close(attend(projected[:, order], 2), attend(projected, 2)[:, order])


def test_dropout_acts_on_weights_but_they_are_returned_before_it():
    projected = torch.randn(2000, 3, 12, dtype=torch.float64)
    out, weights = attend_with_weights(projected[:1].expand(2000, -1, -1), 2, dropout=0.4)
    expected, expected_weights = attend_with_weights(projected[:1], 2)
    torch.testing.assert_close(weights, expected_weights.expand(-1, 2000, -1, -1))
    assert (out[0] - expected[0]).abs().max() > 0.01
    # rescaled by 1 / 0.6, so right on average: the mean of 2000 draws is within a few hundredths
    torch.testing.assert_close(out.mean(0), expected[0], rtol=0, atol=0.15)


def test_gradients_are_right():
    projected = torch.randn(2, 3, 12, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: attend(p, 2, 0.7), projected)
