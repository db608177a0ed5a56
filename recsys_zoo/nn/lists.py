"""Lists of rows of a matrix, one behind the other: their sums and their products with a vector each.

Without a kernel torch does it, and sorts the rows for every gradient. With one there are no second
derivatives. ValueError for sizes that are not those of the lists.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from .sparse import by_kernel, run

_Grad = Tensor | None


def distinct(numbers: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The different ones of some numbers below `count`, ascending [n], and their places there [count]: that
    of number i at i, which says nothing for one that is not among them."""
    there = torch.zeros(count, dtype=torch.bool, device=numbers.device)
    there[numbers] = True
    return there.nonzero().squeeze(1), there.cumsum(0) - 1


def sums_of_lists(vectors: Tensor, item: Tensor, sizes: Tensor, weight: Tensor | None = None) -> Tensor:
    """Sums [U, D] of rows of vectors [n, D]: `item` [m] lists them, list after list, sizes [U] of them each.

    weight [m]: what each is multiplied by; None: 1.
    """
    if by_kernel(vectors) and (weight is None or by_kernel(weight)):
        weight = vectors.new_ones(len(item)) if weight is None else weight
        return _Sums.apply(vectors, item.long(), _begins(sizes, item, weight), weight)
    return F.embedding_bag(item, vectors, sizes.cumsum(0) - sizes, mode="sum", per_sample_weights=weight)


def products_of_lists(own: Tensor, vectors: Tensor, item: Tensor, sizes: Tensor) -> Tensor:
    """<own, row> [m] of own [U, D], one of each list, with the rows of its list, which are as above."""
    if by_kernel(own) and by_kernel(vectors):
        return _Products.apply(own, vectors, item.long(), _begins(sizes, item, own))
    return (own.repeat_interleave(sizes, 0) * vectors[item]).sum(1)


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors: Tensor, item: Tensor, begins: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(vectors, item, begins, weight)
        return _sums(begins, item, weight, vectors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[_Grad, ...]:
        vectors, item, begins, weight = ctx.saved_tensors
        to_vectors, _, _, to_weight = ctx.needs_input_grad
        return (_sums_by_row(begins, item, weight, grad, len(vectors)) if to_vectors else None, None, None,
                _products(begins, item, grad, vectors) if to_weight else None)


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, vectors: Tensor, item: Tensor, begins: Tensor) -> Tensor:
        ctx.save_for_backward(own, vectors, item, begins)
        return _products(begins, item, own, vectors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[_Grad, ...]:
        own, vectors, item, begins = ctx.saved_tensors
        to_own, to_vectors, _, _ = ctx.needs_input_grad
        return (_sums(begins, item, grad, vectors) if to_own else None,
                _sums_by_row(begins, item, grad, own, len(vectors)) if to_vectors else None, None, None)


def _begins(sizes: Tensor, item: Tensor, other: Tensor) -> Tensor:
    """Where the lists begin, and where the last one ends [U + 1]; other: one for each entry or list."""
    begins = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)]).long()
    lists = len(sizes) if other.ndim > 1 else len(item)
    if int(begins[-1]) != len(item) or len(other) != lists:
        raise ValueError(f"lists of {int(begins[-1])} entries: {len(item)} numbers of rows, and {len(other)} "
                         f"beside them instead of {lists}")
    return begins


def _sums(begins: Tensor, item: Tensor, weight: Tensor, vectors: Tensor) -> Tensor:
    """Of the weighted rows of each list, [U, D]."""
    lists, width = len(begins) - 1, vectors.shape[1]
    tensors = (begins, item, weight, vectors, vectors.new_empty(lists, width))
    return run("sparse_product", tensors, (width,), lists, until=begins)


def _sums_by_row(begins: Tensor, item: Tensor, weight: Tensor, own: Tensor, rows: int) -> Tensor:
    """Of the weighted vectors own [U, D] of the lists that a row is in, [rows, D]."""
    lists, width = own.shape
    tensors = (begins, item, weight, torch.arange(lists, device=own.device), own, own.new_zeros(rows, width))
    return run("sparse_product_from", tensors, (lists, width), width, least=16)


def _products(begins: Tensor, item: Tensor, own: Tensor, vectors: Tensor) -> Tensor:
    lists, width = own.shape
    tensors = (begins, item, own, vectors, own.new_empty(len(item)))
    return run("list_products", tensors, (width,), lists, until=begins)
