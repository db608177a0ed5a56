"""What tests of kernels share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from recsys_zoo.nn import kernels

WAYS = [
    pytest.param(True, marks=pytest.mark.skipif(kernels.compiler() is None, reason="no C++ compiler")),
    False,
]


@pytest.fixture(params=WAYS, ids=["kernel", "torch"])
def way(request, monkeypatch) -> Iterator[None]:
    """By the kernel and by torch, and that it was so."""
    monkeypatch.setattr(kernels, "enabled", request.param)
    monkeypatch.setattr(kernels, "called", False)
    yield
    assert kernels.called == request.param
