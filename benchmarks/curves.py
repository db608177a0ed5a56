"""Curves of trainings that were cut: the metric of each epoch, as a table and a picture.

    python benchmarks/curves.py [RUN...] --out benchmarks/results/curves/gowalla_m1.csv [--metric recall@20]

RUN are run folders, of trainings that have ended or not. Epochs that the table holds already (same model and
seed) are replaced; the picture (.svg, beside the table) shows all that it holds.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import tomllib
from pathlib import Path

from recsys_zoo.board.budget import Epochs, picture
from recsys_zoo.files import write_whole

COLUMNS = ("board", "model", "seed", "epoch", "train_loss", "metric", "value")


def epochs(run: Path, metric: str) -> list[dict[str, str]]:
    """The lines of one run."""
    config = tomllib.loads((run / "config.toml").read_text(encoding="utf-8"))
    lines = (json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines())
    common = {"board": config["board"], "model": config["model"]["name"], "seed": config["train"]["seed"]}
    return [
        {k: str(v) for k, v in {**common, "epoch": line["epoch"], "train_loss": line["train_loss"],
                                "metric": metric, "value": line["valid"][metric]}.items()}
        for line in lines
        if line["event"] == "epoch"
    ]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", type=Path, help="run folders")
    parser.add_argument("--out", type=Path, required=True, help="table to add to (.csv)")
    parser.add_argument("--metric", default="recall@20")
    options = parser.parse_args()
    held = list(csv.DictReader(io.StringIO(options.out.read_text("utf-8")))) if options.out.exists() else []
    for run in options.runs:
        found = epochs(run, options.metric)
        names = {(line["model"], line["seed"], line["metric"]) for line in found}
        held = [line for line in held if (line["model"], line["seed"], line["metric"]) not in names] + found
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(held)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(options.out, text.getvalue())
    shown = [line for line in held if line["metric"] == options.metric]
    curves = [
        Epochs(f"{model} seed {seed}",
               [float(x["value"]) for x in shown if (x["model"], x["seed"]) == (model, seed)],
               options.metric, "")
        for model, seed in dict.fromkeys((line["model"], line["seed"]) for line in shown)
    ]
    title = f"{shown[0]['board']}: trainings epoch by epoch"
    of = "on the split that ends the training:"
    write_whole(options.out.with_suffix(".svg"), picture(curves, title, "epochs", of))


if __name__ == "__main__":
    main()
