"""kill -9 at any moment, then resume: bit-identical weights, moments and history."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal

import numpy as np
import pytest
import torch

from recsys_zoo.data.store import Prepared, Split
from recsys_zoo.tasks.binary import BinaryTask
from recsys_zoo.train.callbacks import Callback, JsonLines
from recsys_zoo.train.checkpoint import TrainingState
from recsys_zoo.train.config import TrainConfig
from recsys_zoo.train.trainer import Trainer

from . import toys

ROWS, BATCH = 256, 64  # four steps an epoch


def data() -> Prepared:
    splits = {}
    for name, rows, seed in (("train", ROWS, 1), ("valid", 128, 2)):
        x, y = toys.inputs(rows, seed)
        ids = torch.cat([x.ids, x.bags["seen"]], 1).numpy()
        splits[name] = Split(toys.SCHEMA, ids, x.numeric.numpy(), y.numpy().astype(np.float32))
    return Prepared.in_memory(toys.SCHEMA, splits)


def config(mode: str, **more) -> TrainConfig:
    # min_delta 1: no epoch after the first improves, so the lr is cut after epochs 2, 3 and 4
    return TrainConfig(
        **{
            "epochs": 5,
            "batch_size": BATCH,
            "lr": 0.01,
            "table_update": mode,
            "table_l2": 0.05,
            "patience": 4,
            "min_delta": 1.0,
            "save_every_s": 0.0,
            "device": "cpu",
            **more,
        }
    )


class KillAtStep(Callback):
    def __init__(self, step: int) -> None:
        self.left = step

    def on_step_end(self, info) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def _kill_at_rename(count: int) -> None:
    replace = os.replace
    left = [count]

    def counted(source, target):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    os.replace = counted


def _child(folder, cfg, moment, number) -> None:
    callbacks = [JsonLines(folder / "log.jsonl")]
    if moment == "step":
        callbacks.append(KillAtStep(number))
    else:
        _kill_at_rename(number)
    Trainer(BinaryTask(data()), cfg, folder / "state", callbacks).fit(toys.toy(), resume=True)


def killed(folder, cfg, moment, number) -> None:
    """Run in a child until it kills itself; the folder is left as the kill left it."""
    child = multiprocessing.get_context("fork").Process(target=_child, args=(folder, cfg, moment, number))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL


def finish(folder, cfg):
    model = toys.toy()
    fit = Trainer(BinaryTask(data()), cfg, folder / "state", [JsonLines(folder / "log.jsonl")]).fit(
        model, resume=True
    )
    tensors, values = TrainingState(folder / "state").load()
    for clock in ("train_s", "total_s"):
        values.pop(clock)
    return fit, model.state_dict(), tensors, values


def assert_same(a, b) -> None:
    for one, two in zip(a[1:3], b[1:3], strict=True):
        assert one.keys() == two.keys()
        assert all(torch.equal(one[name], two[name]) for name in one)
    assert a[3] == b[3]
    assert a[0].valid == b[0].valid


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    torch.set_num_threads(1)
    held = {}

    def get(mode):
        if mode not in held:
            folder = tmp_path_factory.mktemp(mode)
            held[mode] = finish(folder, config(mode))
        return held[mode]

    return get


# mid-epoch, at an epoch's end, just after the first plateau cut (epoch 2 ends at step 8), in the last epoch
@pytest.mark.parametrize("step", [2, 4, 9, 18])
@pytest.mark.parametrize("mode", ["autograd", "exact", "rows"])
def test_killed_after_a_step(mode, step, undisturbed, tmp_path):
    killed(tmp_path, config(mode), "step", step)
    assert_same(finish(tmp_path, config(mode)), undisturbed(mode))


# renames: log, weights and state.json alternate, so these fall before and after every kind of file
@pytest.mark.parametrize("rename", [1, 2, 3, 4, 5, 12, 13, 14, 15])
def test_killed_while_writing(rename, undisturbed, tmp_path):
    killed(tmp_path, config("rows"), "rename", rename)
    assert_same(finish(tmp_path, config("rows")), undisturbed("rows"))


def test_killed_twice_and_the_log_has_each_epoch_once(undisturbed, tmp_path):
    cfg = config("exact")
    killed(tmp_path, cfg, "step", 6)
    killed(tmp_path, cfg, "step", 5)
    assert_same(finish(tmp_path, cfg), undisturbed("exact"))
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [e["epoch"] for e in entries if e["event"] == "epoch"] == [1, 2, 3, 4, 5]
    lrs = [e["lr"] for e in entries if e["event"] == "epoch"]
    assert lrs == pytest.approx([1e-2, 1e-2, 1e-3, 1e-4, 1e-5])  # cut after each epoch without improvement


def test_epochs_that_begin_from_the_best_weights_resume_too(tmp_path):
    cfg = config("exact", plateau_from="best")
    whole = finish(tmp_path / "whole", cfg)
    assert whole[3]["rates"] == [1e-2]  # min_delta 1: what the other epochs did is gone
    best = finish(tmp_path / "first", config("exact", epochs=1))[1]
    assert all(torch.equal(best[name], t) for name, t in whole[1].items())
    assert whole[3]["epochs_done"] == 5
    killed(tmp_path / "cut", cfg, "step", 11)
    assert_same(finish(tmp_path / "cut", cfg), whole)


def test_stages_resume_too(tmp_path):
    stages = (
        {"name": "tables", "train": "embedding", "epochs": 2},
        {"name": "all", "epochs": 2, "start_from": "best"},
    )
    cfg = config("autograd", stages=stages)
    whole = finish(tmp_path / "whole", cfg)
    killed(tmp_path / "cut", cfg, "step", 11)
    assert_same(finish(tmp_path / "cut", cfg), whole)


def test_without_dropout_state_a_resume_would_differ(undisturbed, tmp_path):
    """The random state is really needed: dropping it from the saved tensors changes the result."""
    cfg = config("autograd")
    killed(tmp_path, cfg, "step", 2)
    state = TrainingState(tmp_path / "state")
    tensors, values = state.load()
    tensors["rng/cpu"] = torch.Generator().manual_seed(99).get_state()
    state.save(tensors, {k: v for k, v in values.items() if k not in ("now", "best_file")})
    other = finish(tmp_path, cfg)[2]
    assert any(not torch.equal(other[name], t) for name, t in undisturbed("autograd")[2].items())


def test_other_conditions_are_said_at_resume(tmp_path):
    cfg, said = config("exact"), []
    killed(tmp_path, cfg, "step", 6)
    state = TrainingState(tmp_path / "state")
    tensors, values = state.load()
    values["made_with"] |= {"torch": "2.1.0", "threads": 64}
    state.save(tensors, {k: v for k, v in values.items() if k not in ("now", "best_file")})
    Trainer(BinaryTask(data()), cfg, tmp_path / "state", say=said.append).fit(toys.toy(), resume=True)
    (line,) = [line for line in said if "bit-identical" in line]
    assert line == (
        f"not bit-identical to an undisturbed run: threads 64 -> {torch.get_num_threads()}, "
        f"torch 2.1.0 -> {torch.__version__}"
    )


def test_the_same_conditions_need_no_word(tmp_path):
    cfg, said = config("exact"), []
    killed(tmp_path, cfg, "step", 6)
    Trainer(BinaryTask(data()), cfg, tmp_path / "state", say=said.append).fit(toys.toy(), resume=True)
    assert any("resumed at epoch 2, step 1 of 4" in line for line in said)
    assert not any("bit-identical" in line for line in said)


@pytest.mark.slow
def test_a_compiled_step_resumes_bit_identical(tmp_path):
    cfg = config("exact", compile=True)
    whole = finish(tmp_path / "whole", cfg)
    arguments = (tmp_path / "cut", cfg, "step", 9)
    child = multiprocessing.get_context("spawn").Process(target=_child, args=arguments)
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert_same(finish(tmp_path / "cut", cfg), whole)
