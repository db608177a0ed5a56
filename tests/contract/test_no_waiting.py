"""Every model: on an accelerator no training step waits for it, or brings numbers to it.

The meta device stands for the accelerator: its tensors have shapes and no values, so whatever asks for a
value, or for a shape that depends on values, fails there. Tensors made on the host in a step are noticed.
"""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch.optim import optimizer as optimizer_module
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from recsys_zoo.data.store import Prepared, Split
from recsys_zoo.models.base import Model
from recsys_zoo.schema import Schema
from recsys_zoo.tasks.binary import BinaryTask
from recsys_zoo.train.config import TrainConfig
from recsys_zoo.train.optim import Optimizer
from recsys_zoo.train.step import Step
from tests import toys

from .harness import CTR, ROWS, make

META = torch.device("meta")
HOST_DATA = (list, range, bool)


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


class HostValues(TorchFunctionMode):
    """Refuses what brings values from the host without an operation that shows: lists as indices,
    torch.tensor; and masks as indices, whose result has as many rows as they say."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (torch.tensor, torch.as_tensor):
            raise RuntimeError(f"{func.__name__} in a step")
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
            for index in args[1] if isinstance(args[1], tuple) else (args[1],):
                masks = isinstance(index, torch.Tensor) and index.dtype == torch.bool
                if masks or isinstance(index, HOST_DATA):
                    raise RuntimeError(f"{index!r} as an index in a step")
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def _torch_takes_meta(monkeypatch):
    monkeypatch.setattr(optimizer_module, "_get_fused_kernels_supported_devices", lambda: ["meta"])
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())


def split_of(schema: Schema) -> Split:
    """Planted rows on the device."""
    x, labels = toys.planted(schema, ROWS)
    ids = torch.cat([x.ids, *x.bags.values()], 1)
    return Split(schema, ids.numpy(), x.numeric.numpy(), labels.numpy()).on(META)


@pytest.fixture(scope="module")
def rows() -> Split:
    return split_of(toys.MIXED)


def check_step(model: Model, rows: Split, mode: str) -> None:
    """A training step of a model that touches nothing on the host."""
    cfg = TrainConfig(table_update=mode, table_l2=0.1, net_l2=0.1)
    step = Step(model.train().to(META), BinaryTask(Prepared.in_memory(model.schema, {}, "toy")))
    optimizer = Optimizer(model, cfg, cfg.lr)
    order = torch.arange(ROWS, device=META)
    with HostTensors() as host, HostValues():
        optimizer.begin()
        step(rows.batch(order)).total.backward()
        optimizer.step()
    assert not host.seen
    optimizer.release()


@pytest.mark.parametrize("mode", ["exact", "rows"])
@pytest.mark.parametrize("name", CTR)
def test_no_step_needs_the_host(name, mode, rows):
    model = make(name)
    if model.whole_table:
        pytest.skip("reads whole tables, so it trains with autograd only")
    check_step(model, rows, mode)


def test_what_needs_the_host_is_noticed(rows):
    with HostTensors() as host:
        rows.batch(torch.arange(3, device=META)).labels * torch.ones(3).to(META)
    assert host.seen
    labels = rows.batch(slice(3)).labels
    with pytest.raises(RuntimeError):
        float(labels.sum())
    for wrong in (lambda: labels[[0, 1]], lambda: labels[labels > 0], lambda: torch.tensor([1], device=META)):
        with pytest.raises(RuntimeError, match="in a step"), HostValues():
            wrong()


def test_columns_of_other_widths_need_no_host():
    """Two numeric columns and a bag, each with a width of its own."""
    schema = toys.schema(
        toys.categorical("user", 12), toys.numeric("price"), toys.numeric("age"), toys.bag("tags", 8, 4)
    )
    model = make("wide_deep", schema, embedding={"widths": {"price": 2, "tags": 3}}, hidden=[8])
    check_step(model, split_of(schema), "rows")
