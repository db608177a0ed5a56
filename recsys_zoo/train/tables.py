"""Adam on taped tables: what `table_update` "exact" and "rows" do after the backward pass.

A taped table (nn/table.py) has left (row numbers, leaf) pairs. The pairs of all lookups are joined,
duplicates are
summed, and either only those rows move ("rows") or the whole table moves as dense Adam with a whole-table
L2 would move it ("exact"), without a dense gradient ever existing.
"""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from ..nn import kernels
from ..nn.table import Table, record

BETAS, EPS = (0.9, 0.999), 1e-8
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


class TableAdam:
    """Adam for one taped table. The step count is the optimiser's, so bias correction is that of dense
    Adam."""

    def __init__(self, table: Table, l2: float, whole: bool) -> None:
        self.table, self.l2, self.whole = table, l2, whole
        weight = table.weight
        self.mean = torch.zeros_like(weight, requires_grad=False)
        self.square = torch.zeros_like(weight, requires_grad=False)
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
            return touched.grad.square().sum()
        norm = touched.grad.square().sum()
        if old is not None:
            # |g + l2 W|^2 = l2^2 |W|^2 + |g|^2 + 2 l2 g.W, and g is zero off the touched rows
            norm = norm + l2 * l2 * weight.square().sum() + 2 * l2 * (touched.grad * old).sum()
            touched.grad.add_(old, alpha=l2)
        return norm

    @torch.no_grad()
    def step(self, lr: float | Tensor, count: Tensor, factor: Tensor) -> None:
        """One Adam step; `count` is the number of this step, `factor` the clipping factor."""
        touched, weight = self.touched, self.table.weight
        assert touched is not None, "collect() comes before step()"
        rows = touched.rows
        if not self.whole and _has_kernel(weight):
            _adam_by_kernel(self, touched, lr, float(count), float(factor))
            self.touched = None
            return
        new = [weight[rows], self.mean[rows], self.square[rows]]
        _adam(new[0], touched.grad.mul_(factor), new[1], new[2], lr, count)
        if self.whole:
            self._decay(lr, count, factor)
        for target, values in zip((weight, self.mean, self.square), new, strict=True):
            target.index_copy_(0, rows, values)
        self.touched = None

    def _decay(self, lr: float | Tensor, count: Tensor, factor: Tensor) -> None:
        """Move every row as if it had not been looked up: its gradient is the L2 term alone."""
        weight = self.table.weight
        rows = max(1, (_BLOCK if weight.device.type == "cpu" else _BLOCK_GPU) // weight.shape[1])
        scale = factor * self.l2
        for start in range(0, weight.shape[0], rows):
            block = slice(start, start + rows)
            _adam(weight[block], weight[block] * scale, self.mean[block], self.square[block], lr, count)

    def release(self) -> None:
        """Give the table back to autograd."""
        self.table.tape.clear()
        self.table.taped = False
        self.table.lookup = record
        self.table.weight.requires_grad_(True)


def _adam(
    weight: Tensor, grad: Tensor, mean: Tensor, square: Tensor, lr: float | Tensor, count: Tensor
) -> None:
    # The kernel of torch.optim.Adam(fused=True), so table rows and dense weights follow the same arithmetic.
    torch._fused_adam_(
        [weight],
        [grad],
        [mean],
        [square],
        [],
        [count],
        lr=lr,
        beta1=BETAS[0],
        beta2=BETAS[1],
        weight_decay=0.0,
        eps=EPS,
        amsgrad=False,
        maximize=False,
    )


def check_empty(tables: list[TableAdam]) -> None:
    """A tape that still holds lookups before a step belongs to a forward pass nobody trained: refuse it."""
    for adam in tables:
        if adam.table.tape:
            raise RuntimeError(
                f"{len(adam.table.tape)} training lookups were never followed by an optimiser step; "
                "score under torch.no_grad() or model.eval()"
            )


def join(table: Table) -> Touched:
    """All lookups since the last step as distinct rows with summed gradients; empties the tape."""
    tape = [(rows, leaf.grad) for rows, leaf in table.tape if leaf.grad is not None]
    table.tape.clear()
    weight = table.weight
    if tape:
        rows = torch.cat([r.reshape(-1) for r, _ in tape])
        grad = torch.cat([g.reshape(-1, weight.shape[1]) for _, g in tape])
    else:
        rows, grad = (
            torch.zeros(0, dtype=torch.int64, device=weight.device),
            weight.new_zeros(0, weight.shape[1]),
        )
    if dist.is_initialized() and dist.get_world_size() > 1:
        rows, grad = _gather(rows, grad)
    if _has_kernel(grad):
        return sum_by_kernel(rows, grad)
    if rows.device.type == "cpu":
        return sum_duplicates(rows, grad, weight.shape[0])
    return sum_duplicates_in_slots(rows, grad)


def _has_kernel(x: Tensor) -> bool:
    return kernels.takes(x) and kernels.built("table_rows")


def sum_by_kernel(rows: Tensor, grad: Tensor) -> Touched:
    """As `sum_duplicates`, without the padding row; rows by hashing, in the order of their first lookups."""
    rows, grad = rows.long().contiguous(), grad.contiguous()
    distinct, sums = torch.empty_like(rows), torch.empty_like(grad)
    sizes = [ctypes.c_int64(size) for size in grad.shape]
    function = kernels.library("table_rows").sum_rows
    function.restype = ctypes.c_int64
    pointers = [ctypes.c_void_p(t.data_ptr()) for t in (rows, grad, distinct, sums)]
    found = function(*pointers[:2], *sizes, *pointers[2:])
    return Touched(distinct[:found], sums[:found])


def _adam_by_kernel(adam: TableAdam, touched: Touched, lr: float, count: float, factor: float) -> None:
    """The arithmetic of `_adam`, on the rows where they are."""
    tensors = (touched.rows, touched.grad, adam.table.weight, adam.mean, adam.square)
    pointers = [ctypes.c_void_p(t.data_ptr()) for t in tensors]
    step, root = lr / (1 - BETAS[0] ** count), math.sqrt(1 - BETAS[1] ** count)
    numbers = [ctypes.c_float(x) for x in (factor, step, root, BETAS[1], 1 - BETAS[0], 1 - BETAS[1], EPS)]
    width, function = ctypes.c_int64(touched.grad.shape[1]), kernels.library("table_rows").adam_rows
    kernels.over_rows(
        len(touched.rows),
        lambda a, b: function(*pointers, width, *numbers, ctypes.c_int64(a), ctypes.c_int64(b)),
    )


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


def _gather(rows: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """The lookups of all ranks; gradients divided by the world size, as DDP averages dense ones."""
    world = dist.get_world_size()
    sizes = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(world)]
    dist.all_gather(sizes, torch.tensor([len(rows)], device=rows.device))
    most = int(torch.stack(sizes).max())
    padded_rows = F.pad(rows, (0, most - len(rows)))
    padded_grad = F.pad(grad, (0, 0, 0, most - len(grad)))
    all_rows = [torch.empty_like(padded_rows) for _ in range(world)]
    all_grad = [torch.empty_like(padded_grad) for _ in range(world)]
    dist.all_gather(all_rows, padded_rows)
    dist.all_gather(all_grad, padded_grad)
    return torch.cat(all_rows), torch.cat(all_grad).div_(world)
