"""Facts of the process that go into rows."""

from __future__ import annotations

import sys

import pytest
import torch

from recsys_zoo.machine import peak_mib, reset_peak


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux can forget a peak")
def test_the_peak_is_that_since_the_reset():
    block = torch.ones(100 << 18)  # 100 MiB, touched
    high = peak_mib()
    del block
    reset_peak()
    assert peak_mib() < high - 80
    block = torch.ones(50 << 18)
    assert peak_mib() < high - 30
    del block
