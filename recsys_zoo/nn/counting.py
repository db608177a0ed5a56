"""How many scores of a row are above a threshold, and how many equal it: exact on every device."""

from __future__ import annotations

import ctypes
import functools

import torch
from torch import Tensor

from . import kernels

_ROWS_A_THREAD = 8


def count_above(x: Tensor, row: Tensor, thresholds: Tensor) -> tuple[Tensor, Tensor]:
    """For each threshold, the numbers of its row of x that are larger, and those that are equal: int64 [n].

    x [rows, items] and thresholds [n], of one type; row [n] ascending. On a CPU and in float32 a C++ kernel
    counts where there is a compiler; counts are the same without.
    """
    if x.device.type == "cpu" and x.dtype == torch.float32 and _has_kernel():
        return _by_kernel(x.contiguous(), row, thresholds.contiguous())
    above, equal = torch.empty_like(row), torch.empty_like(row)
    counts = torch.bincount(row, minlength=len(x))
    place = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
    for number in range(int(counts.max()) if len(row) else 0):  # the first of every row, the second ...
        at = (place == number).nonzero().squeeze(1)
        rows, limit = x[row[at]], thresholds[at, None]
        above[at], equal[at] = (rows > limit).sum(1), (rows == limit).sum(1)
    return above, equal


@functools.cache
def _has_kernel() -> bool:
    return not kernels.missing("count_above")


def _by_kernel(x: Tensor, row: Tensor, thresholds: Tensor) -> tuple[Tensor, Tensor]:
    offsets = torch.zeros(len(x) + 1, dtype=torch.int64)
    torch.cumsum(torch.bincount(row, minlength=len(x)), 0, out=offsets[1:])
    above, equal = (torch.empty(len(row), dtype=torch.int32) for _ in range(2))
    tensors = (offsets, thresholds, above, equal)
    pointers = [ctypes.c_void_p(t.data_ptr()) for t in tensors]
    function, items = kernels.library("count_above").count_above, ctypes.c_int64(x.shape[1])
    kernels.over_rows(
        len(x),
        lambda a, b: function(
            ctypes.c_void_p(x.data_ptr()), items, *pointers, ctypes.c_int64(a), ctypes.c_int64(b)
        ),
        least=_ROWS_A_THREAD,
    )
    return above.long(), equal.long()
