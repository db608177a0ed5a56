"""Fixtures of all tests: a known random state, and the folder with real data where there is one."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch starts: test processes share few cores

import numpy as np
import pytest
import torch
from hypothesis import settings

from recsys_zoo.nn import kernels

# the same examples in every run, as with all seeds; no deadline, because processes share the cores
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")


@pytest.fixture(autouse=True)
def known_state() -> Iterator[None]:
    """Seeds and torch's global settings are the same at the start of every test, whatever ran before."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    threads, kernels_enabled = torch.get_num_threads(), kernels.enabled
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_num_threads(threads)
    kernels.enabled = kernels_enabled
    if torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(False)
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="session")
def data_dir() -> Callable[[str], Path]:
    """data_dir("frappe_x1") is the folder RECSYS_ZOO_DATA/frappe_x1.

    Skips when RECSYS_ZOO_DATA is not set; fails when it is set and the folder is missing.
    """

    def folder(name: str) -> Path:
        root = os.environ.get("RECSYS_ZOO_DATA", "")
        if not root:
            pytest.skip("needs real data: RECSYS_ZOO_DATA is not set")
        path = Path(root) / name
        if not path.is_dir():
            pytest.fail(f"RECSYS_ZOO_DATA={root} has no folder {name!r}")
        return path

    return folder
