"""Coat: an ablation for each hypothesis on the order of unbiased.py's models, and what choosing costs.

    python benchmarks/unbiased_ablations.py trials --data prepared/coat --studies tuning/coat \\
        --out benchmarks/results/studies/coat_trials.csv
    python benchmarks/unbiased_ablations.py ablate --data prepared/coat --raw COAT --studies tuning/coat \\
        --trials benchmarks/results/studies/coat_trials.csv --out benchmarks/results/studies/coat.csv

`trials` tests the settings of every trial. That is a diagnosis of the rule of choice: nothing of it enters
unbiased.py's rows. Both go on where they were stopped.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import torch
from torch import Tensor
from unbiased import METRICS, MODELS, SEEDS, read_lines, study, write_lines

from data_prep.coat import ITEMS, USERS
from recsys_zoo import create
from recsys_zoo.data.encode import Encoder
from recsys_zoo.data.store import Prepared
from recsys_zoo.losses.propensity import popularity_propensities
from recsys_zoo.models.base import Scorer
from recsys_zoo.rankruns import measured
from recsys_zoo.runs import RunConfig, model_settings, read_recipe
from recsys_zoo.schema import FIRST
from recsys_zoo.tasks.ranking import RankingTask
from recsys_zoo.train.position import Fit
from recsys_zoo.train.trainer import Trainer
from recsys_zoo.trials import Trial

BOTH = ("train", "valid")
NAIVE = "recall@20"  # of valid, that knows nothing of propensities
ALL_PAIRS = 50  # unlabelled pairs a click: of Coat's 87,000 pairs 1,716 are clicks in train, one in 50.7
FIELDS = ("hypothesis", "variant", "seed", *METRICS, *(f"rare_{metric}" for metric in METRICS))
OF_TRIALS = ("model", "trial", "settings", "valid_snips_dcg@5", f"valid_{NAIVE}", "dcg@5", "rare_dcg@5")


class Ablation(NamedTuple):
    """One variant, of one hypothesis: settings, and propensities [I] or [U, I] of the user's own, or none."""

    hypothesis: str
    variant: str
    cfg: RunConfig
    theta: Tensor | None = None


def ablations(options: argparse.Namespace, data: Prepared) -> Iterator[Ablation]:
    """Every variant has the settings that were chosen for MF, but for what its name says."""
    chosen = read_recipe(options.studies / "MF" / "recipe.toml").resolved()

    def variant(**settings: Any) -> RunConfig:
        return chosen.model_copy(update={"model": {**chosen.model, "name": "relmf", **settings}})

    for clip in (1.0, 0.5, 0.25, 0.0):
        yield Ablation("variance", f"M = {clip:g}", variant(clip=clip))
    rated, shipped = exposures(options.raw, data)
    yield Ablation("propensity", "by ratings of any value, M = 0", variant(clip=0.0), rated)
    yield Ablation("propensity", "shipped with the data, M = 0", variant(clip=0.0), shipped)
    yield Ablation("popularity", "popularity alone", RunConfig(model={"name": "popularity"}).resolved())
    for clip in (1.0, 0.0):
        yield Ablation("batches", f"all pairs alike, M = {clip:g}", variant(clip=clip, negatives=ALL_PAIRS))
    yield Ablation("errors", "log, M = 1", variant(clip=1.0, error="log"))
    yield Ablation("errors", "log, M = 0", variant(clip=0.0, error="log"))
    yield Ablation("unbounded", "1 - Y / theta cut at 0, M = 0", variant(clip=0.0, non_negative=True))
    if options.trials:
        yield from choices(options, data)


def choices(options: argparse.Namespace, data: Prepared) -> Iterator[Ablation]:
    """The settings that other rules choose from the same trials."""
    tested_trials = read_lines(options.trials)
    for name in MODELS:
        of_model = study(name, data, options.studies / name)
        trials = finished(of_model.read())
        naive = max(trials, key=lambda trial: max(valid[NAIVE] for valid in trial.valid))
        own = [line for line in tested_trials if line["model"] == name]
        by_test = max(own, key=lambda line: float(line["dcg@5"]))
        for trial, words, monitor in (
            (naive, f"by {NAIVE} of valid", NAIVE),
            (of_model.read()[int(by_test["trial"])], "by the test itself: a diagnosis, no result", ""),
        ):
            cfg = of_model.space.configure(trial.settings)
            if monitor:
                cfg = cfg.model_copy(update={"train": cfg.train.model_copy(update={"monitor": monitor})})
            yield Ablation("choice", f"{name}, chosen {words}", cfg)


def finished(trials: list[Trial]) -> list[Trial]:
    """Those that are done, equal settings once."""
    return [trial for trial in trials if trial.state == "done" and trial.same_as is None]


def exposures(raw: Path, data: Prepared) -> tuple[Tensor, Tensor]:
    """By how often an item was rated at all in training [I]; and the estimates shipped with Coat [U, I], the
    largest of them 1, as those by popularity are."""
    ratings = pl.read_parquet(raw / "train.parquet")
    counts = torch.bincount(numbers(data, "item", ratings["item"]), minlength=ITEMS)
    pairs = pl.read_parquet(raw / "propensities.parquet")
    table = torch.zeros(USERS, ITEMS)
    table[numbers(data, "user", pairs["user"]), numbers(data, "item", pairs["item"])] = torch.from_numpy(
        pairs["propensity"].to_numpy().copy()).float()
    return popularity_propensities(counts, 1.0).float(), table / table.max()


def numbers(data: Prepared, column: str, ids: pl.Series) -> Tensor:
    """Numbers from 0 of raw ids."""
    encoder = Encoder.open(data.folder / "encoding")
    return torch.from_numpy(encoder.vocabularies[column].encode(ids.cast(pl.String))).long() - FIRST


def tested(ablation: Ablation, data: Prepared, seed: int, epochs: int) -> dict[str, float]:
    """Metrics on test, fitted as a run of the honest protocol is; epochs: the best one, or 0 (found)."""
    cfg = ablation.cfg.train.model_copy(update={"seed": seed})

    def made() -> Any:
        return create(ablation.cfg.model["name"], data.schema, seed=seed, **model_settings(ablation.cfg))

    def fit(model: Any, splits: tuple[str, ...], rates: tuple[float, ...] | None = None) -> Fit:
        model.prepare(data.lists(*splits))
        if ablation.theta is not None:
            model.use_propensities(ablation.theta)
        task = RankingTask(data, model.negatives, train=splits, valid="" if rates else "valid",
                           drawn_from="users", snips=("snips_dcg@5",))
        return Trainer(task, cfg, schedule=rates).fit(model)

    model = made()
    if isinstance(model, Scorer):
        model.fit(data.lists(*BOTH))
    elif epochs:
        fit(model, BOTH, (cfg.lr,) * epochs)
    else:
        found = fit(made(), ("train",))
        fit(model, BOTH, found.rates[: found.best_epoch])
    return measured(model, data, BOTH, "test").means


def trials(options: argparse.Namespace) -> None:
    """One line a trial, with the seed of the trials."""
    data = Prepared.open(options.data)
    lines = read_lines(options.out) if options.out.is_file() else []
    for name in MODELS:
        of_model = study(name, data, options.studies / name)
        for trial in finished(of_model.read()):
            key = {"model": name, "trial": str(trial.number)}
            if any(key.items() <= line.items() for line in lines):
                continue
            cfg = of_model.space.configure(trial.settings)
            epochs = 1 + max(range(len(trial.valid)), key=lambda e: trial.valid[e][cfg.train.monitor])
            found = tested(Ablation("choice", name, cfg), data, cfg.train.seed, epochs)
            naive = max(valid[NAIVE] for valid in trial.valid)
            values = (trial.value, naive, found["dcg@5"], found["rare_dcg@5"])
            told = dict(zip(OF_TRIALS[3:], (f"{value:.6f}" for value in values), strict=True))
            lines.append(key | {"settings": json.dumps(trial.settings)} | told)
            write_lines(options.out, OF_TRIALS, lines)
            print(*key.values(), told, flush=True)


def ablate(options: argparse.Namespace) -> None:
    """One line a variant and seed."""
    data = Prepared.open(options.data)
    done = read_lines(options.out) if options.out.is_file() else []
    for ablation in ablations(options, data):
        for seed in SEEDS[:1] if ablation.hypothesis == "popularity" else SEEDS[:3]:
            if any((line["variant"], line["seed"]) == (ablation.variant, str(seed)) for line in done):
                continue
            found = tested(ablation, data, seed, 0)
            line = {"hypothesis": ablation.hypothesis, "variant": ablation.variant, "seed": str(seed)}
            done.append(line | {name: f"{found[name]:.6f}" for name in FIELDS[3:]})
            write_lines(options.out, FIELDS, done)
            print(ablation.variant, seed, f"dcg@5 {found['dcg@5']:.4f}", flush=True)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    for name, function in (("trials", trials), ("ablate", ablate)):
        command = commands.add_parser(name, help=function.__doc__)
        command.set_defaults(run=function)
        command.add_argument("--out", type=Path, required=True)
        command.add_argument("--data", type=Path, required=True, help="prepared folder of coat")
        command.add_argument("--studies", type=Path, required=True, help="the --out of unbiased.py tune")
        if name == "ablate":
            command.add_argument("--raw", type=Path, required=True, help="raw Parquet files of Coat")
            command.add_argument("--trials", type=Path, help="the --out of trials, for the rules of choice")
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
