"""Counts above thresholds: kernel and torch against a loop."""

from __future__ import annotations

import pytest
import torch

from recsys_zoo.nn import counting, kernels
from recsys_zoo.nn.counting import count_above

WAYS = [
    pytest.param(True, marks=pytest.mark.skipif(kernels.compiler() is None, reason="no C++ compiler")),
    False,
]


@pytest.fixture(params=WAYS, ids=["kernel", "torch"])
def way(request, monkeypatch) -> None:
    monkeypatch.setattr(counting, "_has_kernel", lambda: request.param)


@pytest.mark.parametrize("items", [1, 15, 16, 17, 100])
@pytest.mark.parametrize("threads", [1, 2])
def test_counts_are_those_of_a_loop(way, items, threads):
    torch.set_num_threads(threads)
    x = torch.randint(0, 6, (40, items)).float()
    x[3, 0] = -torch.inf
    row = torch.sort(torch.randint(0, 40, (90,))).values
    thresholds = torch.cat([torch.randint(-1, 7, (89,)).float(), torch.tensor([-torch.inf])])
    above, equal = count_above(x, row, thresholds)
    assert above.tolist() == [int((x[r] > t).sum()) for r, t in zip(row, thresholds, strict=True)]
    assert equal.tolist() == [int((x[r] == t).sum()) for r, t in zip(row, thresholds, strict=True)]


def test_strided_scores_and_no_thresholds(way):
    x = torch.randn(30, 50).t()
    row = torch.arange(50)
    above, _ = count_above(x, row, x[:, 7])
    assert above.tolist() == (x > x[:, 7:8]).sum(1).tolist()
    nothing = torch.zeros(0, dtype=torch.int64)
    assert [len(t) for t in count_above(x, nothing, torch.zeros(0))] == [0, 0]


def test_double_precision_is_counted_by_torch():
    x = torch.tensor([[1.0, 1 + 1e-12, 2.0]], dtype=torch.float64)
    above, equal = count_above(x, torch.tensor([0]), x[0, :1])
    assert (above.tolist(), equal.tolist()) == ([2], [1])
