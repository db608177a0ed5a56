"""What biases before a batch norm do to FinalMLP: does rounding explain that ours lies above FuxiCTR's?

    python benchmarks/norm_bias.py --data prepared/frappe_x1 --out benchmarks/results/studies/norm_bias.csv

A batch norm takes its input's mean away, so the gradient of a bias before it is 0; sums in float32 leave
rounding instead, and Adam makes steps of it, whatever its size. The moving mean that evaluation subtracts
lags behind. Here these biases have a gradient of exactly 0. Three runs a seed: with the kernels, with torch's
operations, and with torch's operations and biases that rounding moves, as in FuxiCTR.
"""

from __future__ import annotations

import argparse
import csv
import io
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

from recsys_zoo import runs
from recsys_zoo.data.store import Prepared
from recsys_zoo.files import write_whole
from recsys_zoo.machine import git_commit
from recsys_zoo.nn.norm import BatchNormReLUDropout

RECIPE = Path("benchmarks/results/tuned/frappe_x1/finalmlp/recipe.toml")
MEASURED = ("valid.auc", "test.auc", "test.logloss")
STILL = BatchNormReLUDropout.after


def moved(self: BatchNormReLUDropout, linear: nn.Linear, x: Tensor) -> Tensor:
    """self(linear(x)) with the gradient of the bias that rounding leaves."""
    return self(linear(x))


VARIANTS = {"kernels, biases still": ("auto", STILL), "torch, biases still": ("torch", STILL),
            "torch, biases moved": ("torch", moved)}


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="prepared frappe_x1")
    parser.add_argument("--seeds", default="2,3,4,5,6")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--out", type=Path, required=True, help="table; runs that it holds are not repeated")
    options = parser.parse_args()
    data, cfg = Prepared.open(options.data), runs.read_recipe(RECIPE).resolved()
    rows = list(csv.DictReader(io.StringIO(options.out.read_text("utf-8")))) if options.out.exists() else []
    for seed in options.seeds.split(","):
        for variant in options.variants:
            if any((row["variant"], row["seed"]) == (variant, seed) for row in rows):
                continue
            kernels, BatchNormReLUDropout.after = VARIANTS[variant]
            train = cfg.train.model_copy(update={"seed": int(seed), "kernels": kernels})
            with tempfile.TemporaryDirectory() as scratch:
                row = runs.train(cfg.model_copy(update={"train": train}), data, Path(scratch, "run"),
                                 say=lambda line: None)
            measured = {name: f"{row.metrics[name]:.6f}" for name in MEASURED}
            rows.append({"variant": variant, "seed": seed, "best_epoch": row.best_epoch, **measured,
                         "torch": torch.__version__, "git": git_commit()})
            text = io.StringIO()
            writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            write_whole(options.out, text.getvalue())
            print(variant, seed, measured, flush=True)


if __name__ == "__main__":
    main()
