"""What the products of a board's trainings take at least on this processor, beside what the runs took.

    python benchmarks/speed/arithmetic.py 'frappe_x1/*' --rows benchmarks/results/frappe_x1.jsonl \
        --data PREPARED --out benchmarks/results/speed/arithmetic.json

Counted: floating-point operations of matrix products, forward and backward of every training row and
forward of every validation row, times the epochs that the rows report (test scores and all element-wise
work are left out). Measured: operations a second of products of the sizes that the largest models have, on
one thread, in fp32, bf16 and fp16, forward and both backward products; the best is taken. Operations over
that rate is a bound that no way of writing a kernel passes at this precision.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from machine import commit, machine
from torch.utils.flop_counter import FlopCounterMode
from worker_ours import flops

from recsys_zoo import suite
from recsys_zoo.board.rows import read_rows
from recsys_zoo.data.store import Prepared, Split
from recsys_zoo.files import write_whole
from recsys_zoo.models.base import Model
from recsys_zoo.runs import begin, is_row_of
from recsys_zoo.train.step import Step

# rows, inputs, outputs: AFN's first hidden layer, AutoInt's projections, a layer of 3 x 400 behind 10 fields
SHAPES = ((4096, 10_000, 400), (40_960, 128, 128), (40_960, 128, 384), (4096, 400, 400))
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def rates(rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Best operations a second of each type and shape: x W^T, and the gradients of x and W."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in TYPES}
    for rows, inputs, outputs in SHAPES:
        for name, dtype in TYPES.items():
            x, weight = torch.randn(rows, inputs).to(dtype), torch.randn(outputs, inputs).to(dtype)
            gradient = torch.randn(rows, outputs).to(dtype)
            products = {
                "forward": lambda x=x, w=weight: torch.nn.functional.linear(x, w),
                "of inputs": lambda g=gradient, w=weight: g @ w,
                "of weights": lambda g=gradient, x=x: g.t() @ x,
            }
            work = 2 * rows * inputs * outputs
            entry = {product: work / best(call, rounds) for product, call in products.items()}
            found[name].append({"rows": rows, "inputs": inputs, "outputs": outputs, **entry})
    return found


def best(call: Callable[[], object], rounds: int) -> float:
    """Seconds of the fastest call."""
    seconds = []
    for _ in range(rounds + 1):  # the first one warms up
        since = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - since)
    return min(seconds[1:])


def scoring_flops(model: Model, split: Split) -> int:
    """Operations of the products of scoring all rows."""
    rows = min(len(split), 1024)
    model.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(split.inputs(slice(0, rows)))
    model.train()
    return counter.get_total_flops() * len(split) // rows


def runs(targets: list[str], rows_file: Path, folder: Path) -> list[dict[str, Any]]:
    """One entry a recipe: operations of an epoch, and epochs and seconds of its rows."""
    data, rows = Prepared.open(folder), read_rows(rows_file)
    recipes: dict[str, list[suite.Task]] = {}
    for task in suite.plan(targets, (), ()):
        recipes.setdefault(task.recipe, []).append(task)
    entries = []
    for recipe, tasks in recipes.items():
        task, model = begin(tasks[0].cfg, data, print)
        step = Step(model.train(), task)
        train, size = data.split("train"), tasks[0].cfg.train.batch_size
        epoch = flops(step, train, size) * len(train) // size + scoring_flops(model, data.split("valid"))
        mine = (r for r in rows if any(is_row_of(r, t.cfg, data.data_digest) for t in tasks))
        own = [row for row in mine if row.epochs]
        entries.append(
            {
                "recipe": recipe,
                "flops_epoch": epoch,
                "epochs": [row.epochs for row in own],
                "seconds": [row.seconds for row in own],
                "planned": len(tasks),
            }
        )
    return entries


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("recipes", nargs="+", help="as for `recsys-zoo board run`")
    add("--rows", type=Path, required=True, help="rows of these recipes")
    add("--data", type=Path, required=True, help="the prepared folder")
    add("--cores", type=int, default=2, help="processes that share the runs")
    add("--rounds", type=int, default=5)
    add("--out", type=Path, required=True, help="JSON; a table in Markdown is written beside it")
    args = parser.parse_args()
    torch.set_num_threads(1)
    result = {
        "rates": rates(args.rounds),
        "runs": runs(args.recipes, args.rows, args.data),
        "cores": args.cores,
        "machine": machine(),
        "torch": torch.__version__,
        "commit": commit(Path(__file__).parent),
        "when": time.strftime("%Y-%m-%d"),
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(args.out, json.dumps(result, indent=1) + "\n")
    write_whole(args.out.with_suffix(".md"), report(result))


def fastest(measured: list[dict[str, Any]]) -> float:
    """The best rate of any shape and product."""
    return max(entry[key] for entry in measured for key in ("forward", "of inputs", "of weights"))


def report(result: dict[str, Any]) -> str:
    """The result as tables."""
    rate, cores = fastest(result["rates"]["fp32"]), result["cores"]
    lines = [
        "# The arithmetic of a board",
        "",
        f"Generated by `benchmarks/speed/arithmetic.py`, which says what is counted and measured. "
        f"{result['machine']}; torch {result['torch']}; one thread a process.",
        "",
        "GFLOP/s of products [rows, inputs] x [inputs, outputs]: forward / gradient of inputs / of weights.",
        "",
        "| rows, inputs, outputs | " + " | ".join(result["rates"]) + " |",
        "|---|" + "---|" * len(result["rates"]),
    ]
    for entries in zip(*result["rates"].values(), strict=True):
        cells = [
            " / ".join(f"{e[k] / 1e9:.0f}" for k in ("forward", "of inputs", "of weights")) for e in entries
        ]
        first = entries[0]
        lines.append(f"| {first['rows']:,}, {first['inputs']:,}, {first['outputs']} | {' | '.join(cells)} |")
    table, least, took, runs = [], 0.0, 0.0, 0
    for entry in result["runs"]:
        if not entry["epochs"]:
            table.append((0.0, f"| {entry['recipe']} | {entry['flops_epoch'] / 1e9:,.0f} | no rows | | | |"))
            continue
        seconds = entry["flops_epoch"] * sum(entry["epochs"]) / rate
        least, took, runs = least + seconds, took + sum(entry["seconds"]), runs + len(entry["epochs"])
        table.append(
            (
                seconds,
                f"| {entry['recipe']} | {entry['flops_epoch'] / 1e9:,.0f} | {len(entry['epochs'])} "
                f"| {statistics.mean(entry['epochs']):.0f} | {seconds:,.0f} | {sum(entry['seconds']):,.0f} |",
            )
        )
    planned = sum(entry["planned"] for entry in result["runs"])
    lines += [
        "",
        f"{runs} of {planned} runs have rows. Their products alone take {least:,.0f} s of one core at the "
        f"best fp32 rate measured, {rate / 1e9:.0f} GFLOP/s: {least / 3600 / cores:.2f} hours on {cores} "
        f"cores. The runs took {took:,.0f} s ({took / 3600 / cores:.2f} hours on {cores} cores), several at "
        "a time.",
        "",
        "| recipe | GFLOP an epoch | runs | epochs, mean | bound, s of all runs | took, s of all runs |",
        "|---|---|---|---|---|---|",
        *(line for _, line in sorted(table, key=lambda pair: -pair[0])),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
