"""Scores of pairs: inner products of users with one positive and some negative items each."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import kernels

_PRODUCT, _DISTANCE, _COSINE = range(3)  # kinds of scores in native/chosen_rows.cpp
_SHORTEST = 1e-12  # length by which a row is divided, as in F.normalize


def pair_scores(user: Tensor, pos: Tensor, neg: Tensor) -> tuple[Tensor, Tensor]:
    """user, pos [B, D], neg [B, N, D] -> <user, pos> [B], <user, neg> [B, N].

    By a kernel where these are on, which makes all gradients in one pass; equal to rounding, and without
    second derivatives.
    """
    alike = all(kernels.takes(x) for x in (user, pos, neg))
    if alike and not watched() and kernels.built("pair_scores"):
        return _PairScores.apply(user, pos, neg)
    return (user * pos).sum(1), torch.einsum("bd,bnd->bn", user, neg)


class _PairScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, user: Tensor, pos: Tensor, neg: Tensor) -> tuple[Tensor, Tensor]:
        given = tuple(x.contiguous() for x in (user, pos, neg))
        ctx.save_for_backward(*given)
        good, bad = user.new_empty(len(user)), user.new_empty(neg.shape[:2])
        run("pair_scores", "pair_scores", len(neg), (*given, good, bad), *neg.shape[1:], least=_least(neg))
        return good, bad

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, good: Tensor, bad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = tuple(torch.empty_like(x) for x in ctx.saved_tensors)
        neg, given = ctx.saved_tensors[2], (*ctx.saved_tensors, good.contiguous(), bad.contiguous())
        run("pair_scores", "pair_gradients", len(neg), (*given, *found), *neg.shape[1:], least=_least(neg))
        return found


def _least(neg: Tensor) -> int:
    """Rows of pairs that are worth a thread."""
    return kernels.rows_a_thread((neg.shape[1] + 2) * neg.shape[2])


def run(
    kernel: str, name: str, rows: int, tensors: tuple[Tensor | None, ...], *sizes: int, least: int = 128
) -> None:
    """A function of a kernel over rows of its result."""
    given = [ctypes.c_void_p(t if t is None else t.data_ptr()) for t in tensors]
    given += [ctypes.c_int64(n) for n in sizes]
    function = getattr(kernels.library(kernel), name)
    kernels.over_rows(rows, lambda a, b: function(*given, ctypes.c_int64(a), ctypes.c_int64(b)), least)


def chosen_products(users: Tensor, table: Tensor, items: Tensor, cosine: bool = False) -> Tensor:
    """users [B, D], table [I, D], items [B, N] -> <user, row> of each user's items, [B, N].

    cosine: of the rows divided by their lengths. By a kernel where these are on, which passes over gradients
    that are 0, as with a margin that most negatives keep, and has no second derivatives; else by the product
    with the whole table, of B x I numbers.
    """
    if takes_rows(users):
        kind = _COSINE if cosine else _PRODUCT
        return _ChosenRows.apply(users.contiguous(), table.contiguous(), items.contiguous(), kind)
    return (users @ (F.normalize(table, dim=1) if cosine else table).t()).gather(1, items)


def chosen_distances(users: Tensor, table: Tensor, items: Tensor) -> Tensor:
    """The same of squared distances; without the kernel by way of B x N x D numbers."""
    if takes_rows(users):
        return _ChosenRows.apply(users.contiguous(), table.contiguous(), items.contiguous(), _DISTANCE)
    return (users[:, None] - F.embedding(items, table)).square().sum(2)


def takes_rows(users: Tensor) -> bool:
    """Whether the kernel of chosen rows can be had."""
    return not watched() and kernels.takes(users) and kernels.built("chosen_rows")


def watched() -> bool:
    """Whether torch must see every operation."""
    return torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling()


class _ChosenRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, users: Tensor, table: Tensor, items: Tensor, kind: int) -> Tensor:
        ctx.sizes = (items.shape[1], users.shape[1], kind)
        lengths = torch.linalg.vector_norm(table, dim=1).clamp_(min=_SHORTEST) if kind == _COSINE else None
        inverse = None if lengths is None else lengths.reciprocal_()
        scores = users.new_empty(items.shape)
        run("chosen_rows", "chosen_rows", len(users), (users, table, inverse, items, scores), *ctx.sizes)
        ctx.save_for_backward(users, table, inverse, items, scores)
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        users, table = ctx.saved_tensors[:2]
        given, rows = (*ctx.saved_tensors, grad.contiguous()), len(users)
        to_users, to_table = torch.zeros_like(users), torch.zeros_like(table)
        run("chosen_rows", "gradients_of_users", rows, (*given, to_users), *ctx.sizes)
        run("chosen_rows", "gradients_of_table", len(table), (*given, to_table), rows, *ctx.sizes)
        return to_users, to_table, None, None
