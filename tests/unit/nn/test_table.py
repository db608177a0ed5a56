"""Rows of tables: read by the kernel as torch reads them, and memory in huge pages is as any other."""

from __future__ import annotations

import pytest
import torch

from recsys_zoo.nn import kernels, pages
from recsys_zoo.nn.table import take_rows

needs_compiler = pytest.mark.skipif(bool(kernels.missing("table_rows")), reason="no C++ compiler")


@needs_compiler
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", [torch.float32, torch.int64, torch.float64, torch.int16])
@pytest.mark.parametrize(("width", "shape"), [(2, (0,)), (4, (7,)), (64, (40, 3)), (2, (1,))])
def test_rows_are_those_of_torch(kind, width, shape, threads, monkeypatch):
    torch.set_num_threads(threads)
    g = torch.Generator().manual_seed(1)
    table = torch.randint(-(2**14), 2**14, (30, width), generator=g).to(kind)
    rows = torch.randint(0, 30, shape, generator=g)
    monkeypatch.setattr(kernels, "enabled", True)
    monkeypatch.setattr(kernels, "called", False)
    monkeypatch.setattr(kernels, "_NUMBERS_A_THREAD", 1)
    for numbers in (rows, rows.int()):
        taken = take_rows(table, numbers)
        assert taken.dtype == kind
        assert torch.equal(taken, table[rows])
    assert kernels.called


@needs_compiler
@pytest.mark.parametrize("row", [-1, 30, 2**40])
def test_a_row_that_is_not_there_is_no_memory_of_somebody_else(row, monkeypatch):
    monkeypatch.setattr(kernels, "enabled", True)
    with pytest.raises(IndexError, match=f"row {row} of a table of 30 rows"):
        take_rows(torch.zeros(30, 4), torch.tensor([3, row, 5]))


@needs_compiler
def test_a_part_of_a_table_is_read_by_torch(monkeypatch):
    table = torch.arange(40.0).view(10, 4)
    monkeypatch.setattr(kernels, "enabled", True)
    assert torch.equal(take_rows(table[:, 1:3], torch.tensor([2, 9])), table[[2, 9], 1:3])


@pytest.mark.parametrize("rows", [1, 5000, 70_000])
def test_zeros_are_zeros(rows):
    """Up to 17 MiB; what is written stays where it was written."""
    x = pages.zeros(rows, 64)
    assert (x.shape, x.dtype, int(x.count_nonzero())) == ((rows, 64), torch.float32, 0)
    x.copy_(torch.arange(rows)[:, None])
    assert torch.equal(x[:, 63], torch.arange(rows).float())
