"""The one training loop: BARS' recipe (protocol 1.2) in stages, resumable bit for bit."""

from __future__ import annotations

import math
import re
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..batch import Batch
from ..errors import InputError
from ..models.base import Model
from ..nn import kernels
from ..tasks.base import Task
from . import backend
from .callbacks import Callback
from .checkpoint import TrainingState, rng_state, set_rng_state
from .config import TrainConfig
from .graph import Graphed
from .optim import Optimizer
from .position import Fit, Position
from .step import Step


def monitored(metrics: dict[str, float], monitor: str) -> float:
    """The number to be made large: logloss counts negative, "auc-logloss" and "auc+gauc" are sums."""
    for name in monitor.replace("-", "+").split("+"):
        if name not in metrics:
            raise InputError(
                f"train.monitor={monitor!r} needs {name}, which is not among {sorted(metrics)[:8]} of these "
                "data (gauc needs a group column)"
            )
    if monitor == "auc-logloss":
        return metrics["auc"] - metrics["logloss"]
    if monitor == "auc+gauc":
        return metrics["auc"] + metrics["gauc"]
    return -metrics["logloss"] if monitor == "logloss" else metrics[monitor]


def check_stages(model: Model, cfg: TrainConfig) -> None:
    """InputError for what else would fail once a run has begun: a stage that trains nothing, whole tables."""
    if model.whole_table and cfg.table_update != "autograd":
        raise InputError(f"{model.name} reads whole tables; set train.table_update='autograd'")
    if cfg.micro_batch and not model.splits:
        raise InputError(f"{model.name}: its loss is no mean over a batch's pairs; set train.micro_batch=0")
    if cfg.cuda_graph and cfg.table_update == "autograd":
        raise InputError("train.cuda_graph is not there for dense gradients of tables; set "
                         "train.table_update to exact (the same result) or rows")
    if cfg.cuda_graph and not model.fixed_shapes:
        raise InputError(f"train.cuda_graph: the sizes of a step of {model.name} differ; set it to false")
    if cfg.cuda_graph and cfg.optimizer != "adam":
        raise InputError(f"train.cuda_graph: only Adam can be captured; train.optimizer is {cfg.optimizer!r}")
    names = [name for name, _ in model.named_parameters()]
    for stage in cfg.stages:
        if not any(re.search(stage.train, name) for name in names):
            raise InputError(
                f"stage {stage.name!r}: no parameter of {model.name} matches {stage.train!r}; "
                f"their names begin with {sorted({name.partition('.')[0] for name in names})}"
            )


class Trainer:
    """Fits a model to a task: steps with clipping, one validation an epoch, lr cut and stop on a plateau.

    With a `folder` the state is saved there about every `cfg.save_every_s` seconds and at each epoch's end;
    `fit(model, resume=True)` goes on from it and ends with bit-identical weights on the same machine, torch
    version and number of threads. `say` receives the backend settings and warnings, one line each.
    """

    def __init__(
        self,
        task: Task,
        cfg: TrainConfig,
        folder: Path | None = None,
        callbacks: Sequence[Callback] = (),
        say: Any = None,
        schedule: Sequence[float] | None = None,
    ) -> None:
        """schedule: the learning rate of every epoch of the one stage; then nothing is validated, and the
        last weights stay. InputError for an empty one, and for several stages with one."""
        self.task, self.cfg, self.callbacks = task, cfg, list(callbacks)
        self.schedule = None if schedule is None else tuple(schedule)
        if self.schedule is not None and (not self.schedule or len(cfg.stages) > 1):
            raise InputError("a schedule of learning rates has an epoch, and belongs to one stage")
        self.state = TrainingState(folder) if folder is not None else None
        self.say = say or (lambda line: None)
        self.train, self.valid = task.train, task.valid
        self.steps = math.ceil(len(self.train) / cfg.batch_size)
        self.losses: list[Tensor] = []  # of the steps since the host last waited for them
        self.wait_every = 1  # steps
        self.best_weights: dict[str, Tensor] = {}

    def fit(self, model: Model, resume: bool = False) -> Fit:
        """Train in place; afterwards the model holds the best weights of the last stage, on the device
        used."""
        check_stages(model, self.cfg)
        self.device, lines = backend.apply(self.cfg)
        try:
            return self._fit(model, resume, lines)
        finally:
            kernels.disable()  # what is scored afterwards is what `load` scores, to the last bit

    def _fit(self, model: Model, resume: bool, lines: list[str]) -> Fit:
        for line in [*lines, f"table update: {self.cfg.table_update}"]:
            self.say(line)
        self._place(model)
        torch.manual_seed(self.cfg.seed)
        held = self._resume() if resume and self.state is not None and self.state.exists() else None
        self.saved_at = self.began = time.perf_counter()
        self._tell(
            "on_fit_start",
            {
                "global_step": self.at.global_step,
                "backend": lines,
                "config": self.cfg.model_dump(mode="json"),
            },
        )
        while self.at.stage < len(self.cfg.stages) and not self.at.finished:
            self._run_stage(held)
            held = None
        self._load_best()
        fit = self._result()
        self._tell("on_fit_end", {"global_step": self.at.global_step, **asdict(fit)})
        return fit

    def seconds_of_epoch(self, model: Model, steps: int = 3) -> float:
        """How long an epoch of the first stage takes with its validation, by some steps and one batch scored.

        The model is moved to the device and changed by the steps.
        """
        self.device, _ = backend.apply(self.cfg)
        try:
            self._place(model)
            self._ready()
            self.model.train()
            step = statistics.median([self._seconds_of_step() for _ in range(steps + 1)][1:])
            part = self.valid.first(min(self.cfg.eval_batch_size, len(self.valid)))
            since = time.perf_counter()
            self.task.evaluate(self.model, part, self.cfg.eval_batch_size, self.cfg.precision)
            scored = time.perf_counter() - since
            self.optimizer.release()
        finally:
            kernels.disable()
        return step * len(self.train) / self.cfg.batch_size + scored * len(self.valid) / len(part)

    def _seconds_of_step(self) -> float:
        rows = torch.randint(len(self.train), (self.cfg.batch_size,), device=self.train.device)
        since = time.perf_counter()
        float(self.take(self._batch(rows)))
        return time.perf_counter() - since

    def _batch(self, rows: Tensor) -> Batch:
        batch = self.train.batch(rows)
        return batch if self.train.device == self.device else batch.to(self.device)

    def _place(self, model: Model) -> None:
        """The model and, where they fit, the data on the device; the position at the beginning."""
        self.losses.clear()
        self.model = model.to(self.device)
        self._settle()
        self.step = Step(self.model, self.task, self.cfg.precision)
        self.at = Position(lr=self.cfg.stages[0].lr or self.cfg.lr)

    def _settle(self) -> None:
        """Put the data on a GPU where they fit beside the model: no step then waits for rows of the host."""
        if self.device.type == "cpu":
            return
        self.wait_every = 100
        torch.cuda.empty_cache()
        free, needed = torch.cuda.mem_get_info(self.device)[0] / 2**20, self.train.mib + self.valid.mib
        # gradients, two moments and one whole-table temporary are still to come
        free -= 4 * sum(p.numel() * p.element_size() for p in self.model.parameters()) / 2**20
        if needed > free / 2:
            self.say(f"data: {needed:,.0f} MiB stay on the host; the device has {max(free, 0):,.0f} MiB left")
            return
        self.say(f"data: {needed:,.0f} MiB on the device")
        self.train, self.valid = self.train.on(self.device), self.valid.on(self.device)

    def _run_stage(self, held: dict[str, Tensor] | None) -> None:
        stage, at = self.cfg.stages[self.at.stage], self.at
        if held is None and stage.start_from == "best" and at.best_valid:
            self._load_best()
        self._ready()
        if held is not None:
            self.optimizer.load_state(
                {k.removeprefix("optim/"): v for k, v in held.items() if k[:6] == "optim/"}
            )
            set_rng_state(held, self.device)
        else:
            at.best, at.misses = -math.inf, 0
            self._save()
        most = len(self.schedule) if self.schedule else stage.epochs or self.cfg.epochs
        while at.epoch < most and at.misses < self.cfg.patience and not at.dead:
            self._run_epoch()
        self.optimizer.release()
        self.take = None  # a graph holds memory
        at.stage, at.epoch, at.misses = at.stage + 1, 0, 0
        if at.dead or at.stage == len(self.cfg.stages):
            at.finished = True
        else:
            at.lr = self.cfg.stages[at.stage].lr or self.cfg.lr
        if at.finished:
            self._save()

    def _ready(self) -> None:
        """Optimiser and step of the stage."""
        self.optimizer = Optimizer(self.model, self.cfg, self.at.lr, self.cfg.stages[self.at.stage].train)
        self.run_step = torch.compile(self.step) if self.cfg.compile else self.step
        self.take = Graphed(self._take_step, self.cfg.batch_size) if self.cfg.cuda_graph else self._take_step

    def _run_epoch(self) -> None:
        at, cfg = self.at, self.cfg
        if self.schedule:
            at.lr = self.schedule[at.epoch]
            self.optimizer.set_lr(at.lr)
        self._tell("on_epoch_start", {"step": at.step})
        generator = torch.Generator(self.device).manual_seed(
            ((cfg.seed * 1_000_003 + at.stage) * 1_000_003 + at.epoch) % 2**63
        )
        order = torch.randperm(len(self.train), generator=generator, device=self.device)
        order = order.to(self.train.device)  # drawn where the training runs, wherever the data are
        self.model.train()
        while at.step < self.steps:
            since = time.perf_counter()
            rows = order[at.step * cfg.batch_size : (at.step + 1) * cfg.batch_size]
            self.losses.append(self.take(self._batch(rows)))
            at.step += 1
            at.global_step += 1
            at.rows_done += len(rows)
            saving = time.perf_counter() - self.saved_at >= cfg.save_every_s and at.step < self.steps
            if saving or len(self.losses) == self.wait_every or at.step == self.steps:
                self._read_losses()
            at.train_s += time.perf_counter() - since
            if at.dead:
                return
            best = f"{at.best:.6f}" if at.best_valid else "-"
            self._tell("on_step_end", {"step": at.step, "steps": self.steps, "batch_size": cfg.batch_size,
                                       "title": self._title(), "best": best})
            if saving:
                self._save()
        self._finish_epoch()

    def _read_losses(self) -> None:
        """Wait for the losses since the last reading and add them up."""
        at, first = self.at, self.at.step - len(self.losses) + 1
        for step, loss in enumerate(torch.stack(self.losses).tolist(), first):
            at.loss_sum += loss
            if not math.isfinite(loss):
                at.dead = (
                    f"the loss became {loss} at step {step} of epoch {at.epoch + 1}; "
                    "lower train.lr or check the numeric columns"
                )
                break
        self.losses.clear()

    def _take_step(self, batch: Batch) -> Tensor:
        self.optimizer.begin()
        size = self.cfg.micro_batch or len(batch)
        if size >= len(batch):
            loss = self.run_step(batch).total
            loss.backward()
        else:
            loss, weight = torch.zeros((), device=self.device), batch.weight.sum()
            for start in range(0, len(batch), size):
                part = batch.rows(start, start + size)
                share = self.run_step(part).total * (part.weight.sum() / weight)
                share.backward()
                loss = loss + share.detach()
        self.optimizer.step()
        self.model.after_step()
        return loss.detach()

    def _finish_epoch(self) -> None:
        at, cfg = self.at, self.cfg
        at.rates.append(at.lr)
        if self.schedule:
            self._end_epoch({}, at.lr, improved=True)
            return
        valid, constant = self.task.evaluate(self.model, self.valid, cfg.eval_batch_size, cfg.precision)
        if not valid:
            at.dead = f"the validation scores of epoch {at.epoch + 1} are not finite; lower train.lr"
            return
        value = monitored(valid, cfg.monitor)
        if not math.isfinite(value):
            at.dead = f"train.monitor={cfg.monitor!r} is {value} on the valid split; choose another monitor"
            return
        if constant is not None:
            self.say(f"epoch {at.epoch + 1}: every validation score is {constant:.6f}")
        lr = at.lr
        improved = not value < at.best + cfg.min_delta
        if improved:
            at.best, at.best_epoch, at.best_valid = value, at.epochs_done + 1, valid
            at.best_constant, at.misses = constant is not None, 0
            self._keep_best()
        else:
            at.misses += 1
            at.lr = max(at.lr * cfg.plateau_factor, min(cfg.min_lr, at.lr))
            self.optimizer.set_lr(at.lr)
            if cfg.plateau_from == "best":
                self._load_best()
                at.rates.pop()  # what this epoch did is gone
        self._end_epoch(valid, lr, improved)

    def _end_epoch(self, valid: dict[str, float], lr: float, improved: bool) -> None:
        at, train_loss = self.at, self.at.loss_sum / self.steps
        at.epoch, at.epochs_done, at.step, at.loss_sum = at.epoch + 1, at.epochs_done + 1, 0, 0.0
        self._tell(
            "on_epoch_end",
            {
                "global_step": at.global_step,
                "title": self._title(at.epoch),
                "epoch": at.epochs_done,
                "lr": lr,
                "next_lr": at.lr,
                "train_loss": train_loss,
                "valid": valid,
                "split": self.task.watched,
                "improved": improved,
                "rows_per_s": at.rows_done / max(at.train_s, 1e-9),
            },
        )
        self._save()

    def _title(self, epoch: int | None = None) -> str:
        stage = self.cfg.stages[self.at.stage]
        name = "" if len(self.cfg.stages) == 1 else f"{stage.name} "
        return f"{name}epoch {self.at.epoch + 1 if epoch is None else epoch:>3}"

    def _keep_best(self) -> None:
        weights = self.model.state_dict()
        if self.state is not None:
            self.state.save_best(weights, f"{self.at.stage}-{self.at.epoch}")
        else:
            self.best_weights = {name: tensor.detach().clone() for name, tensor in weights.items()}

    def _load_best(self) -> None:
        if self.at.best_valid:
            self.model.load_state_dict(
                self.state.load_best() if self.state is not None else self.best_weights
            )

    def _save(self) -> None:
        if self.state is None:
            return
        now = time.perf_counter()
        self.at.total_s, self.began = self.at.total_s + now - self.began, now
        tensors = {f"model/{name}": t for name, t in self.model.state_dict().items()}
        tensors |= {f"optim/{name}": t for name, t in self.optimizer.state().items()}
        made_with = backend.conditions(self.device)
        self.state.save(tensors | rng_state(self.device), {**asdict(self.at), "made_with": made_with})
        self.saved_at = time.perf_counter()

    def _resume(self) -> dict[str, Tensor]:
        tensors, values = self.state.load()
        before, now = values.pop("made_with", {}), backend.conditions(self.device)
        self.at = Position(**{k: v for k, v in values.items() if k not in ("now", "best_file")})
        self.model.load_state_dict({k[6:]: v for k, v in tensors.items() if k[:6] == "model/"})
        self.say(f"resumed at epoch {self.at.epochs_done + 1}, step {self.at.step} of {self.steps}")
        changed = [f"{k} {before.get(k)} -> {now[k]}" for k in now if before.get(k) != now[k]]
        if changed:
            self.say(f"not bit-identical to an undisturbed run: {', '.join(changed)}")
        return tensors

    def _result(self) -> Fit:
        at = self.at
        at.total_s += time.perf_counter() - self.began
        reason = at.dead
        if not reason and at.best_constant:
            reason = "the model gives every row the same score; try another seed or a lower train.lr"
        elif not reason and abs(at.best_valid.get("auc", 1.0) - 0.5) < 1e-4:
            reason = (
                "the best validation AUC is 0.5: nothing was learnt; try another seed or a lower train.lr"
            )
        if reason:
            self.say(f"dead run: {reason}")
        return Fit(
            "dead" if reason else "done",
            reason,
            at.epochs_done,
            at.best_epoch,
            at.best_valid,
            at.total_s,
            at.rows_done / max(at.train_s, 1e-9),
            at.lr,
            tuple(at.rates),
        )

    def _tell(self, hook: str, info: dict[str, Any]) -> None:
        for callback in self.callbacks:
            getattr(callback, hook)(info)
