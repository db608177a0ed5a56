"""Pairs read where their rows stand: scores, and the gradients of rows, against sums over all pairs."""

from __future__ import annotations

import pytest
import torch

from recsys_zoo.nn import kernels
from recsys_zoo.nn.rowpairs import Rows, score_rows
from recsys_zoo.nn.table import Table

pytestmark = pytest.mark.skipif(bool(kernels.missing("pairs_of_rows")), reason="no C++ compiler")


@pytest.fixture(autouse=True)
def by_kernel(monkeypatch) -> None:
    monkeypatch.setattr(kernels, "enabled", True)
    monkeypatch.setattr(kernels, "_NUMBERS_A_THREAD", 1)


def whole(*shape) -> torch.Tensor:
    """Whole numbers, whose sums are exact."""
    return torch.randint(-5, 6, shape).float()


def table(rows: int, width: int) -> Table:
    made = Table(rows, width)
    made.weight.requires_grad_(False)[1:] = whole(rows - 1, width)
    return made


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("squares", [False, True])
@pytest.mark.parametrize(("pairs", "negatives", "width"), [(1, 1, 1), (300, 1, 64), (70, 5, 37), (40, 3, 16)])
def test_scores_and_gradients_of_rows(pairs, negatives, width, squares, threads):
    """20 users and 30 items, so that most rows are met more than once; the users' rows lie 3 behind."""
    torch.set_num_threads(threads)
    users, items = table(24, width), table(31, width)
    user, pos = torch.randint(1, 21, (pairs,)), torch.randint(1, 31, (pairs,))
    neg = torch.randint(1, 31, (pairs, negatives))
    found = score_rows(Rows(users, 3), Rows(items, 0), user, pos, neg, squares)
    x, y, z = users.weight[user + 3], items.weight[pos], items.weight[neg]
    assert torch.equal(found.good, (x * y).sum(1))
    assert torch.equal(found.bad, (x[:, None] * z).sum(2))
    found.good.grad, found.bad.grad = whole(pairs), whole(pairs, negatives)
    twice = torch.zeros(pairs, 1)
    if squares:
        assert torch.equal(found.squares, x.square().sum(1) + y.square().sum(1) + z.square().sum((1, 2)))
        found.squares.grad = whole(pairs)
        twice = 2 * found.squares.grad[:, None]
    good, bad = found.good.grad[:, None], found.bad.grad[:, :, None]
    of_users = torch.zeros(24, width).index_add_(0, user + 3, good * y + (bad * z).sum(1) + twice * x)
    of_items = torch.zeros(31, width).index_add_(0, pos, good * x + twice * y)
    of_items.index_add_(0, neg.flatten(), (bad * x[:, None] + twice[:, None] * z).flatten(0, 1))
    for rows_of, right, first in ((users, of_users, user + 3), (items, of_items, pos)):
        (side,) = rows_of.tape
        rows, sums = side.sums()
        assert torch.equal(torch.zeros_like(right).index_copy_(0, rows, sums), right)
        assert len(rows.unique()) == len(rows)
        assert rows[0] == first[0]
        made = torch.zeros_like(right)
        for numbers, gradient in side.gradients():
            made.index_add_(0, numbers.flatten(), gradient.flatten(0, -2))
        assert torch.equal(made, right)


@pytest.mark.parametrize("wrong", ["user", "pos", "neg"])
@pytest.mark.parametrize("row", [-1, 9, 2**40])
def test_a_row_that_is_not_there_is_refused(wrong, row):
    users, items = table(9, 4), table(9, 4)
    numbers = {"user": torch.ones(3).long(), "pos": torch.ones(3).long(), "neg": torch.ones(3, 2).long()}
    numbers[wrong][1] = row
    with pytest.raises(IndexError, match="pair 1 of the batch"):
        score_rows(Rows(users, 0), Rows(items, 0), **numbers)
    assert users.tape == items.tape == []
