"""Scores of pairs: inner products of users with one positive and some negative items each."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from . import kernels


def pair_scores(user: Tensor, pos: Tensor, neg: Tensor) -> tuple[Tensor, Tensor]:
    """user, pos [B, D], neg [B, N, D] -> <user, pos> [B], <user, neg> [B, N].

    By a kernel where these are on, which makes all gradients in one pass; equal to rounding, and without
    second derivatives.
    """
    alike = all(kernels.takes(x) for x in (user, pos, neg))
    plain = torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling()
    if alike and not plain and kernels.built("pair_scores"):
        return _PairScores.apply(user, pos, neg)
    return (user * pos).sum(1), torch.einsum("bd,bnd->bn", user, neg)


class _PairScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, user: Tensor, pos: Tensor, neg: Tensor) -> tuple[Tensor, Tensor]:
        given = tuple(x.contiguous() for x in (user, pos, neg))
        ctx.save_for_backward(*given)
        good, bad = user.new_empty(len(user)), user.new_empty(neg.shape[:2])
        _run("pair_scores", (*given, good, bad))
        return good, bad

    @staticmethod
    def backward(ctx: Any, good: Tensor, bad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = tuple(torch.empty_like(x) for x in ctx.saved_tensors)
        _run("pair_gradients", (*ctx.saved_tensors, good.contiguous(), bad.contiguous(), *found))
        return found


def _run(name: str, tensors: tuple[Tensor, ...]) -> None:
    """A function of the kernel over rows; the first tensors are user, pos and neg."""
    rows, count, width = tensors[2].shape
    given = [ctypes.c_void_p(t.data_ptr()) for t in tensors] + [ctypes.c_int64(n) for n in (count, width)]
    function = getattr(kernels.library("pair_scores"), name)
    kernels.over_rows(rows, lambda a, b: function(*given, ctypes.c_int64(a), ctypes.c_int64(b)))
