"""Moving taped tables: what `table_update` "exact" and "rows" do after the backward pass.

A taped table (nn/table.py) has left row numbers with leaves of autograd. Those of all lookups are joined,
duplicates are summed, and either only those rows move ("rows") or the whole table moves as a dense optimiser
with a whole-table L2 would move it ("exact"), without a dense gradient ever existing.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..nn import kernels, pages
from ..nn.rowpairs import SideOfPairs
from ..nn.table import Table, record
from ..parallel import gathered, processes

# Numbers a block of the dense pass: on a CPU 1 MiB, so that gradient and rows stay in the cache.
_BLOCK, _BLOCK_GPU = 1 << 18, 1 << 26
_RUN = 64  # lookups of one row that are added one after another, before their sums are


@dataclass
class Touched:
    """Rows of one step and the summed gradients of their vectors: rows [n] distinct, grad [n, D].

    On a GPU n is the number of lookups, whatever they were: places without a row stand for padding, grad 0.
    """

    rows: Tensor
    grad: Tensor


class TableOptimizer:
    """The rule (train/rules.py) for one taped table. The step count is the optimiser's, so bias correction is
    that of dense weights."""

    def __init__(self, table: Table, rule: Any, l2: float, whole: bool) -> None:
        self.table, self.rule, self.l2 = table, rule, l2
        self.whole = whole and (l2 > 0 or not rule.rests)  # else no row moves that was not looked up
        weight = table.weight
        kind = {"device": weight.device, "dtype": weight.dtype}
        self.moments = {name: pages.zeros(*weight.shape, **kind) for name in rule.moments}
        self.touched: Touched | None = None
        weight.requires_grad_(False)
        table.taped = True
        table.lookup = torch.compiler.disable(record)  # here, not in nn: it costs a second of import

    @torch.no_grad()
    def collect(self) -> Tensor:
        """Empty the tape, keep the summed gradients, return the squared norm of g + l2 * W as a 0-d
        tensor."""
        weight, l2 = self.table.weight, self.l2
        self.touched = touched = join(self.table)
        old = weight[touched.rows] if l2 else None
        if not self.whole:
            if old is not None:
                touched.grad.add_(old, alpha=l2)
            return torch.linalg.vector_norm(touched.grad).square()
        norm = touched.grad.square().sum()
        if old is not None:
            # |g + l2 W|^2 = l2^2 |W|^2 + |g|^2 + 2 l2 g.W, and g is zero off the touched rows
            norm = norm + l2 * l2 * weight.square().sum() + 2 * l2 * (touched.grad * old).sum()
            touched.grad.add_(old, alpha=l2)
        return norm

    @torch.no_grad()
    def step(self, lr: float | Tensor, count: Tensor, factor: Tensor) -> None:
        """One step; `count` is its number, `factor` the clipping factor."""
        touched, weight = self.touched, self.table.weight
        assert touched is not None, "collect() comes before step()"
        rows = touched.rows
        if not self.whole and _has_kernel(weight):
            self._move_by_kernel(touched, float(lr), float(count), float(factor))
            self.touched = None
            return
        held = [weight, *self.moments.values()]
        new = [values[rows] for values in held]
        self.rule.move(new[0], touched.grad.mul_(factor), new[1:], lr, count)
        if self.whole:
            self._decay(lr, count, factor)
        for target, values in zip(held, new, strict=True):
            target.index_copy_(0, rows, values)
        self.touched = None

    def _decay(self, lr: float | Tensor, count: Tensor, factor: Tensor) -> None:
        """Move every row as if it had not been looked up: its gradient is the L2 term alone."""
        weight = self.table.weight
        rows = max(1, (_BLOCK if weight.device.type == "cpu" else _BLOCK_GPU) // weight.shape[1])
        scale = factor * self.l2
        for start in range(0, weight.shape[0], rows):
            block = slice(start, start + rows)
            moments = [moment[block] for moment in self.moments.values()]
            self.rule.move(weight[block], weight[block] * scale, moments, lr, count)

    def _move_by_kernel(self, touched: Touched, lr: float, count: float, factor: float) -> None:
        """The arithmetic of the rule, on the rows where they are."""
        tensors = (touched.rows, touched.grad, self.table.weight, *self.moments.values())
        pointers = [ctypes.c_void_p(t.data_ptr()) for t in tensors]
        numbers = [ctypes.c_float(x) for x in (factor, *self.rule.numbers(lr, count))]
        width = ctypes.c_int64(touched.grad.shape[1])
        function = getattr(kernels.library("table_rows"), self.rule.kernel)
        kernels.over_rows(
            len(touched.rows),
            lambda a, b: function(*pointers, width, *numbers, ctypes.c_int64(a), ctypes.c_int64(b)),
            kernels.rows_a_thread((len(tensors) - 1) * touched.grad.shape[1]),
        )

    def release(self) -> None:
        """Give the table back to autograd."""
        self.table.tape.clear()
        self.table.taped = False
        self.table.lookup = record
        self.table.weight.requires_grad_(True)


def check_empty(tables: list[TableOptimizer]) -> None:
    """A tape that still holds lookups before a step belongs to a forward pass nobody trained: refuse it."""
    for one in tables:
        if one.table.tape:
            raise RuntimeError(
                f"{len(one.table.tape)} training lookups were never followed by an optimiser step; "
                "score under torch.no_grad() or model.eval()"
            )


def join(table: Table) -> Touched:
    """All lookups since the last step as distinct rows with summed gradients; empties the tape."""
    reads, weight, world = list(table.tape), table.weight, processes()
    table.tape.clear()
    by_kernel = world == 1 and _has_kernel(weight)
    if by_kernel and len(reads) == 1 and isinstance(reads[0], SideOfPairs):
        return Touched(*reads[0].sums())
    tape = [pair for read in reads for pair in read.gradients()]
    if by_kernel:
        return sum_by_kernel(tape, weight)
    if tape:
        rows = torch.cat([r.reshape(-1) for r, _ in tape])
        grad = torch.cat([g.reshape(-1, weight.shape[1]) for _, g in tape])
    else:
        rows, grad = (
            torch.zeros(0, dtype=torch.int64, device=weight.device),
            weight.new_zeros(0, weight.shape[1]),
        )
    if world > 1:  # gradients are divided, as DDP averages dense ones
        rows, grad = (torch.cat(column) for column in zip(*gathered(rows, grad), strict=True))
        grad = grad.div_(world)
        if _has_kernel(grad):
            return sum_by_kernel([(rows, grad)], weight)
    if rows.device.type == "cpu":
        return sum_duplicates(rows, grad, weight.shape[0])
    return sum_duplicates_in_slots(rows, grad)


def _has_kernel(x: Tensor) -> bool:
    return kernels.takes(x) and kernels.built("table_rows")


def sum_by_kernel(tape: Sequence[tuple[Tensor, Tensor]], weight: Tensor) -> Touched:
    """As `sum_duplicates` of all lookups (rows [...], gradients [..., D]) in a weight [R, D] one after the
    other, without the padding row, and rows in the order of their first lookups."""
    width = weight.shape[1]
    pieces = [(rows.long().contiguous(), grad.contiguous()) for rows, grad in tape]
    counts = [rows.numel() for rows, _ in pieces]
    distinct, sums = (weight.new_empty(sum(counts), dtype=torch.int64), weight.new_empty(sum(counts), width))
    pointers = (ctypes.c_void_p * len(pieces))
    function = kernels.library("table_rows").sum_rows
    function.restype = ctypes.c_int64
    found = function(
        pointers(*(rows.data_ptr() for rows, _ in pieces)),
        pointers(*(grad.data_ptr() for _, grad in pieces)),
        (ctypes.c_int64 * len(pieces))(*counts),
        *(ctypes.c_int64(size) for size in (len(pieces), sum(counts), width)),
        *(ctypes.c_void_p(t.data_ptr()) for t in (distinct, sums)),
    )
    return Touched(distinct[:found], sums[:found])


def sum_duplicates(rows: Tensor, grad: Tensor, size: int) -> Touched:
    """Distinct rows with the sum of their gradients; the padding row's gradient is zero.

    Sort and segment sum: 3 to 10 times faster on a CPU than index_add_, and the order of additions is fixed.
    """
    if not len(rows):
        return Touched(rows, grad)
    keys = rows.int() if size < 2**31 else rows
    ordered, places = torch.sort(keys, stable=True)
    distinct, counts = torch.unique_consecutive(ordered, return_counts=True)
    starts = torch.cumsum(counts, 0) - counts
    summed = F.embedding_bag(places, grad, starts, mode="sum")
    return Touched(distinct.long(), summed.mul_((distinct != 0).unsqueeze(1)))


def sum_duplicates_in_slots(rows: Tensor, grad: Tensor) -> Touched:
    """The same with as many rows as lookups: no shape depends on the data, so nobody waits for a GPU.

    Sorted, the lookups of a row are a segment. Its sum is taken in two stages, since one thread adds a
    segment up and common rows have thousands: first over runs of at most 64 lookups, then over the runs of a
    row. The order of additions is fixed (atomic ones would differ from run to run and between replicas).
    """
    count = len(rows)
    if not count:
        return Touched(rows.long(), grad)
    ordered, places = torch.sort(rows.long(), stable=True)
    numbers = torch.arange(count + 1, device=rows.device)
    begins = torch.ones_like(ordered, dtype=torch.bool)
    begins[1:] = ordered[1:] != ordered[:-1]
    slot = begins.cumsum(0) - 1
    run = (begins | (numbers[:-1] % _RUN == 0)).cumsum(0) - 1
    first_of_run = torch.searchsorted(run, numbers)  # `count` from the last run on
    sums = F.embedding_bag(places, grad, first_of_run, mode="sum", include_last_offset=True)
    taken = first_of_run[:-1] < count
    # A run that is none goes to a slot of its own: on a GPU the last bag takes all that is left.
    slot_of_run = torch.where(taken, slot[first_of_run[:-1].clamp(max=count - 1)], numbers[:-1])
    runs = torch.searchsorted(slot_of_run, numbers)
    summed = F.embedding_bag(numbers[:-1], sums, runs, mode="sum", include_last_offset=True)
    first = torch.searchsorted(slot, numbers[:-1])
    distinct = torch.where(first < count, ordered[first.clamp(max=count - 1)], 0)
    return Touched(distinct, summed.mul_((distinct != 0).unsqueeze(1)))
