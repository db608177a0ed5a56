"""New items: models that read the columns of items, on movies and articles that nobody has in training.

    python benchmarks/cold.py tune --data prepared/citeulike_t_cold --out tuning/citeulike_t_cold
    python benchmarks/cold.py run --data prepared/citeulike_t_cold --studies tuning/citeulike_t_cold \\
        --out runs/citeulike_t_cold --rows benchmarks/results/citeulike_t_cold.jsonl
    python benchmarks/cold.py table --rows benchmarks/results/*_cold.jsonl --out benchmarks/results/cold.md

tune and run go on where they were stopped. Every tuned model has as many trials, chosen by recall@20 on the
items of valid, of which no row is in training (the distance of the content by logloss, since a training does
not change its lists; deep CML by either); the items of test are in neither.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from unbiased import spread

from recsys_zoo.board.rows import Row, append_row, read_rows
from recsys_zoo.config import nested, write_toml
from recsys_zoo.data.store import Prepared
from recsys_zoo.evaluation import cold
from recsys_zoo.files import write_whole
from recsys_zoo.runs import RunConfig, read_recipe, train
from recsys_zoo.space import space_of
from recsys_zoo.train.callbacks import Callback
from recsys_zoo.tuning import Study

TRIALS = 20
SEEDS = (2, 3, 4, 5, 6)  # none of them that of the trials, 1
TRAIN = {"epochs": 60, "patience": 3}
LR = {"low": 1e-4, "high": 1e-2, "log": True}
MODELS: dict[str, dict[str, Any]] = {  # where nothing is said, as the models' defaults
    "random vectors": {"model": {"name": "contentknn", "content": "random", "content_dim": 256}},
    "content-KNN": {"model": {"name": "contentknn", "content_dim": 256}},
    "ridge to iALS": {"model": {"name": "contentridge", "content_dim": 256}},
    "CML, features": {"model": {"name": "cml.features", "embedding": {"dim": 64}, "hidden": [256],
                                "content_dim": 256},
                      "train": {"batch_size": 4096, "optimizer": "adam", "lr": 1e-3, "clip_norm": 10.0}},
    "deep CML": {"model": {"name": "deepcml", "content_dim": 256}},
    "deep CML, by logloss": {"model": {"name": "deepcml", "content_dim": 256},
                             "train": {"monitor": "logloss"}},
    "content's distance": {"model": {"name": "deepcml.content", "content_dim": 256},
                           "train": {"monitor": "logloss", "epochs": 20}},
    "two towers": {"model": {"name": "twotower", "content_dim": 256}, "train": {"batch_size": 1024}},
}
WIDTHS = {"choices": [32, 64, 128, 256, 512, 1024]}  # of the content, for all that read it
DEEP: dict[str, Any] = {"train.lr": LR, "model.margin": {}, "model.probability": {}, "model.hidden": {},
                        "model.content_dim": WIDTHS}
SPACES: dict[str, dict[str, Any]] = {  # what is tuned; where no range is given, it is the setting's own
    "content-KNN": {"model.content_dim": {"low": 32, "high": 1024, "log": True}},
    "ridge to iALS": {"model.l2": {"low": 3e-4, "high": 0.01, "log": True},
                      "model.alpha0": {"low": 0.01, "high": 0.3, "log": True}, "model.dim": {},
                      "model.ridge": {"low": 0.03, "high": 30, "log": True}, "model.content_dim": WIDTHS},
    "CML, features": {"train.lr": LR, "model.features": {"low": 0.01, "high": 10, "log": True},
                      "model.margin": {"low": 0.5, "high": 2.0}, "model.content_dim": WIDTHS},
    "deep CML": DEEP,
    "deep CML, by logloss": DEEP,
    "content's distance": {"train.lr": {"low": 1e-3, "high": 0.3, "log": True},  # of three weights and g_0
                           "model.default": {"low": 1e-3, "high": 1.0, "log": True},
                           "model.content_dim": WIDTHS},
    "two towers": {"train.lr": LR, "model.temperature": {}, "model.log_q": {}, "model.hidden": {},
                   "model.content_dim": WIDTHS},
}
METRICS = ("recall@20", "ndcg@20", "recall@50", "auc", "user_auc", "item_auc", "item_recall@1%",
           "item_recall@5%")
TIERS = tuple(f"{tier}_{metric}" for metric in ("recall@20", "user_auc") for tier in cold.TIERS)
CHANCES = ("logloss", "base_logloss", "calibration_error")


def base(name: str, board: str) -> RunConfig:
    """The recipe that is tuned, or, of the control, run as it is."""
    settings = MODELS[name]
    training = {**TRAIN, "save_every_s": 3600.0, **settings.get("train", {})}
    said = {"board": board, "data": board, "model": settings["model"], "train": training}
    return RunConfig.parse(said, "cold").resolved()


def tune(options: argparse.Namespace) -> None:
    """As many trials for each model; none is pruned, patience ends what no longer gains."""
    data = Prepared.open(options.data)
    for name in (name for name in options.models if name in SPACES):
        tuned = SPACES[name]
        folder = options.out / name
        ranges = folder / "ranges.toml"
        write_whole(ranges, write_toml(nested({key: search for key, search in tuned.items() if search})))
        space = space_of(base(name, data.schema.dataset), only=list(tuned), file=ranges)
        Study(name, space, data, folder, TRIALS, pruner="none").run()


def run(options: argparse.Namespace) -> None:
    """The chosen settings over the seeds, each tested once; what draws nothing has one seed."""
    data, have = Prepared.open(options.data), set()
    if options.rows.is_file():
        have = {(label_of(row), row.seed) for row in read_rows(options.rows)}
    for seed in SEEDS:  # a study that is stopped has as many of each model
        for name in options.models:
            if (name, seed) in have or (name == "content-KNN" and seed != SEEDS[0]):
                continue
            recipe = options.studies / name / "recipe.toml"
            cfg = read_recipe(recipe).resolved() if name in SPACES else base(name, data.schema.dataset)
            seeded = cfg.model_copy(update={"train": cfg.train.model_copy(update={"seed": seed})})
            out = options.out / f"{name}-{seed}"
            row = train(seeded, data, out, resume=(out / "config.toml").is_file(), say=lambda line: None,
                        callbacks=[Callback()])
            append_row(options.rows, row)
            print(name, seed, f"recall@20 {row.metrics['test.recall@20']:.4f}", flush=True)


def label_of(row: Row) -> str:
    """The name of a row's model in this study."""
    settings, monitor = row.config["model"], row.config["train"]["monitor"]
    return next(name for name in MODELS if (said := base(name, row.board)).model["name"] == settings["name"]
                and said.train.monitor == monitor and said.model.get("content") == settings.get("content"))


def table(options: argparse.Namespace) -> None:
    """A section for each data set."""
    lines = ["# New items", "", "Candidates are the items of the test split alone, of which no row is in "
             "train or valid; means over seeds with their deviation. See benchmarks/cold.py.", ""]
    for path in options.rows:
        lines += section(read_rows(path))
    write_whole(options.out, "\n".join(lines).rstrip() + "\n")
    print("\n".join(lines))


def section(rows: list[Row]) -> list[str]:
    """The models over the seeds, the tiers, the probabilities and the settings of one data set."""
    own: dict[str, list[Row]] = {name: [] for name in MODELS}
    for row in rows:
        own[label_of(row)].append(row)
    own = {name: found for name, found in own.items() if found}

    def block(title: str, names: tuple[str, ...]) -> list[str]:
        able = {name: these for name, these in own.items()
                if all(f"test.{names[0]}" in row.metrics for row in these)}
        names = tuple(metric for metric in names  # older rows have fewer
                      if all(f"test.{metric}" in row.metrics for these in able.values() for row in these))
        found = [f"### {title}", "", f"| model | seeds | {' | '.join(names)} |",
                 "|---" * (len(names) + 2) + "|"]
        for name, these in able.items():
            cells = [spread([row.metrics[f"test.{metric}"] for row in these]) for metric in names]
            found.append(f"| {name} | {len(these)} | {' | '.join(cells)} |")
        return [*found, ""]

    control = rows[0].metrics
    lines = [f"## {rows[0].board}", "", *block("Over users, pairs and items", METRICS),
             "A scorer that knows only how many items a user had before: auc "
             f"{control['test.frequency_auc']:.4f}, item_auc {control['test.frequency_item_auc']:.4f}, "
             "user_auc 0.5.", "",
             *block("Users by their number of items before", TIERS), *block("Probabilities", CHANCES),
             "### Chosen settings", "",
             "| model | chosen | trials | best epoch of at most | valid recall@20 over seeds |",
             "|---" * 5 + "|"]
    for name, these in own.items():
        config = these[0].config
        chosen = [f"{key.rpartition('.')[2]} {value_of(config, key)}" for key in SPACES.get(name, {})]
        valid = spread([row.metrics["valid.recall@20"] for row in these])
        epochs = "-"  # of what is fitted without a training
        if these[0].epochs:
            best = ", ".join(str(row.best_epoch) for row in these)
            epochs = f"{best} of {config['train']['epochs']}"
        tried = these[0].trials if name in SPACES else "not tuned"
        lines.append(f"| {name} | {', '.join(chosen) or '-'} | {tried} | {epochs} | {valid} |")
    return [*lines, ""]


def value_of(config: dict[str, Any], key: str) -> str:
    """A setting by its dotted name, as text."""
    value: Any = config
    for part in key.split("."):
        value = value[part]
    return f"{value:g}" if isinstance(value, float) else str(value)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    for name, function in (("tune", tune), ("run", run), ("table", table)):
        command = commands.add_parser(name, help=function.__doc__)
        command.set_defaults(run=function)
        command.add_argument("--out", type=Path, required=True)
        if name != "table":
            command.add_argument("--data", type=Path, required=True, help="prepared folder")
            command.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
        if name == "run":
            command.add_argument("--studies", type=Path, required=True, help="the --out of tune")
            command.add_argument("--rows", type=Path, required=True)
        if name == "table":
            command.add_argument("--rows", type=Path, nargs="+", required=True)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
