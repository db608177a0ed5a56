"""Scores of pairs and their gradients: kernel and torch against sums in double precision."""

from __future__ import annotations

import pytest
import torch

from recsys_zoo.nn import kernels
from recsys_zoo.nn.pairs import pair_scores


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("rows", "negatives", "width"), [(1, 1, 1), (300, 1, 64), (7, 5, 37), (260, 3, 16)])
def test_scores_and_gradients_are_sums_of_products(way, rows, negatives, width, threads):
    """Whole numbers, whose sums are exact; a strided and an expanded tensor among them."""
    torch.set_num_threads(threads)
    whole = lambda *shape: torch.randint(-5, 6, shape).float()  # noqa: E731
    given = whole(rows, width), whole(width, rows).t(), whole(rows, negatives, width)
    given = [x.requires_grad_() for x in given]
    good, bad = pair_scores(*given)
    user, pos, neg = (x.detach().double() for x in given)
    assert torch.equal(good.double(), (user * pos).sum(1))
    assert torch.equal(bad.double(), (user[:, None] * neg).sum(2))
    one, some = whole(1).expand(rows), whole(rows, negatives)
    found = torch.autograd.grad([good, bad], given, [one, some])
    expected = (one[:, None] * pos + (some[..., None] * neg).sum(1), one[:, None] * user,
                some[..., None] * user[:, None])
    for gradient, right in zip(found, expected, strict=True):
        assert torch.equal(gradient.double(), right)


def test_under_autocast_and_in_double_precision_torch_does_it(monkeypatch):
    monkeypatch.setattr(kernels, "enabled", True)
    monkeypatch.setattr(kernels, "called", False)
    given = torch.randn(3, 4), torch.randn(3, 4), torch.randn(3, 2, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert pair_scores(*given)[1].dtype == torch.bfloat16
    assert pair_scores(*(x.double() for x in given))[0].dtype == torch.float64
    assert not kernels.called
