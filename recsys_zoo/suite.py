"""Many runs: which ones there are, which are missing, and making them, beside other processes that do so too.

A run is claimed by a lock of the kernel beside its folder, held until its row is in the file of rows; so a
killed process leaves its run to the others, who go on with it, and no row is lost or written twice.
"""

from __future__ import annotations

import fnmatch
import math
import shlex
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from . import audit, catalog, references, runs
from .board.draws import keep
from .board.rows import Row, append_row, read_rows
from .config import Frozen, read_toml
from .data.store import Prepared
from .display import worded
from .errors import Busy, InputError, unknown_name
from .files import locked
from .launch import configure, default_folder, open_data
from .models.base import Scorer
from .runs import RunConfig
from .train.trainer import Trainer


class Suite(Frozen):
    """A file of runs: recipes times seeds, all with the same overrides."""

    recipes: tuple[str, ...] = Field(min_length=1, description='names, "board/*", or .toml files')
    seeds: tuple[int, ...] = Field((1, 2, 3, 4, 5), min_length=1, description="seeds of every recipe")
    overrides: tuple[str, ...] = Field((), description='as --set takes them: "train.table_update=exact"')


@dataclass(frozen=True)
class Task:
    """One run of a suite: its settings resolved, and the overrides that are among them."""

    recipe: str
    cfg: RunConfig
    overrides: tuple[str, ...]

    @property
    def name(self) -> str:
        """The recipe with the seed."""
        return f"{self.recipe} seed {self.cfg.train.seed}"

    @property
    def command(self) -> str:
        """What makes this run alone."""
        words = ["recsys-zoo", "train", self.recipe, "--seed", str(self.cfg.train.seed)]
        return shlex.join([*words, *(word for a in self.overrides for word in ("--set", a))])


def plan(targets: Sequence[str], seeds: Sequence[int], assignments: Sequence[str]) -> list[Task]:
    """The runs of recipes, patterns of recipes and suite files, seed by seed, each once.

    InputError for every mistake in names and settings, before anything is run.
    """
    wanted: dict[tuple[str, int, tuple[str, ...]], None] = {}
    for target in targets:
        suite = _suite_file(target)
        recipes = suite.recipes if suite else (target,)
        more = (*(suite.overrides if suite else ()), *assignments)
        for recipe in (name for entry in recipes for name in _recipes(entry)):
            for seed in seeds or (suite.seeds if suite else Suite.model_fields["seeds"].default):
                wanted[recipe, seed, more] = None
    return [Task(recipe, configure(recipe, "", list(more), seed), more) for recipe, seed, more in wanted]


def _suite_file(target: str) -> Suite | None:
    """The suite in a .toml file that has `recipes`; None for a recipe."""
    if not target.endswith(".toml") or not Path(target).is_file():
        return None
    values = read_toml(Path(target))
    return Suite.parse(values, target) if "recipes" in values else None


def _recipes(entry: str) -> list[str]:
    """A recipe, or those that a pattern fits."""
    if any(c in entry for c in "*?["):
        found = fnmatch.filter(catalog.recipes(), entry)
        if not found:
            raise InputError(f"no recipe fits {entry!r}; see benchmarks/recipes")
        return found
    if catalog.find_recipe(entry) is None:
        raise unknown_name("recipe", entry, catalog.recipes(), "see benchmarks/recipes")
    return [entry]


@dataclass(frozen=True)
class Estimate:
    """Runs of a recipe to do, MiB of tables and moments, and seconds of a run or, unless known, an epoch,
    where there is a training."""

    recipe: str
    runs: int
    mib: int
    run: float | None = None
    epoch: float | None = None
    epochs: int = 0  # at most


@dataclass
class Runner:
    """Makes the missing runs of a plan.

    rows: the file rows are added to (default: PARENT/BOARD/rows.jsonl); parent: of the run folders. Failed
    runs have rows too and are not repeated, unless `retry`. Models in which nothing is drawn (`seeded`) have
    one row, of the first seed.
    """

    tasks: list[Task]
    rows: Path | None = None
    raw: Path | None = None
    parent: Path = Path("runs")
    retry: bool = False
    say: Any = print
    data: dict[str, Prepared] = field(default_factory=dict)
    took: list[float] = field(default_factory=list)

    def run(self) -> int:
        """Make what is missing and nobody else is at; returns how many runs of the plan have no row yet."""
        left = list(self.tasks)
        while left:
            busy = [task for task in left if not self._make(task)]
            if len(busy) == len(left):
                break
            left = busy
        for task in left:
            self.say(f"{task.name}: another process is at it")
        return len(left)

    def failed(self) -> list[Task]:
        """The runs of the plan whose last row says that they failed."""
        found = []
        for task in self.tasks:
            data = self._open(task)
            made = list(_rows_of(self._target(task), runs.with_label(task.cfg, data), data))
            if made and made[-1].status == "failed":
                found.append(task)
        return found

    def _make(self, task: Task) -> bool:
        """False when another process holds the run; else its row is in the file afterwards."""
        target, folder = self._target(task), default_folder(task.cfg, self.parent)
        data = self._open(task)
        cfg = runs.with_label(task.cfg, data)
        if self._row(target, cfg, data) is not None:
            return True
        try:
            with locked(folder.parent / f"{folder.name}.claim"):
                self._add_beside(target, task, cfg, data)
                if self._row(target, cfg, data) is None:
                    place, all_of_them = self.tasks.index(task) + 1, len(self.tasks)
                    self.say(f"[{place}/{all_of_them}] {task.name}{self._left(all_of_them - place + 1)}")
                    since = time.perf_counter()
                    row = self._train(task, cfg, data, folder)
                    keep(folder, target, row.scores_digest)
                    append_row(target, row)
                    self.took.append(time.perf_counter() - since)
        except Busy:
            return False
        return True

    def _train(self, task: Task, cfg: RunConfig, data: Prepared, folder: Path) -> Row:
        if (folder / "row.json").is_file():  # killed before the row was in the file
            row = runs.read_row(folder)
            if not runs.is_row_of(row, cfg, data.data_digest):
                raise InputError(f"{folder}: holds a run on other data; choose another --out")
            return row
        resume = (folder / "config.toml").is_file()
        try:
            return runs.train(cfg, data, folder, resume=resume, command=task.command, say=self.say)
        except Busy:  # somebody trains this run alone
            raise
        except (InputError, RuntimeError, MemoryError) as error:
            reason = " ".join(str(error).split())[:500] or type(error).__name__
            self.say(f"{task.name} failed: {reason}")
            return runs.failed_row(cfg, data, reason, task.command)

    def _row(self, target: Path, cfg: RunConfig, data: Prepared) -> Row | None:
        """The row that the file has of a run."""
        rows = _rows_of(target, cfg, data)
        return next((row for row in rows if not (self.retry and row.status == "failed")), None)

    def _add_beside(self, target: Path, task: Task, cfg: RunConfig, data: Prepared) -> None:
        """Floors in the file of rows, and the audit of the data beside it, once a data set, label and
        protocol."""
        file = audit.file_beside(target, data.data_digest, cfg.label)
        with locked(file, math.inf):
            floors = _floors(target, cfg, data)
            if not floors:
                command = f"recsys-zoo board run {task.recipe}"
                floors = references.floors(
                    data, cfg.board, cfg.label, command=command, protocol=cfg.protocol)
                for row in floors:
                    append_row(target, row)
            if not file.is_file():
                audit.save(audit.audit(data, cfg.label, floors=floors), file)

    def _target(self, task: Task) -> Path:
        return self.rows or self.parent / task.cfg.board / "rows.jsonl"

    def _open(self, task: Task) -> Prepared:
        name = task.cfg.data
        if name not in self.data:
            self.data[name] = open_data(name, self.raw)
        return self.data[name]

    def _left(self, count: int) -> str:
        """The time that so many runs take by the runs before, in words."""
        return f", about {worded(statistics.fmean(self.took) * count)} left" if self.took else ""

    def estimate(self) -> Iterator[Estimate]:
        """What each recipe with runs to do takes.

        Seconds are the mean of rows of equal settings and other seeds; without any, some steps are taken.
        """
        by_recipe: dict[tuple[str, tuple[str, ...]], list[Task]] = {}
        for task in self.tasks:
            by_recipe.setdefault((task.recipe, task.overrides), []).append(task)
        for tasks in by_recipe.values():
            first, data = tasks[0], self._open(tasks[0])
            rows = [row for row in _rows(self._target(first)) if row.role == "model" and row.status == "done"]
            cfgs = [runs.with_label(task.cfg, data) for task in tasks]
            missing = [cfg for cfg in cfgs if self._row(self._target(first), cfg, data) is None]
            if not missing:
                continue
            cfg, mib = missing[0], runs.table_mib(missing[0], data)
            alike = [row.model_copy(update={"seed": cfg.train.seed}) for row in rows]
            seconds = [row.seconds for row in alike if runs.is_row_of(row, cfg, data.data_digest)]
            if seconds:
                yield Estimate(first.recipe, len(missing), mib, run=statistics.fmean(seconds))
            else:
                epoch = _seconds_of_epoch(cfg, data)
                yield Estimate(first.recipe, len(missing), mib, epoch=epoch, epochs=cfg.train.epochs)


def _seconds_of_epoch(cfg: RunConfig, data: Prepared) -> float | None:
    """How long an epoch of a run takes with its validation, by some steps of it; None without a training."""
    task, model = runs.begin(cfg.resolved(), data, lambda line: None)
    return None if isinstance(model, Scorer) else Trainer(task, cfg.train).seconds_of_epoch(model)


def _floors(target: Path, cfg: RunConfig, data: Prepared) -> list[Row]:
    """The floors of these data, label and protocol that the file has."""
    floors = [row for row in _rows(target) if row.role == "floor" and row.data_digest == data.data_digest]
    return [row for row in floors if row.config.get("label", "") == cfg.label
            and row.config.get("protocol", "honest") == cfg.protocol]


def _rows_of(path: Path, cfg: RunConfig, data: Prepared) -> Iterator[Row]:
    """The rows that the file has of a run; one with any seed serves where nothing is drawn in the model."""
    for row in _rows(path):
        any_seed = row if row.seeded else row.model_copy(update={"seed": cfg.train.seed})
        if runs.is_row_of(any_seed, cfg, data.data_digest):
            yield row


def _rows(path: Path) -> list[Row]:
    return read_rows(path) if path.is_file() else []
