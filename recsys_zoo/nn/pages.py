"""Memory of large tables in huge pages: a row read at random then seldom waits for its page's address."""

from __future__ import annotations

import ctypes
import sys

import torch
from torch import Tensor

_PAGE = 1 << 21  # bytes of a huge page of x86-64 and of most kernels for ARM
_MADV_HUGEPAGE = 14  # Linux <asm-generic/mman-common.h>


def zeros(*size: int, device: torch.device | None = None, dtype: torch.dtype | None = None) -> Tensor:
    """As torch.zeros; on a CPU under Linux in huge pages, as far as there are any.

    The kernel is asked before the memory is filled, and may decline, or the memory may be in use since long:
    then pages are as they always are.
    """
    x = torch.empty(*size, device=device, dtype=dtype)
    if x.device.type == "cpu" and x.nbytes >= _PAGE and sys.platform == "linux":
        first = -(-x.data_ptr() // _PAGE) * _PAGE
        whole = (x.data_ptr() + x.nbytes - first) // _PAGE * _PAGE
        if whole > 0:
            ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(whole), _MADV_HUGEPAGE)
    return x.zero_()
