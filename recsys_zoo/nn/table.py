"""One table of embedding rows, read by ordinary autograd or through a tape that the optimiser joins."""

from __future__ import annotations

import ctypes
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import kernels, pages


def take_rows(table: Tensor, rows: Tensor) -> Tensor:
    """Rows [..., D] of a table [R, D] by their numbers [...], without a gradient; by a kernel where it is on.

    Any type whose rows are whole float32 numbers long: they are copied as they are. IndexError, on a CPU, for
    a row that is not there.
    """
    table = table.detach()
    if not (kernels.enabled and table.device.type == "cpu" and table.is_contiguous()):
        return F.embedding(rows, table)
    bits = table.view(torch.float32)
    if not (kernels.takes(bits) and kernels.built("table_rows")):
        return F.embedding(rows, table)
    rows, missing = rows.long().contiguous(), torch.full((1,), -1, dtype=torch.int64, device="cpu")
    taken = bits.new_empty(*rows.shape, bits.shape[1])
    given = [ctypes.c_void_p(t.data_ptr()) for t in (bits, rows, taken, missing)]
    given += [ctypes.c_int64(size) for size in bits.shape]
    function = kernels.library("table_rows").take_rows
    kernels.over_rows(
        rows.numel(),
        lambda a, b: function(*given, ctypes.c_int64(a), ctypes.c_int64(b)),
        kernels.rows_a_thread(bits.shape[1]),
    )
    if int(missing) >= 0:
        raise IndexError(f"row {int(rows.flatten()[missing])} of a table of {len(table)} rows")
    return taken.view(table.dtype)


class Taped(Protocol):
    """What a tape holds of one read of a table."""

    def gradients(self) -> list[tuple[Tensor, Tensor]]:
        """Row numbers [...] with the gradients of their vectors [..., D], after the backward pass."""


class Lookup(NamedTuple):
    """A read whose vectors [..., D] of the row numbers [...] are a leaf of autograd."""

    rows: Tensor
    leaf: Tensor

    def gradients(self) -> list[tuple[Tensor, Tensor]]:
        """Those of the leaf; none where it has had no part in the loss."""
        return [] if self.leaf.grad is None else [(self.rows, self.leaf.grad)]


def record(table: Table, rows: Tensor) -> Tensor:
    """A lookup whose vectors are a leaf of autograd, remembered on the table's tape."""
    leaf = take_rows(table.weight, rows).requires_grad_()
    table.tape.append(Lookup(rows, leaf))
    return leaf


class Table(nn.Module):
    """weight [R, D]; row 0 is padding: zero, never counted, never trained.

    `taped` is switched by training (train/tables.py): the weight then needs no gradient, each training
    lookup is remembered, and the optimiser updates from the gradients of their leaves.
    """

    def __init__(self, rows: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(pages.zeros(rows, dim))
        self.taped = False
        self.tape: list[Taped] = []
        self.lookup = record  # training hides it from torch.compile

    @property
    def recording(self) -> bool:
        """Whether reads go by way of the tape."""
        return self.taped and self.training and torch.is_grad_enabled()

    def forward(self, rows: Tensor) -> Tensor:
        """Vectors [..., D] of the row numbers [...]."""
        if self.recording:
            return self.lookup(self, rows)
        return F.embedding(rows, self.weight, padding_idx=0)

    def whole(self) -> Tensor:
        """The weight, for reads of the whole table; raises while taped, where its gradient would be lost."""
        if self.recording:
            raise ValueError("a whole-table read would train half its gradient; use table_update='autograd'")
        return self.weight

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]} rows, {self.weight.shape[1]} wide"
