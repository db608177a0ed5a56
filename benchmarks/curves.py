"""Curves of trainings that were cut: the metric of each epoch, as a table and a picture.

    python benchmarks/curves.py [RUN...] --out benchmarks/results/curves/gowalla_m1.csv [--metric recall@20]

RUN are run folders, of trainings that have ended or not. Epochs that the table holds already (same model and
seed) are replaced; the picture (.svg, beside the table) shows all that it holds. Beside them stand epochs of
published logs (published/logs/BOARD.csv), up to where ours ends and one look further; those that both have
are printed, with the difference.
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
LOGS = Path(__file__).parent / "published" / "logs"


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


def published(ours: Epochs, model: str, log: Path) -> Epochs | None:
    """A published training of the model, to one look behind the end of ours; prints how they differ."""
    if not log.is_file():
        return None
    with open(log, newline="", encoding="utf-8") as file:
        lines = [line for line in csv.DictReader(file) if line["model"] == model]
    known = [(int(line["epoch"]), float(line[ours.metric])) for line in lines if line.get(ours.metric)]
    own = dict(ours.points())
    kept = [point for point in known if point[0] in own]
    for epoch, value in kept:
        more = own[epoch] / value - 1
        print(f"{model} epoch {epoch}: {own[epoch]:.5f}, published {value:.5f}, {more:+.1%}")
    kept += [point for point in known if point[0] > max(own)][:1]
    at, values = zip(*sorted(kept), strict=True) if kept else ((), ())
    return Epochs(f"{model}, published", values, ours.metric, "", at=at) if kept else None


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
    logs = LOGS / f"{shown[0]['board']}.csv"
    beside = [published(curve, curve.label.split()[0], logs) for curve in curves]
    curves += [curve for curve in beside if curve is not None]
    title = f"{shown[0]['board']}: trainings epoch by epoch"
    of = "on the split that ends the training:"
    write_whole(options.out.with_suffix(".svg"), picture(curves, title, "epochs", of))


if __name__ == "__main__":
    main()
