"""The training loop on a GPU: nothing waits, graphs replay what eager steps do, and a CPU agrees."""

from __future__ import annotations

import pytest
import torch

from recsys_zoo.tasks.binary import BinaryTask
from recsys_zoo.train.callbacks import Callback
from recsys_zoo.train.graph import Graphed
from recsys_zoo.train.optim import Optimizer
from recsys_zoo.train.rules import RULES
from recsys_zoo.train.step import Step
from recsys_zoo.train.trainer import Trainer

from . import toys
from .test_resume import ROWS, config, data

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]


class Losses(Callback):
    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_epoch_end(self, info) -> None:
        self.seen.append(info["train_loss"])


def train(device: str, **settings) -> tuple[torch.nn.Module, list[float]]:
    """A toy without dropout after some epochs, and their losses."""
    model, losses = toys.toy(), Losses()
    model.dropout.p = 0.0
    settings = {"mode": "rows", "epochs": 3, "matmul": "highest", **settings}
    cfg = config(settings.pop("mode"), device=device, **settings)
    Trainer(BinaryTask(data()), cfg, callbacks=[losses]).fit(model)
    return model.cpu(), losses.seen


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("mode", ["autograd", "exact", "rows"])
def test_a_gpu_and_a_cpu_agree(mode, rule):
    """Over whole-split batches: the order of rows and the masks of dropout differ by device."""
    whole = {"mode": mode, "batch_size": ROWS, "epochs": 8, "optimizer": rule}
    whole["lr"] = {"adam": 0.01, "adagrad": 0.1, "sgd": 1.0}[rule]
    (one, found), (two, expected) = (train(device, **whole) for device in ("cuda", "cpu"))
    assert found == pytest.approx(expected, rel=1e-4)
    assert toys.difference(one, two) < 1e-3
    assert toys.difference(one.embedding, toys.toy().embedding) > 5e-3  # it moved


@pytest.mark.parametrize("mode", ["exact", "rows"])
def test_a_graph_replays_the_eager_step(mode):
    """Batches of 60 leave a short one each epoch; the rate is cut after the second, third and fourth."""
    settings = {"mode": mode, "epochs": 5, "batch_size": 60}
    (one, found), (two, expected) = (train("cuda", cuda_graph=graph, **settings) for graph in (True, False))
    assert found == pytest.approx(expected, rel=1e-6)
    assert toys.difference(one, two) < 1e-6


def test_every_replay_drops_other_numbers():
    model = toys.toy().cuda().train()
    batch = data().split("train").on(torch.device("cuda")).batch(slice(0, 64))
    graphed = Graphed(lambda batch: model(batch.inputs).detach().sum(), 64)
    assert len({float(graphed(batch)) for _ in range(8)}) == 8


def test_a_compiled_step_can_be_captured():
    settings = {"epochs": 2, "cuda_graph": True}
    (one, found), (two, expected) = (train("cuda", compile=c, **settings) for c in (True, False))
    assert found == pytest.approx(expected, rel=1e-4)
    assert toys.difference(one, two) < 1e-3


@pytest.mark.parametrize("mode", ["exact", "rows"])
def test_a_step_makes_the_host_wait_for_nothing(mode):
    cfg, device = config(mode), torch.device("cuda", 0)
    split = data().split("train").on(device)
    step = Step(toys.toy().train().to(device), BinaryTask(data()))
    optimizer = Optimizer(step.model, cfg, cfg.lr)
    order = torch.randperm(len(split), device=device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for start in range(0, 40, 10):
            optimizer.begin()
            step(split.batch(order[start : start + 10])).total.backward()
            optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_training_goes_on_from_a_saved_state(tmp_path):
    whole = toys.toy()
    Trainer(BinaryTask(data()), config("rows", device="cuda", epochs=2), tmp_path / "a").fit(whole)
    cut = toys.toy()

    class Stop(Callback):
        def on_step_end(self, info) -> None:
            if info["step"] == 3:
                raise KeyboardInterrupt

    cfg = config("rows", device="cuda", epochs=2, save_every_s=0.0)
    with pytest.raises(KeyboardInterrupt):
        Trainer(BinaryTask(data()), cfg, tmp_path / "b", [Stop()]).fit(cut)
    again = toys.toy()
    Trainer(BinaryTask(data()), cfg, tmp_path / "b").fit(again, resume=True)
    assert toys.difference(whole.cpu(), again.cpu()) == 0
