"""Scores of pairs and their gradients: kernel and torch against sums in double precision."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from recsys_zoo.nn import kernels
from recsys_zoo.nn.pairs import chosen_distances, chosen_products, pair_scores


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


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("rows", "size", "negatives", "width"),
                         [(1, 1, 1, 1), (9, 40, 25, 37), (300, 280, 3, 16)])
def test_scores_of_chosen_rows_and_gradients_are_sums(way, rows, size, negatives, width, threads, apart):
    """Whole numbers, whose sums are exact; a strided tensor among them, some gradients are 0."""
    torch.set_num_threads(threads)
    whole = lambda *shape: torch.randint(-5, 6, shape).float()  # noqa: E731
    users, table = whole(rows, width).requires_grad_(), whole(width, size).t().requires_grad_()
    items, weight = torch.randint(size, (rows, negatives)), whole(rows, negatives)
    scores = (chosen_distances if apart else chosen_products)(users, table, items)
    plain = (users.double() @ table.double().t()).gather(1, items)
    if apart:
        plain = ((users.double()[:, None] - table.double()) ** 2).sum(2).gather(1, items)
    assert torch.equal(scores.double(), plain)
    expected = torch.autograd.grad(plain, (users, table), weight.double())
    for gradient, right in zip(torch.autograd.grad(scores, (users, table), weight), expected, strict=True):
        assert torch.equal(gradient, right)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rows", [1, 300])
def test_cosines_of_chosen_rows_and_gradients(way, rows, threads):
    """Against rows that are divided by their lengths in double precision; one row has none."""
    torch.set_num_threads(threads)
    users = F.normalize(torch.randn(rows, 37), dim=1).requires_grad_()
    table = torch.randn(50, 37) * torch.logspace(-3, 3, 50)[:, None]
    table[7] = 0
    items, weight = torch.randint(50, (rows, 25)), torch.randn(rows, 25) * (torch.rand(rows, 25) > 0.5)
    items[items == 7] = 8
    items[0, 0] = 7
    weight[0, 0] = 0
    table.requires_grad_()
    scores = chosen_products(users, table, items, cosine=True)
    doubles = [x.detach().double().requires_grad_() for x in (users, table)]
    plain = (doubles[0] @ F.normalize(doubles[1], dim=1).t()).gather(1, items)
    torch.testing.assert_close(scores.double(), plain, rtol=0, atol=1e-6)
    expected = torch.autograd.grad(plain, doubles, weight.double())
    for gradient, right in zip(torch.autograd.grad(scores, (users, table), weight), expected, strict=True):
        largest = right.abs().amax(1, keepdim=True)
        assert bool(((gradient - right).abs() <= 1e-5 * largest.clamp(min=1e-9)).all())
