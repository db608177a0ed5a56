"""Facts of the process that go into rows."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from recsys_zoo import machine

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


@pytest.mark.parametrize(("file", "limit"), [
    ("memory.max", "1048576"), ("memory.max", "max"),
    ("memory/memory.limit_in_bytes", "1048576"), ("memory/memory.limit_in_bytes", str(2**63 - 4096)),
])
def test_memory_is_that_of_the_machine_or_less_where_its_group_has_less(tmp_path, monkeypatch, file, limit):
    monkeypatch.setattr(machine, "_GROUPS", tmp_path)
    whole = machine.memory_bytes()
    assert whole == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(limit + "\n")
    assert machine.memory_bytes() == (2**20 if limit == "1048576" else whole)


@pytest.mark.parametrize(("program", "typed"), [
    ("/venv/bin/recsys-zoo", "recsys-zoo show 'a run'"),
    ("/venv/lib/recsys_zoo/__main__.py", "python -m recsys_zoo show 'a run'"),
])
def test_the_recorded_command_can_be_typed_again(program, typed, monkeypatch):
    monkeypatch.setattr(sys, "argv", [program, "show", "a run"])
    assert machine.run_command() == typed


def test_the_package_is_a_command():
    command = [sys.executable, "-m", "recsys_zoo", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "python -m recsys_zoo" in shown.stdout
    assert "recommend" in shown.stdout
