"""Facts of the process that go into rows."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import torch
from recsys_zoo.machine import peak_mib, reset_peak
block = torch.ones(100 << 18)  # 100 MiB, touched
high = peak_mib()
del block
reset_peak()
low = peak_mib()
block = torch.ones(50 << 18)
print(high, low, peak_mib())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux can forget a peak")
def test_the_peak_is_that_since_the_reset():
    """In a process of its own: one that has trained keeps freed blocks."""
    found = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True).stdout
    high, low, again = map(float, found.split())
    assert low < high - 80
    assert low + 40 < again < high - 30
