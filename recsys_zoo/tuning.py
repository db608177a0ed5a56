"""Tuning of recipes on the validation split, beside other processes that do so too.

A study is its folder: study.toml says what is tuned, trials.jsonl holds a line a trial, and recipe.toml the
choice. A trial is claimed by a lock of the kernel; one that was killed goes on from its training state. A
study that one process works on at a time has the same trials whether it was disturbed or not. The test split
is never scored.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import shutil
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .board.budget import Curve
from .board.rows import WAIT_S
from .config import read_toml, write_toml
from .data.store import Prepared
from .errors import Busy, InputError
from .files import locked, write_whole
from .launch import configure
from .machine import git_commit, processor
from .models.base import Scorer
from .runs import RunConfig, begin, identity, valid_is_test, with_label
from .space import Space
from .suite import Task
from .suite import plan as plan_recipes
from .train.callbacks import Callback
from .train.config import TrainConfig
from .train.position import Fit
from .train.trainer import Trainer, monitored
from .trials import TURNS, Budget, Trial, best_of, lags, propose

BUDGET = 16  # trials, the median of the published tables
FRESH_SEEDS = 5  # of the runs of a chosen setting, beside the seed it was tuned with


class Pruned(Exception):
    """Ends a training that lags behind the trials before it."""


class Over(Exception):
    """Ends a training when its turn, or the minutes of its study, are over."""


@dataclass
class Study:
    """The trials of one recipe in one folder.

    `trials` and `minutes` are the budget of the study (see `Budget`); both count what was done before. The
    first trial has the recipe's own settings, so that the choice is never worse on valid than the recipe (by
    minutes: than the recipe after its turn). `share`: work beside other processes, instead of leaving it to
    them.
    """

    recipe: str
    space: Space
    data: Prepared
    folder: Path
    trials: int | None = BUDGET
    minutes: float = 0.0
    sampler: str = "tpe"
    pruner: str = "median"
    share: bool = False
    say: Callable[[str], Any] = print

    def __post_init__(self) -> None:
        if valid_is_test(self.data):
            raise InputError(f"{self.recipe}: its data validate on the test rows, so that tuning would be on "
                             "test; prepare them with a validation split of their own")
        if self.space.base.protocol == "published":
            raise InputError(f"{self.recipe}: by its protocol the test rows pick the epoch, so that tuning "
                             "would be on test; add --set protocol=honest")

    @property
    def budget(self) -> Budget:
        """How much the study may do."""
        return Budget(self.trials, self.minutes)

    @property
    def file(self) -> Path:
        """The record of the trials."""
        return self.folder / "trials.jsonl"

    @property
    def monitor(self) -> str:
        """The validation metric that decides."""
        return self.space.base.train.monitor

    def metric(self, value: float) -> float:
        """The monitored metric of a trial's value, which is made large."""
        return -value if self.monitor == "logloss" else value

    def run(self) -> bool:
        """Make the missing trials and write the choice, if any trial is done; False when other processes are
        still at some."""
        if not self._said.is_file():
            self.data.verify("train", "valid")  # before there is a folder
        with contextlib.ExitStack() as held:
            if not self.share:
                try:
                    held.enter_context(locked(self.folder / "study"))
                except Busy:
                    return False
            self._open()
            while self._one():
                pass
            trials = self.read()
            if any(trial.state == "running" for trial in trials):
                return False
            self._choose(trials)
        return True

    def read(self) -> list[Trial]:
        """The trials so far, in their order; InputError names a line that is none."""
        if not self.file.is_file():
            return []
        trials = []
        for number, line in enumerate(self.file.read_text(encoding="utf-8").splitlines(), start=1):
            where = f"{self.file}, line {number}"
            try:
                trials.append(Trial.parse(json.loads(line), where))
            except json.JSONDecodeError as error:
                raise InputError(f"{where}: not JSON ({error}); choose another --out") from None
        return trials

    def choice(self, trials: Sequence[Trial]) -> str:
        """The rule by which the best of the trials was chosen, as rows show it."""
        counts = [(sum(t.state == state for t in trials), state) for state in ("pruned", "dead", "failed")]
        parts = [f"best valid {self.monitor} of {len(trials)} trials, the recipe's own setting among them",
                 f"{self.sampler} from seed {self.space.base.train.seed}",
                 "median pruning" if self.pruner == "median" else "no pruning"]
        if self.budget.timed(trials):
            parts.append(f"all of {self.minutes:g} minutes of {processor()}, a trial at most 1/{TURNS} of "
                         "them until half are over, then the best")
        return ", ".join(parts + [f"{count} {state}" for count, state in counts if count])

    def curve(self) -> Curve:
        """Best validation metric against trials, for a picture."""
        trials = [trial for trial in self.read() if trial.state != "running"]
        values = [self.metric(t.value) if t.state in ("done", "pruned") else math.nan for t in trials]
        return Curve(self.recipe, values, self.monitor, self.sampler, self.monitor == "logloss")

    @property
    def _said(self) -> Path:
        return self.folder / "study.toml"

    def _open(self) -> None:
        """Write what is tuned, or check that it is what the folder's trials were made for."""
        said = {"sampler": self.sampler, "pruner": self.pruner, "space": self.space.record(),
                "recipe": identity(self.space.base, self.data.data_digest)}
        with locked(self.file, WAIT_S):
            if not self._said.is_file():
                write_whole(self._said, write_toml(said))
                return
        before, now = read_toml(self._said), tomllib.loads(write_toml(said))
        changed = [key for key in now if before.get(key) != now[key]]
        if before.get("recipe", {}).get("data_digest") != self.data.data_digest:
            changed = ["data set"]
        if changed:
            raise InputError(f"{self.folder}: its trials were made with another {changed[0]}; go on as the "
                             "study was begun, or choose another --out")

    def _one(self) -> bool:
        """Make one trial that nobody else is at; False when there is none."""
        with contextlib.ExitStack() as claim:
            with locked(self.file, WAIT_S):
                trials = self.read()
                number = self._claim(trials, claim)
                if number is None:
                    return False
                if number == len(trials):
                    trials.append(self._next(trials))
                elif trials[number].cut:
                    trials[number] = trials[number].model_copy(update={"state": "running", "cut": False})
                self._write(trials)
            if not self._make(trials[number], trials).cut:
                shutil.rmtree(self._place(number), ignore_errors=True)
        return True

    def _claim(self, trials: list[Trial], claim: contextlib.ExitStack) -> int | None:
        """The number of a trial to make, claimed: one that was left unfinished, that goes on, or the next."""
        numbers = [trial.number for trial in trials if trial.state == "running"]
        if (best := self.budget.goes_on(trials)) is not None:
            numbers.append(best.number)
        if self.budget.begins(trials):
            numbers.append(len(trials))
        for number in numbers:
            with contextlib.suppress(Busy):
                claim.enter_context(locked(self._place(number)))
                return number
        return None

    def _next(self, trials: list[Trial]) -> Trial:
        settings = propose(self.space, trials, self.sampler) if trials else self.space.own_values()
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        return Trial(number=len(trials), settings=settings, when=now, git=git_commit())

    def _make(self, trial: Trial, trials: list[Trial]) -> Trial:
        for twin in trials[: trial.number]:
            if twin.state != "running" and twin.same_as is None and twin.settings == trial.settings:
                told = {"state": twin.state, "value": twin.value, "valid": twin.valid, "reason": twin.reason,
                        "cut": twin.cut}
                self.say(f"{self._title(trial)}: the settings of trial {twin.number}")
                return self.keep(trial.model_copy(update={**told, "same_as": twin.number}))[trial.number]
        goes_on = " goes on" * bool(trial.valid)
        self.say(f"{self._title(trial)}{goes_on}: {_shown(trial.settings)}")
        watch = _Watch(self, trial)
        try:
            cfg = with_label(self.space.configure(trial.settings), self.data)
            task, model = begin(cfg, self.data, (lambda line: None) if trial.number else self.say)
        except InputError as error:  # these settings do not go together
            return self._end(trial, "failed", _short(error))
        try:
            if isinstance(model, Scorer):
                fit = _fitted(model, task, watch)
            else:
                fit = Trainer(task, cfg.train, self._place(trial.number), [watch]).fit(model, resume=True)
        except Pruned as why:
            return self._end(watch.trial, "pruned", str(why))
        except Over:
            return self._end(watch.trial.model_copy(update={"cut": True}), "done", "")
        except (RuntimeError, MemoryError) as error:  # which took its time too, if only a part of an epoch
            took = watch.trial.model_copy(update={"seconds": watch.seconds})
            return self._end(took, "failed", _short(error))
        # an InputError (a full disk) is no fault of the settings: the trial stays to be gone on with
        value = monitored(fit.valid, self.monitor) if fit.status == "done" else watch.trial.value
        return self._end(watch.trial.model_copy(update={"value": value}), fit.status, fit.reason)

    def _end(self, trial: Trial, state: str, reason: str) -> Trial:
        trial = trial.model_copy(update={"state": state, "reason": reason})
        trials = self.keep(trial)
        best = "" if trial.value is None else f", valid {self._worded(trial.value)}"
        took = f"{len(trial.valid)} epochs, {trial.seconds:.0f} s"
        if trial.cut:
            took += f", then {'the minutes were' if self.budget.over(trials) else 'its turn was'} over"
        self.say(f"{self._title(trial)}: {state}{f' ({reason})' if reason else ''}{best}, {took}")
        return trial

    def keep(self, trial: Trial) -> list[Trial]:
        """Put a trial's line in the place of its line before; returns all trials."""
        with locked(self.file, WAIT_S):
            trials = self.read()
            trials[trial.number] = trial
            self._write(trials)
        return trials

    def _write(self, trials: list[Trial]) -> None:
        write_whole(self.file, "".join(trial.model_dump_json() + "\n" for trial in trials))

    def _place(self, number: int) -> Path:
        return self.folder / "trials" / f"{number:04d}"

    def _title(self, trial: Trial) -> str:
        return f"{self.recipe} trial {trial.number}"

    def _worded(self, value: float) -> str:
        return f"{self.monitor} {self.metric(value):.6f}"

    def _choose(self, trials: list[Trial]) -> None:
        """Write the chosen setting as a recipe."""
        best = best_of(trials)
        if best is None:
            self.say(f"{self.recipe}: none of {len(trials)} trials is done, so nothing is chosen")
            return
        cfg = self.space.configure(best.settings)
        if best.cut:  # more epochs than it had were never looked at
            fewer = _cut(cfg.train, len(best.valid))
            cfg = cfg.model_copy(update={"train": cfg.train.model_copy(update=fewer)})
        seed = type(cfg.train).model_fields["seed"].default  # the runs of the recipe have seeds of their own
        more = {"train": cfg.train.model_copy(update={"seed": seed}), "hparams": "valid",
                "trials": len(trials), "minutes": self.budget.timed(trials), "choice": self.choice(trials)}
        settings = cfg.model_copy(update=more).model_dump(mode="json", exclude_defaults=True)
        # a recipe says what differs from the defaults of its model, which are not those of every training
        defaults = RunConfig(model={"name": cfg.model["name"]}).resolved().train.model_dump(mode="json")
        chosen = more["train"].model_dump(mode="json")
        settings["train"] = {key: value for key, value in chosen.items() if value != defaults[key]}
        write_whole(self.folder / "recipe.toml", write_toml(settings))
        for trial in trials:  # ended, so nobody claims them again; a larger budget elsewhere has others
            place = self._place(trial.number)
            shutil.rmtree(place, ignore_errors=True)
            place.with_name(f".{place.name}.lock").unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._place(0).parent.rmdir()
        self.say(f"{self.recipe}: trial {best.number} of {len(trials)} is chosen, valid "
                 f"{self._worded(best.value)}; wrote {self.folder / 'recipe.toml'}")


def _cut(train: TrainConfig, epochs: int) -> dict[str, Any]:
    """What is to be changed in a training of one stage so that it has at most so many epochs."""
    (stage,) = train.stages
    if stage.epochs:
        return {"stages": (stage.model_copy(update={"epochs": epochs}),)}
    return {"epochs": epochs}


class _Watch(Callback):
    """Writes each epoch's validation metrics into the record, and prunes."""

    def __init__(self, study: Study, trial: Trial) -> None:
        self.study, self.trial, self.stops = study, trial, False
        self.before, self.since = trial.seconds, time.perf_counter()

    @property
    def seconds(self) -> float:
        """Of the trial until now."""
        return round(self.before + time.perf_counter() - self.since, 3)

    def on_epoch_end(self, info: dict[str, Any]) -> None:
        valid = (*self.trial.valid[: info["epoch"] - 1], info["valid"])  # a resume may repeat an epoch
        value = max(monitored(metrics, self.study.monitor) for metrics in valid)
        self.trial = self.trial.model_copy(
            update={"valid": valid, "value": value, "seconds": self.seconds})
        trials = self.study.keep(self.trial)
        if len(self.study.space.base.train.stages) > 1:  # whose last one is what counts
            return
        if self.study.pruner == "median" and lags(trials, self.trial.number, self.study.monitor):
            raise Pruned(f"below the median of the trials before it after epoch {len(valid)}")
        self.stops = self.study.budget.stops(trials, self.trial.number)

    def on_epoch_start(self, info: dict[str, Any]) -> None:
        if self.stops:  # the state is saved now, and can be gone on from
            raise Over


def _fitted(model: Scorer, task: Any, watch: _Watch) -> Fit:
    """What is fitted without a training, looked at once: one epoch for the record."""
    model.fit(task.learnt)
    valid = task.evaluate(model, task.valid, 0).metrics
    if not valid:
        return Fit("dead", "its scores are not finite", 0, 0, {}, 0.0, 0.0, 0.0)
    watch.on_epoch_end({"epoch": 1, "valid": valid})
    return Fit("done", "", 1, 1, valid, 0.0, 0.0, 0.0)


def plan(targets: Sequence[str], data: str, assignments: Sequence[str], seed: int) -> list[Task]:
    """What to tune: recipes, patterns of recipes and suite files; with `data`, models and single recipes."""
    tasks = []
    for target in targets:
        if data:
            tasks.append(Task(target, configure(target, data, list(assignments), seed), tuple(assignments)))
        elif any(c in target for c in "/*?[") or target.endswith(".toml"):
            tasks += plan_recipes([target], [seed], assignments)
        else:
            raise InputError(f"tune {target}: name the data of a model, --data PREPARED_FOLDER, or a recipe")
    return tasks


def fixed_by(task: Task) -> list[str]:
    """The settings that the user fixed, by --set or in a suite file."""
    return [assignment.partition("=")[0].strip() for assignment in task.overrides]


def folder_of(task: Task, parent: Path) -> Path:
    """PARENT/BOARD/RECIPE."""
    return parent / task.cfg.board / Path(task.recipe).name.removesuffix(".toml")


def run(studies: Sequence[Study]) -> list[Study]:
    """Work on all studies that nobody else is at; returns those that other processes are still at."""
    left = list(studies)
    while left:
        busy = [study for study in left if not study.run()]
        if len(busy) == len(left):
            break
        left = busy
    return left


def not_chosen(studies: Sequence[Study]) -> list[Study]:
    """Those without a chosen setting."""
    return [study for study in studies if best_of(study.read()) is None]


def write_suite(board: Path, seed: int) -> Path:
    """A suite of all recipes chosen for a board, over seeds that they were not tuned with."""
    recipes = [str(path) for path in sorted(board.glob("*/recipe.toml"))]
    seeds = list(range(seed + 1, seed + 1 + FRESH_SEEDS))
    write_whole(board / "suite.toml", write_toml({"recipes": recipes, "seeds": seeds}))
    return board / "suite.toml"


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:500] or type(error).__name__


def _shown(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name.rpartition('.')[2]} {value}" for name, value in settings.items())
