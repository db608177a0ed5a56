"""Two gloo processes end with the weights of one process that saw both halves of every batch."""

from __future__ import annotations

import os

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch.nn.parallel import DistributedDataParallel

from recsys_zoo.train.config import TrainConfig
from recsys_zoo.train.optim import Optimizer

from . import toys

SETTINGS = {"table_l2": 0.05, "clip_norm": 0.3, "lr": 0.01}
STEPS = 8


def _train(mode: str, rank: int, world: int) -> toys.Toy:
    model = toys.toy()
    model.dropout.p = 0.0
    optimizer = Optimizer(model, TrainConfig(table_update=mode, **SETTINGS), SETTINGS["lr"])
    step = DistributedDataParallel(model) if world > 1 else model
    model.train()
    for number in range(STEPS):
        x, y = toys.inputs(64, number)
        part = slice(rank * 64 // world, (rank + 1) * 64 // world)
        optimizer.begin()
        logits = step(x.rows(part.start, part.stop))
        F.binary_cross_entropy_with_logits(logits, y[part]).backward()
        optimizer.step()
    optimizer.release()
    return model


def _worker(rank: int, world: int, store: str, out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    for mode in ("exact", "rows"):
        state = _train(mode, rank, world).state_dict()
        save_file(
            {k: v.contiguous() for k, v in state.items()}, os.path.join(out, f"{mode}-{rank}.safetensors")
        )
    dist.destroy_process_group()
    # without the interpreter's own end, in which torch 2.13 aborts now and then after DDP over gloo (a bare
    # nn.Linear: 1 of 20 times)
    os._exit(0)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(_worker, args=(2, str(folder / "store"), str(folder)), nprocs=2)
    return folder


@pytest.mark.parametrize("mode", ["exact", "rows"])
def test_two_ranks_equal_one_process(ranks, mode):
    one = _train(mode, 0, 1).state_dict()
    first, second = (load_file(ranks / f"{mode}-{rank}.safetensors") for rank in (0, 1))
    for name, tensor in one.items():
        assert torch.equal(first[name], second[name]), name  # replicas must not drift
        # halves are summed in another order; eight steps of 1e-2
        torch.testing.assert_close(first[name], tensor, atol=2e-6, rtol=0)
