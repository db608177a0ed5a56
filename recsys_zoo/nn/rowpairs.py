"""Scores of pairs whose rows are read where they stand, in tables that training moves by their tapes."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from . import kernels
from .pairs import run, watched
from .table import Table


class Rows(NamedTuple):
    """A taped table, and how far the row of a number lies behind it."""

    table: Table
    behind: int


@dataclass(frozen=True)
class RowPairs:
    """Rows of user [B], positive [B] and negatives [B, N], by their numbers in the tables, and leaves of
    autograd: <user, pos> [B], <user, neg> [B, N] and, if asked for, the squared norm of a pair [B]."""

    users: Table
    items: Table
    user: Tensor
    pos: Tensor
    neg: Tensor
    good: Tensor
    bad: Tensor
    squares: Tensor | None

    def read(self) -> tuple[Tensor, ...]:
        """What the kernel reads: the tables and the numbers of their rows."""
        return self.users.weight, self.items.weight, self.user, self.pos, self.neg


class SideOfPairs(NamedTuple):
    """What the tape of one of the two tables holds of pairs (as nn/table.py's `Lookup`)."""

    pairs: RowPairs
    side: Literal["users", "items"]

    def gradients(self) -> list[tuple[Tensor, Tensor]]:
        """Row numbers [...] and gradients [..., D] of the lookups, made here: for what the kernel does not
        sum up."""
        pairs = self.pairs
        user, pos, neg = (F.embedding(rows, table.weight.detach()) for rows, table in (
            (pairs.user, pairs.users), (pairs.pos, pairs.items), (pairs.neg, pairs.items)))
        good, bad = pairs.good.grad[:, None], pairs.bad.grad[:, :, None]
        if self.side == "users":
            found = [(pairs.user, user, good * pos + (bad * neg).sum(1))]
        else:
            found = [(pairs.pos, pos, good * user), (pairs.neg, neg, bad * user[:, None])]
        if pairs.squares is not None:
            twice = 2 * pairs.squares.grad
            for _, own, gradient in found:
                gradient += twice.view(-1, *[1] * (own.dim() - 1)) * own
        return [(rows, gradient) for rows, _, gradient in found]

    def sums(self) -> tuple[Tensor, Tensor]:
        """The different rows in the order of their first lookups [n], and the sums of their gradients [n, D],
        by the kernel."""
        pairs = self.pairs
        count, width = pairs.neg.shape[1], pairs.users.weight.shape[1]
        most = len(pairs.user) * (1 if self.side == "users" else 1 + count)
        distinct, sums = torch.empty(most, dtype=torch.int64), torch.empty(most, width)
        leaves = (pairs.good, pairs.bad, pairs.squares)
        scores = [leaf if leaf is None else leaf.grad.contiguous() for leaf in leaves]
        function = getattr(kernels.library("pairs_of_rows"), f"sums_of_{self.side}")
        function.restype = ctypes.c_int64
        tensors = (*pairs.read(), *scores, distinct, sums)
        found = function(*(ctypes.c_void_p(x if x is None else x.data_ptr()) for x in tensors),
                         *(ctypes.c_int64(size) for size in (len(pairs.user), count, width)))
        return distinct[:found], sums[:found]


def takes_pairs(table: Table) -> bool:
    """Whether the kernel can be had for training by such tables."""
    return not watched() and kernels.takes(table.weight) and kernels.built("pairs_of_rows")


def score_rows(
    users: Rows, items: Rows, user: Tensor, pos: Tensor, neg: Tensor, squares: bool = False
) -> RowPairs:
    """Scores of user [B] with pos [B] and neg [B, N], by the kernel; both tapes remember them.

    Numbers are those that `Rows` counts rows from; squares: whether their norms are wanted. IndexError for a
    row that is not there.
    """
    numbers = [(x + rows.behind).contiguous() for x, rows in ((user, users), (pos, items), (neg, items))]
    good, bad = torch.empty(len(user)), torch.empty(neg.shape)
    square = torch.empty(len(user)) if squares else None
    pairs = RowPairs(users.table, items.table, *numbers, good, bad, square)
    missing, (size, width) = torch.full((1,), -1), users.table.weight.shape
    sizes = (size, len(items.table.weight), neg.shape[1], width)
    run("pairs_of_rows", "scores_of_rows", len(user), (*pairs.read(), good, bad, square, missing), *sizes,
        least=kernels.rows_a_thread((neg.shape[1] + 2) * width))
    if int(missing) >= 0:
        raise IndexError(f"pair {int(missing)} of the batch has a row that is not there")
    for leaf in (good, bad, *[square] * squares):
        leaf.requires_grad_()
    users.table.tape.append(SideOfPairs(pairs, "users"))
    items.table.tape.append(SideOfPairs(pairs, "items"))
    return pairs
