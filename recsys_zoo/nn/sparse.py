"""Sparse matrices in buffers, and modules whose buffers are results of a fit."""

from __future__ import annotations

import ctypes
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..itemlists import ItemLists
from . import kernels

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

ENTRIES = 1 << 18  # of a product at once: more would leave the caches, measured


class Fitted(nn.Module):
    """A module whose buffers have the sizes that its data give: loading a state dict takes over its sizes."""

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name, held in list(self.named_buffers(recurse=False)):
            found = state.get(prefix + name)
            if found is not None and found.shape != held.shape:
                setattr(self, name, held.new_empty(found.shape))
        super()._load_from_state_dict(state, prefix, *rest)


class HeldLists(Fitted):
    """Lists of items in buffers, which are stored with the model unless they are only trained with."""

    offsets: Tensor
    items: Tensor

    def __init__(self, users: int, persistent: bool = True) -> None:
        super().__init__()
        self.register_buffer("offsets", torch.zeros(users + 1, dtype=torch.int64), persistent=persistent)
        self.register_buffer("items", torch.zeros(0, dtype=torch.int64), persistent=persistent)

    def hold(self, lists: ItemLists) -> None:
        """Take over other lists."""
        self.offsets, self.items = lists.offsets.to(self.offsets), lists.items.to(self.items)

    @property
    def counts(self) -> Tensor:
        """Number of items of each user, [U]."""
        return self.offsets.diff()

    def of_users(self, users: Tensor) -> tuple[Tensor, Tensor]:
        """Place of the user in `users` [n] and item [n]."""
        return ItemLists(self.offsets, self.items).of_users(users)


class SparseMatrix(Fitted):
    """A float32 matrix [rows, columns] as CSR: row r has values[crow[r] : crow[r + 1]] in those col.

    12 bytes an entry. Empty until it is assigned or loaded.
    """

    crow: Tensor
    col: Tensor
    values: Tensor

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.columns = columns
        self.register_buffer("crow", torch.zeros(1, dtype=torch.int64))
        self.register_buffer("col", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("values", torch.zeros(0))

    def assign(self, matrix: csr_matrix) -> None:
        """Take over a SciPy matrix, its columns in ascending order, to the device of the buffers."""
        matrix.sort_indices()
        device = self.values.device
        self.crow = torch.as_tensor(matrix.indptr).to(device, torch.int64)
        self.col = torch.as_tensor(matrix.indices).to(device, torch.int64)
        self.values = torch.as_tensor(matrix.data).to(device, torch.float32)

    def tensor(self) -> Tensor:
        """The same as a torch tensor in CSR, sharing the memory."""
        shape = (len(self.crow) - 1, self.columns)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
            return torch.sparse_csr_tensor(self.crow, self.col, self.values, shape, check_invariants=False)

    @torch.no_grad()
    def product(self, x: Tensor) -> Tensor:
        """The matrix times x [columns, D]; by a kernel where these are on, as the other two."""
        if not by_kernel(x):
            return self.tensor() @ x
        out = x.new_empty(len(self.crow) - 1, x.shape[1])
        tensors = (self.crow, self.col, self.values, x, out)
        return run("sparse_product", tensors, (x.shape[1],), len(out), until=self.crow)

    @torch.no_grad()
    def product_of(self, rows: Tensor, x: Tensor) -> Tensor:
        """Some rows of that product: [n, D]."""
        if not by_kernel(x):
            place, col, values = self.rows(rows)
            crow = torch.bincount(place, minlength=len(rows)).cumsum(0)
            part = SparseMatrix(self.columns)
            part.crow, part.col, part.values = torch.cat([crow.new_zeros(1), crow]), col, values
            return part.tensor() @ x
        out = x.new_empty(len(rows), x.shape[1])
        tensors = (self.crow, self.col, self.values, rows, x, out)
        until = torch.cat([rows.new_zeros(1), self.crow.diff()[rows].cumsum(0)])
        return run("sparse_product_of", tensors, (x.shape[1],), len(rows), until=until)

    @torch.no_grad()
    def symmetric_product_from(self, rows: Tensor, x: Tensor) -> Tensor:
        """The matrix, equal to its transpose, times one that is x [n, D] in these different rows, else 0."""
        out = x.new_zeros(self.columns, x.shape[1])
        if not by_kernel(x):
            return self.tensor() @ out.index_copy_(0, rows, x)
        tensors, width = (self.crow, self.col, self.values, rows, x, out), x.shape[1]
        return run("sparse_product_from", tensors, (len(rows), width), width, least=16)

    def rows(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The entries of some rows, row by row: place of the row in `index` [n], column [n], value [n]."""
        counts = self.crow.diff()[index]
        place = torch.repeat_interleave(torch.arange(len(index), device=index.device), counts)
        start = self.crow[index] - (counts.cumsum(0) - counts)
        at = torch.arange(len(place), device=index.device) + start[place]
        return place, self.col[at], self.values[at]

    def lists(self, index: Tensor) -> ItemLists:
        """The columns of some rows, as lists."""
        return ItemLists(self.crow, self.col).rows(index)

    def weighted_rows(self, place: Tensor, row: Tensor, weight: Tensor, count: int) -> Tensor:
        """Sums of rows, dense [count, columns]: result p has weight * row over the entries of place p.

        That is a sparse matrix times this one. Entries are added in their order, some at a time, so memory
        beside the result is bounded, and a sum does not depend on the other places.
        """
        out = self.values.new_zeros(count * self.columns)
        ends = self.crow.diff()[row].cumsum(0)
        total = max(int(ends[-1:].sum()), ENTRIES)
        cuts = torch.searchsorted(ends, torch.arange(ENTRIES, total, ENTRIES, device=ends.device))
        for part in torch.arange(len(row), device=row.device).tensor_split(cuts.cpu()):
            entry, col, value = self.rows(row[part])
            out.index_add_(0, place[part][entry] * self.columns + col, weight[part][entry] * value)
        return out.view(count, self.columns)


def by_kernel(x: Tensor) -> bool:
    """Whether the kernel takes products with these vectors."""
    return kernels.takes(x) and not torch.compiler.is_compiling() and kernels.built("sparse_product")


def run(
    name: str,
    tensors: tuple[Tensor, ...],
    sizes: tuple[int, ...],
    parts: int,
    least: int = 128,
    until: Tensor | None = None,
) -> Tensor:
    """A function of the kernel on tensors, of which the last is written and given back, over `parts` rows or
    columns."""
    held = [*(t.contiguous() for t in tensors[:-1]), tensors[-1]]
    given = [ctypes.c_void_p(t.data_ptr()) for t in held] + [ctypes.c_int64(size) for size in sizes]
    function = getattr(kernels.library("sparse_product"), name)
    kernels.over_rows(
        parts, lambda a, b: function(*given, ctypes.c_int64(a), ctypes.c_int64(b)), least, until
    )
    return tensors[-1]


def scipy_csr(lists: ItemLists, items: int, dtype: str = "float32") -> csr_matrix:
    """R [U, items] with a 1 for each item of a user, as a SciPy matrix on the CPU."""
    import numpy as np
    from scipy.sparse import csr_matrix

    offsets, found = lists.offsets.cpu().numpy(), lists.items.cpu().numpy()
    return csr_matrix((np.ones(len(found), dtype), found, offsets), shape=(len(lists), items))
