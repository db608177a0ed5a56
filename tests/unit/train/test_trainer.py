"""The training loop: the BARS rule of lr cuts and stops, dead runs, precision, stages."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from recsys_zoo import create
from recsys_zoo.data.store import Prepared, Split
from recsys_zoo.errors import InputError
from recsys_zoo.nn import kernels
from recsys_zoo.tasks.binary import BinaryTask
from recsys_zoo.train import backend
from recsys_zoo.train.callbacks import Callback, Progress
from recsys_zoo.train.config import TrainConfig
from recsys_zoo.train.trainer import Trainer, check_stages, monitored
from tests.toys import ranking

from . import toys
from .test_resume import config, data


class Watch(Callback):
    def __init__(self) -> None:
        self.epochs: list[dict] = []

    def on_epoch_end(self, info) -> None:
        self.epochs.append(info)


class Scripted(BinaryTask):
    """Validation AUCs from a list, so that the plateau rule is tested alone."""

    def __init__(self, values) -> None:
        super().__init__(data())
        self.values = list(values)

    def metrics(self, scores, split):
        return {"auc": self.values.pop(0), "logloss": 0.5}


def test_seconds_of_an_epoch_are_those_of_its_steps_and_its_validation(monkeypatch):
    """The first step, which warms up, does not count; the clock moves a second a reading."""
    trainer = Trainer(BinaryTask(data()), config("autograd"))
    seconds = iter([100.0, 4.0, 1.0, 2.0])
    monkeypatch.setattr(trainer, "_seconds_of_step", lambda: next(seconds))
    monkeypatch.setattr("time.perf_counter", itertools.count().__next__)
    part = min(trainer.cfg.eval_batch_size, len(trainer.valid))
    expected = 2.0 * len(trainer.train) / trainer.cfg.batch_size + len(trainer.valid) / part
    assert trainer.seconds_of_epoch(toys.toy()) == pytest.approx(expected)


def test_measuring_an_epoch_takes_steps(monkeypatch):
    model, counted = toys.toy(), []
    before = [p.detach().clone() for p in model.parameters()]
    trainer = Trainer(BinaryTask(data()), config("autograd"))
    take = trainer._take_step
    monkeypatch.setattr(trainer, "_take_step", lambda batch: (counted.append(len(batch)), take(batch))[1])
    assert trainer.seconds_of_epoch(model, steps=2) > 0
    assert counted == [trainer.cfg.batch_size] * 3
    assert any(not torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize(
    ("aucs", "lrs", "best"),
    [
        # better, worse, better after the cut, worse twice -> stop (patience 2)
        ([0.6, 0.59, 0.7, 0.69, 0.68, 0.9], [1e-3, 1e-3, 1e-4, 1e-4, 1e-5], 3),
        # an improvement below 1e-6 is none
        ([0.6, 0.6 + 5e-7, 0.6 + 9e-7, 0.9], [1e-3, 1e-3, 1e-4], 1),
        # a gain of 2e-6 counts; the cap on epochs ends the run
        ([0.6, 0.600002, 0.600004, 0.600006, 0.600008, 0.61], [1e-3] * 6, 6),
    ],
)
def test_plateau_rule_of_bars(aucs, lrs, best):
    watch = Watch()
    trainer = Trainer(
        Scripted(aucs), config("autograd", epochs=6, lr=1e-3, patience=2, min_delta=1e-6), callbacks=[watch]
    )
    fit = trainer.fit(toys.toy())
    assert [e["lr"] for e in watch.epochs] == pytest.approx(lrs)
    assert (fit.best_epoch, fit.epochs) == (best, len(lrs))


def test_after_an_epoch_without_a_gain_training_can_go_on_from_the_best_weights():
    weights = []

    class Keep(Callback):
        def on_epoch_end(self, info) -> None:
            weights.append([p.detach().clone() for p in model.parameters()])

    model, aucs = toys.toy(), [0.6, 0.59, 0.7, 0.69, 0.68, 0.9]
    cfg = config("autograd", epochs=6, lr=1e-3, patience=2, min_delta=1e-6, plateau_from="best")
    fit = Trainer(Scripted(aucs), cfg, callbacks=[Keep()]).fit(model)

    def same(one: int, two: int) -> bool:
        return all(torch.equal(*pair) for pair in zip(weights[one], weights[two], strict=True))

    assert same(1, 0)
    assert same(3, 2)
    assert same(4, 2)
    assert not same(2, 0)
    assert (fit.best_epoch, fit.epochs) == (3, 5)
    assert fit.rates == pytest.approx((1e-3, 1e-4))


def test_lr_is_never_cut_below_its_floor():
    watch = Watch()
    cfg = config("autograd", epochs=6, lr=1e-3, patience=9, min_lr=5e-5)
    Trainer(Scripted([0.6] + [0.5] * 5), cfg, callbacks=[watch]).fit(toys.toy())
    assert [e["next_lr"] for e in watch.epochs] == pytest.approx([1e-3, 1e-4, 5e-5, 5e-5, 5e-5, 5e-5])


def test_the_model_ends_with_its_best_weights_and_autograd_tables():
    model, task = toys.toy(), BinaryTask(data())
    fit = Trainer(task, config("rows", min_delta=0.0, patience=5)).fit(model)
    scores = task.scores(model, task.valid if hasattr(task, "valid") else task.data.split("valid"), 50)
    labels = task.data.split("valid").labels[:, 0]
    assert fit.valid["auc"] == pytest.approx(roc_auc_score(labels, scores.numpy()), abs=1e-9)
    assert all(p.requires_grad for p in model.parameters())
    model(task.data.split("train").batch(slice(0, 4)).inputs).sum().backward()
    assert model.embedding.tables()[0].weight.grad is not None


def test_evaluation_does_not_depend_on_its_batch_size():
    model, task = toys.toy().eval(), BinaryTask(data())
    one, many = (task.scores(model, task.data.split("valid"), size) for size in (1000, 7))
    torch.testing.assert_close(one, many, atol=1e-6, rtol=0)  # matmul kernels differ with the number of rows


def test_micro_batches_give_the_same_run_without_dropout():
    results = []
    for micro in (0, 16):
        model = toys.toy()
        model.dropout.p = 0.0
        Trainer(BinaryTask(data()), config("exact", micro_batch=micro, epochs=1)).fit(model)
        results.append(model)
    assert toys.difference(*results) < 5e-5


def test_a_loss_that_is_not_finite_stops_the_run():
    said = []
    model = toys.toy()
    with torch.no_grad():
        model.hidden.weight.fill_(math.inf)
    fit = Trainer(BinaryTask(data()), config("autograd"), say=said.append).fit(model)
    assert fit.status == "dead"
    assert "the loss became" in fit.reason
    assert any(line.startswith("dead run: ") for line in said)


def test_constant_output_is_called_dead():
    class Constant(toys.Toy):
        def forward(self, x):
            return super().forward(x) * 0.0

    model = Constant(toys.ModelConfig(), toys.SCHEMA)
    fit = Trainer(BinaryTask(data()), config("autograd", epochs=2)).fit(model)
    assert fit.status == "dead"
    assert "the same score" in fit.reason


def test_auc_of_one_half_is_called_dead():
    fit = Trainer(Scripted([0.5, 0.5, 0.5]), config("autograd", epochs=2)).fit(toys.toy())
    assert fit.status == "dead"
    assert "AUC is 0.5" in fit.reason


def test_monitors():
    metrics = {"auc": 0.8, "logloss": 0.4, "gauc": 0.7}
    assert monitored(metrics, "auc") == 0.8
    assert monitored(metrics, "logloss") == -0.4
    assert monitored(metrics, "auc-logloss") == pytest.approx(0.4)
    assert monitored(metrics, "auc+gauc") == pytest.approx(1.5)
    with pytest.raises(InputError, match="needs gauc"):
        monitored({"auc": 0.8, "logloss": 0.4}, "auc+gauc")


def test_stages_move_only_their_parameters():
    model = toys.toy()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    Trainer(BinaryTask(data()), config("autograd", stages=({"train": "^hidden|^out", "epochs": 1},))).fit(
        model
    )
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved == {"hidden.weight", "hidden.bias", "out.weight", "out.bias"}


def test_bf16_runs_close_to_fp32():
    scores = {}
    for name, more in {"fp32": {}, "bf16": {"precision": "bf16"}}.items():
        model = toys.toy()
        model.dropout.p = 0.0
        Trainer(BinaryTask(data()), config("exact", epochs=2, **more)).fit(model)
        scores[name] = BinaryTask(data()).scores(model, data().split("valid"), 128)
    difference = (scores["fp32"] - scores["bf16"]).abs().max()
    assert 0 < difference < 0.02  # 8 bits of mantissa in the forward pass


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["autograd", "exact", "rows"])
def test_compiled_steps_train_the_same_model(mode):
    results = []
    for compiled in (False, True):
        model = toys.toy()
        model.dropout.p = 0.0  # the compiler draws its masks elsewhere
        Trainer(BinaryTask(data()), config(mode, epochs=2, compile=compiled)).fit(model)
        results.append(model)
    assert toys.difference(*results) < 5e-5  # another order of sums, eight steps of 1e-2


def test_deterministic_mode_is_set_and_said():
    said: list[str] = []
    cfg = config("exact", epochs=1, deterministic=True)
    Trainer(BinaryTask(data()), cfg, say=said.append).fit(toys.toy())
    assert torch.are_deterministic_algorithms_enabled()
    assert any(line.startswith("deterministic:") for line in said)


def test_several_labels_and_weights():
    train = data().split("train")
    schema = toys.SCHEMA.model_copy(update={"labels": ("click", "buy")})
    labels = np.stack([train.labels[:, 0], 1 - train.labels[:, 0]], 1)
    weight = np.linspace(0, 1, len(train), dtype=np.float32)
    both = Split(schema, train.ids, train.numeric, labels, weight)
    task = BinaryTask(Prepared.in_memory(schema, {"train": both}), "buy")
    model, batch = toys.toy().eval(), both.batch(slice(0, 50))
    logits = model(batch.inputs)
    terms = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, 1 - torch.tensor(train.labels[:50, 0]), reduction="none"
    )
    expected = (terms * torch.tensor(weight[:50])).sum() / weight[:50].sum()
    torch.testing.assert_close(task.loss(model, batch).total, expected)
    with pytest.raises(InputError, match=r"no label named 'bought'|did you mean"):
        BinaryTask(Prepared.in_memory(schema, {"train": both}), "bought")


def test_backend_settings_are_said_and_restored_precision_is_fp32():
    before = torch.get_float32_matmul_precision()
    _, lines = backend.apply(TrainConfig(device="cpu"))
    assert any("measured relative error" in line for line in lines)
    g = torch.Generator().manual_seed(1)
    a, b = torch.randn(64, 512, generator=g), torch.randn(512, 64, generator=g)
    exact = a.double() @ b.double()
    assert ((a @ b).double() - exact).abs().max() / exact.abs().max() < 1e-5  # fp32, not bf16 (4e-3)
    torch.set_float32_matmul_precision(before)


def test_progress_off_a_terminal_is_one_line_an_epoch(capsys):
    import io

    stream = io.StringIO()
    Trainer(BinaryTask(data()), config("autograd", epochs=2), callbacks=[Progress(stream)]).fit(toys.toy())
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert "rows/s" in lines[0]
    assert "auc 0." in lines[0]


def test_losses_read_some_steps_later_are_the_same(tmp_path):
    histories = []
    for wait in (1, 3):
        watch = Watch()
        trainer = Trainer(BinaryTask(data()), config("rows", epochs=2), tmp_path / str(wait), [watch])
        trainer.wait_every = wait
        trainer.fit(toys.toy())
        histories.append([(e["train_loss"], e["valid"]) for e in watch.epochs])
        assert trainer.steps % 3
    assert histories[0] == histories[1]


def test_a_loss_that_is_not_finite_is_placed_at_its_step_when_read_later():
    reasons = []
    for wait in (1, 3):
        trainer = Trainer(BinaryTask(data()), config("rows", epochs=2))
        trainer.wait_every = wait
        model = toys.toy()
        factors = iter([1.0, math.nan])
        model.hidden.register_forward_hook(lambda *a, factors=factors: a[2] * next(factors, 1.0))
        fit = trainer.fit(model)
        assert fit.status == "dead"
        reasons.append(fit.reason)
    assert reasons[0] == reasons[1]
    assert "at step 2 of epoch 1" in reasons[0]


def test_an_interrupted_fit_leaves_no_loss_behind():
    class Stop(Callback):
        def on_step_end(self, info) -> None:
            if info["step"] == 2:
                raise KeyboardInterrupt

    watch = Watch()
    trainer = Trainer(BinaryTask(data()), config("rows", epochs=1), callbacks=[Stop()])
    trainer.wait_every = 3
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(toys.toy())
    trainer.callbacks = [watch]
    trainer.fit(toys.toy())
    fresh = Watch()
    Trainer(BinaryTask(data()), config("rows", epochs=1), callbacks=[fresh]).fit(toys.toy())
    assert watch.epochs[0]["train_loss"] == fresh.epochs[0]["train_loss"]


@pytest.mark.parametrize("asked", ["auto", "cuda", "cuda:1"])
def test_a_gpu_is_one_by_its_number(monkeypatch, asked):
    """torch takes no device without a number where it is to be the current one."""
    taken = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    device, _ = backend.apply(TrainConfig(device=asked, matmul="highest"))
    assert (device.type, device.index) == ("cuda", 1 if asked == "cuda:1" else 0)
    assert taken == [device]


def test_cuda_graph_is_refused_where_it_cannot_be():
    for mode, words in (("autograd", "set train.table_update"), ("rows", "set train.device='cuda'")):
        trainer = Trainer(BinaryTask(data()), config(mode, cuda_graph=True, device="cpu"))
        with pytest.raises(InputError, match=words):
            trainer.fit(toys.toy())
    with pytest.raises(InputError, match="only Adam"):
        check_stages(toys.toy(), config("rows", cuda_graph=True, optimizer="sgd"))
    pairs = create("mf.in_batch", ranking(4, 5))
    with pytest.raises(InputError, match="the sizes of a step of mf differ"):
        check_stages(pairs, config("rows", cuda_graph=True))
    check_stages(create("mf", ranking(4, 5)), config("rows", cuda_graph=True))


@pytest.mark.parametrize("choice", ["auto", "torch"])
def test_kernels_of_an_earlier_training_are_none_of_this_one(choice, monkeypatch):
    monkeypatch.setattr(kernels, "called", True)
    backend.apply(TrainConfig(kernels=choice, device="cpu", matmul="highest"))
    kernels.disable()
    assert not kernels.called
