"""Every model: on an accelerator no training step waits for it, or brings numbers to it.

The meta device stands for the accelerator: its tensors have shapes and no values, so whatever asks for a
value, or for a shape that depends on values, fails there. Tensors made on the host in a step are noticed.
"""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch.optim import optimizer as optimizer_module
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from recsys_zoo.data.store import Prepared, Split
from recsys_zoo.tasks.binary import BinaryTask
from recsys_zoo.train.config import TrainConfig
from recsys_zoo.train.optim import Optimizer
from recsys_zoo.train.step import Step
from tests import toys

from .harness import CTR, ROWS, make

META = torch.device("meta")


class HostTensors(TorchDispatchMode):
    """Remembers operations that touch a tensor on the host (numbers without dimensions are free)."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        # Adam in one kernel works in place, and torch has no description of it for the meta device
        out = None if "_fused_adam_" in str(func) else func(*args, **(kwargs or {}))
        tensors = [t for t in pytree.tree_leaves((args, kwargs, out)) if isinstance(t, torch.Tensor)]
        if any(t.device != META and t.ndim for t in tensors):
            self.seen.append(str(func))
        return out


@pytest.fixture(autouse=True)
def _torch_takes_meta(monkeypatch):
    monkeypatch.setattr(optimizer_module, "_get_fused_kernels_supported_devices", lambda: ["meta"])
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())


@pytest.fixture(scope="module")
def rows() -> Split:
    """A split on the device, and the numbers of its rows there."""
    x, labels = toys.planted(toys.MIXED, ROWS)
    ids = torch.cat([x.ids, *x.bags.values()], 1)
    return Split(toys.MIXED, ids.numpy(), x.numeric.numpy(), labels.numpy()).on(META)


@pytest.mark.parametrize("mode", ["exact", "rows"])
@pytest.mark.parametrize("name", CTR)
def test_no_step_needs_the_host(name, mode, rows):
    model = make(name)
    if model.whole_table:
        pytest.skip("reads whole tables, so it trains with autograd only")
    cfg = TrainConfig(table_update=mode, table_l2=0.1, net_l2=0.1)
    step = Step(model.train().to(META), BinaryTask(Prepared.in_memory(toys.MIXED, {}, "toy")))
    optimizer = Optimizer(model, cfg, cfg.lr)
    order = torch.arange(ROWS, device=META)
    with HostTensors() as host:
        optimizer.begin()
        step(rows.batch(order)).total.backward()
        optimizer.step()
    assert not host.seen
    optimizer.release()


def test_what_needs_the_host_is_noticed(rows):
    with HostTensors() as host:
        rows.batch(torch.arange(3, device=META)).labels * torch.ones(3).to(META)
    assert host.seen
    with pytest.raises(RuntimeError):
        float(rows.batch(slice(3)).labels.sum())
