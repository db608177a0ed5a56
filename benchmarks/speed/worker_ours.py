"""One contender of ctr.py: this package, driven over standard input and output."""

from __future__ import annotations

import time
from typing import Any

import torch
from shapes import Data, generate
from torch.utils.flop_counter import FlopCounterMode
from worker import serve

from recsys_zoo import create
from recsys_zoo.data.store import Prepared, Split
from recsys_zoo.nn import kernels
from recsys_zoo.schema import Column, Schema
from recsys_zoo.tasks.binary import BinaryTask
from recsys_zoo.train import backend
from recsys_zoo.train.config import TrainConfig
from recsys_zoo.train.optim import Optimizer
from recsys_zoo.train.step import Step

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "LR": ("lr", {}),
    "FM": ("fm", {}),
    "DNN": ("dnn", {"hidden": [400, 400, 400]}),
    "DeepFM": ("deepfm", {"hidden": [400, 400, 400]}),
    "DCNv2": ("dcnv2", {"hidden": [400, 400, 400], "layers": 3}),
    "AutoInt": ("autoint.fuxi", {"layers": 3, "heads": 2, "attention_dim": 64}),
}


def prepared(data: Data, held_out: str = "test") -> Prepared:
    """The arrays as a data set with one column a field; row 1 of a vocabulary is the value with id 1."""
    columns = [
        Column(name=f"c{i}", kind="categorical", vocab_size=size + 1) for i, size in enumerate(data.sizes)
    ]
    schema = Schema(dataset="speed", labels=("click",), columns=tuple(columns))
    splits = {
        "train": Split(schema, data.ids, None, data.labels),
        held_out: Split(schema, data.test_ids, None, data.test_labels),
    }
    return Prepared.in_memory(schema, splits, digest="speed")


def flops(step: Step, train: Split, batch: int) -> int:
    """Operations of the products of one step, forward and backward, counted without our kernels."""
    held, kernels.enabled = kernels.enabled, False
    rows = min(batch, 1024)  # they grow with the rows
    with FlopCounterMode(display=False) as counter:
        step(train.batch(slice(0, rows))).total.backward()
    kernels.enabled = held
    for parameter in step.parameters():
        parameter.grad = None
    return counter.get_total_flops() * batch // rows


def peak_flops() -> float:
    """Operations a second of a large fp32 product with the threads at hand: the best of some."""
    size = 1024
    a, b, seconds = torch.randn(size, size), torch.randn(size, size), []
    for _ in range(8):
        since = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - since)
    return 2 * size**3 / min(seconds)


class Ours:
    """Trains as the Trainer does: same step, optimiser and backend settings."""

    def __init__(self, shape: str, model: str, batch: int, settings: dict[str, Any], seed: int = 1) -> None:
        data = prepared(generate(shape))
        cfg = TrainConfig(batch_size=batch, device="cpu", **settings)
        backend.apply(cfg)
        name, options = MODELS[model]
        network = create(name, data.schema, seed=seed, embedding={"dim": 16}, **options)
        self.task = BinaryTask(data)
        self.model, self.cfg = network.train(), cfg
        step = Step(network, self.task, cfg.precision)
        self.facts = {"flops": flops(step, data.split("train"), batch), "peak_flops": peak_flops()}
        self.step = torch.compile(step) if cfg.compile else step
        self.optimizer = Optimizer(network, cfg, cfg.lr)
        self.train, self.test, self.at = data.split("train"), data.split("test"), 0
        self.order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(seed)).numpy()

    def steps(self, count: int) -> dict[str, float]:
        spent = {"loading": 0.0, "forward_backward": 0.0, "optimiser": 0.0}
        size = self.cfg.batch_size
        for _ in range(count):
            since = time.perf_counter()
            first = self.at * size % (len(self.order) - size + 1)
            batch = self.train.batch(self.order[first : first + size])
            loaded = time.perf_counter()
            self.optimizer.begin()
            micro = self.cfg.micro_batch or size
            for start in range(0, size, micro):
                part = batch if micro >= size else batch.rows(start, start + micro)
                (self.step(part).total * (len(part) / size)).backward()
            passed = time.perf_counter()
            self.optimizer.step()
            spent["loading"] += loaded - since
            spent["forward_backward"] += passed - loaded
            spent["optimiser"] += time.perf_counter() - passed
            self.at += 1
        return spent

    def scores(self) -> tuple[Any, Any]:
        scores = self.task.scores(self.model, self.test, 16384, self.cfg.precision)
        return scores.numpy(), self.test.labels[:, 0]


if __name__ == "__main__":
    serve(Ours)
