"""Coat: MF, WMF, Rel-MF and ExpoMF on the randomised test, each tuned by as many trials on the SNIPS metric.

    python benchmarks/unbiased.py tune --data prepared/coat --out tuning/coat
    python benchmarks/unbiased.py run --data prepared/coat --studies tuning/coat --out runs/coat \\
        --rows benchmarks/results/coat.jsonl
    python benchmarks/unbiased.py table --rows benchmarks/results/coat.jsonl \\
        --ablations benchmarks/results/studies/coat.csv --trials benchmarks/results/studies/coat_trials.csv \\
        --out benchmarks/results/coat.md

tune and run go on where they were stopped. No setting and no epoch is chosen on the test. The ablations are
made by unbiased_ablations.py.
"""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import polars as pl

from recsys_zoo.board.rows import Row, append_row, read_rows
from recsys_zoo.config import nested, write_toml
from recsys_zoo.data.store import Prepared
from recsys_zoo.files import write_whole
from recsys_zoo.runs import RunConfig, read_recipe, train
from recsys_zoo.space import space_of
from recsys_zoo.train.callbacks import Callback
from recsys_zoo.tuning import Study

MODELS = {"MF": "relmf.naive", "WMF": "wmf", "Rel-MF": "relmf", "ExpoMF": "expomf"}
TRIALS = 20
SEEDS = tuple(range(2, 12))  # none of them that of the trials, 1
METRICS = tuple(f"{metric}@{k}" for metric in ("dcg", "recall", "map", "ndcg") for k in (1, 3, 5))
TRAINING = {"batch_size": 512, "patience": 30, "epochs": 300, "save_every_s": 3600.0}
WIDTHS = {"choices": [10, 30, 50, 100, 200]}
SPACES: dict[str, dict[str, Any]] = {  # what is tuned; where no range is given, it is the setting's own
    "MF": {}, "WMF": {"model.unlabelled_weight": {}}, "Rel-MF": {"model.clip": {}, "model.power": {}},
    "ExpoMF": {"model.dim": WIDTHS, "model.l2": {}, "model.precision": {}, "model.exposure": {},
               "model.epochs": {}},
}
TRAINED = {"model.embedding.dim": WIDTHS, "train.lr": {"low": 1e-3, "high": 2e-2, "log": True},
           "train.table_l2": {"low": 1e-6, "high": 1e-2, "log": True}}  # of all but ExpoMF
FIGURES = {  # digitised from the README of usaito/unbiased-implicit-rec-real: one run, +-0.0002
    "all": {"WMF": (0.0117, 0.0275, 0.0361), "ExpoMF": (0.0156, 0.0318, 0.0403),
            "Rel-MF": (0.0190, 0.0396, 0.0486)},
    "rare": {"WMF": (0.0097, 0.0253, 0.0340), "ExpoMF": (0.0162, 0.0325, 0.0402),
             "Rel-MF": (0.0158, 0.0361, 0.0450)},
}


def base(model: str, **more: Any) -> RunConfig:
    """The recipe that is tuned."""
    settings = {"board": "coat", "data": "coat", "model": {"name": model}, "train": TRAINING, **more}
    return RunConfig.parse(settings, "unbiased").resolved()


def study(name: str, data: Prepared, folder: Path) -> Study:
    """The study of a model. Nothing is pruned: the first epochs say little here."""
    tuned = SPACES[name] | (TRAINED if name != "ExpoMF" else {})
    ranges = folder / "ranges.toml"
    write_whole(ranges, write_toml(nested({key: search for key, search in tuned.items() if search})))
    space = space_of(base(MODELS[name]), only=list(tuned), file=ranges)
    return Study(name, space, data, folder, TRIALS, pruner="none")


def tune(options: argparse.Namespace) -> None:
    """As many trials for each model."""
    data = Prepared.open(options.data)
    for name in MODELS:
        study(name, data, options.out / name).run()


def run(options: argparse.Namespace) -> None:
    """The chosen settings over the seeds, each tested once."""
    data, have = Prepared.open(options.data), set()
    if options.rows.is_file():
        have = {(row.label, row.seed) for row in read_rows(options.rows)}
    for name in MODELS:
        cfg = read_recipe(options.studies / name / "recipe.toml")
        for seed in SEEDS:
            if (MODELS[name], seed) in have:
                continue
            seeded = cfg.model_copy(update={"train": cfg.train.model_copy(update={"seed": seed})})
            out = options.out / f"{name}-{seed}"
            row = train(seeded, data, out, say=lambda line: None, callbacks=[Callback()])
            append_row(options.rows, row)
            print(name, seed, f"dcg@5 {row.metrics['test.dcg@5']:.4f}", flush=True)


def read_lines(path: Path) -> list[dict[str, str]]:
    """The lines of the CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_lines(path: Path, fields: Sequence[str], lines: Sequence[dict[str, str]]) -> None:
    """Lines as a whole CSV file."""
    out = io.StringIO()
    writer = csv.DictWriter(out, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_whole(path, out.getvalue())


def spread(values: list[float]) -> str:
    """Mean and deviation over seeds."""
    return f"{fmean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")


def table(options: argparse.Namespace) -> None:
    """Both tables, the ratios beside those of the figures, and the ablations."""
    rows: dict[str, list[Row]] = {name: [] for name in MODELS}
    names = {label: name for name, label in MODELS.items()}
    for row in read_rows(options.rows):
        rows[names[row.label]].append(row)
    lines = ["# Coat, randomised test", "", "Means over seeds with their deviation; made by "
             "`python benchmarks/unbiased.py table`, read by README.md's section coat.", ""]
    for part, title in (("", "All judged items"), ("rare_", "Rare items")):
        lines += [f"## {title}", "", f"| model | {' | '.join(METRICS)} |", "|---" * (len(METRICS) + 1) + "|"]
        for name, own in rows.items():
            cells = [spread([row.metrics[f"test.{part}{metric}"] for row in own]) for metric in METRICS]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines += ["", *ratios(rows, part), ""]
    lines += ["## Chosen settings", "", *settings(rows), "", "## Ablations", ""]
    lines += ["| hypothesis | variant | seeds | DCG@5 | DCG@5, rare |", "|---|---|---|---|---|"]
    groups: dict[tuple[str, str], list[dict[str, str]]] = {}
    for line in read_lines(options.ablations):
        groups.setdefault((line["hypothesis"], line["variant"]), []).append(line)
    for (hypothesis, variant), own in groups.items():
        cells = [spread([float(line[name]) for line in own]) for name in ("dcg@5", "rare_dcg@5")]
        lines.append(f"| {hypothesis} | {variant} | {len(own)} | {' | '.join(cells)} |")
    if options.trials:
        lines += ["", "## Trials on test: a diagnosis, nothing was chosen by it", ""]
        lines += correlations(read_lines(options.trials))
    write_whole(options.out, "\n".join(lines) + "\n")
    print("\n".join(lines))


def correlations(trials: list[dict[str, str]]) -> list[str]:
    """Of the trials of each model: how well the order on valid, by two metrics, is that on test."""
    metrics = ("valid_snips_dcg@5", "valid_recall@20")
    lines = ["| model | trials | Spearman of SNIPS DCG@5 on valid, and DCG@5 on test | of recall@20 | "
             "DCG@5 of test, best by SNIPS | best by itself |", "|---" * 6 + "|"]
    for name in dict.fromkeys(line["model"] for line in trials):
        own = pl.DataFrame([line for line in trials if line["model"] == name]).cast(
            dict.fromkeys((*metrics, "dcg@5"), pl.Float64))
        cells = [own.select(pl.corr(metric, "dcg@5", method="spearman")).item() for metric in metrics]
        test = own["dcg@5"]
        cells += [test[own[metrics[0]].arg_max()], test.max()]
        numbers = " | ".join(f"{cell:.{digits}f}" for cell, digits in zip(cells, (2, 2, 4, 4), strict=True))
        lines.append(f"| {name} | {len(own)} | {numbers} |")
    return lines


def ratios(rows: dict[str, list[Row]], part: str) -> list[str]:
    """Rel-MF's DCG over that of the others, beside the same of the digitised figures."""
    lines = ["| Rel-MF over | DCG@1 | DCG@3 | DCG@5 | figures, DCG@1 | DCG@3 | DCG@5 |", "|---" * 7 + "|"]
    figures = FIGURES["rare" if part else "all"]
    for name in ("MF", "WMF", "ExpoMF"):
        ours, theirs = [], []
        for place, k in enumerate((1, 3, 5)):
            one, other = (fmean(row.metrics[f"test.{part}dcg@{k}"] for row in rows[n])
                          for n in ("Rel-MF", name))
            ours.append(f"{one / other:.3f}")
            printed = figures["Rel-MF"][place] / figures[name][place] if name in figures else None
            theirs.append("-" if printed is None else f"{printed:.3f}")
        lines.append(f"| {name} | {' | '.join(ours + theirs)} |")
    return lines


def settings(rows: dict[str, list[Row]]) -> list[str]:
    """What was tuned, as it was chosen, and its value on valid over the seeds."""
    lines = ["| model | chosen | trials | valid SNIPS DCG@5 over seeds |", "|---|---|---|---|"]
    for name, own in rows.items():
        config = own[0].config
        chosen = []
        for key in (*SPACES[name], *(TRAINED if name != "ExpoMF" else ())):
            value: Any = config
            for part in key.split("."):
                value = value[part]
            chosen.append(f"{key.rpartition('.')[2]} {value:g}")
        valid = spread([row.metrics["valid.snips_dcg@5"] for row in own])
        lines.append(f"| {name} | {', '.join(chosen)} | {own[0].trials} | {valid} |")
    return lines


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    for name, function in (("tune", tune), ("run", run), ("table", table)):
        command = commands.add_parser(name, help=function.__doc__)
        command.set_defaults(run=function)
        command.add_argument("--out", type=Path, required=True)
        if name != "table":
            command.add_argument("--data", type=Path, required=True, help="prepared folder of coat")
        if name == "run":
            command.add_argument("--studies", type=Path, required=True, help="the --out of tune")
        if name in ("run", "table"):
            command.add_argument("--rows", type=Path, required=True)
        if name == "table":
            command.add_argument("--ablations", type=Path, required=True, help="of unbiased_ablations.py")
            command.add_argument("--trials", type=Path, help="of unbiased_ablations.py")
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
