"""Training speed beside FuxiCTR: contenders take turns in one run, with their AUC after equally many steps.

    python benchmarks/speed/ctr.py --fuxictr CHECKOUT --peer-python PYTHON \
        --out benchmarks/results/speed/ctr.jsonl
    python benchmarks/speed/ctr.py --report benchmarks/results/speed/ctr.jsonl

The contenders: FuxiCTR as shipped; FuxiCTR with the backend settings that we make for ourselves (oneDNN
fp32 products, freed blocks kept); ours in fp32 with whole-table Adam, which is FuxiCTR's algorithm; ours
moving the rows of the step alone, in fp32, in bf16, and in micro-batches whose layers fit the cache. The
fastest of these three is "ours best": which one that is depends on the processor. Its AUC after equally many
steps stands beside; initial weights and order of rows differ, so it is noisy after few steps, and only a
difference below -0.001 that stays with more steps counts.

Each is a process of its own that sleeps while another works; --peer-python is an interpreter of FuxiCTR's
environment (benchmarks/peers/fuxictr.py says what it needs). Data are generated (shapes.py).

The roofline of a step is the time of its products alone at the speed of a large fp32 product, measured in our
process: nothing else in the step would take time.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from driver import Worker, options, parse, step_times, take_turns
from machine import append, commit, machine

HERE = Path(__file__).parent
OURS: dict[str, dict[str, Any]] = {
    "ours exact": {"table_update": "exact"},
    "ours rows": {"table_update": "rows"},
    "ours rows bf16": {"table_update": "rows", "precision": "bf16"},
    "ours rows micro": {"table_update": "rows", "micro_batch": 1024},
}
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}
CONTENDERS = ("fuxictr shipped", "fuxictr tuned", *OURS)
AUC_LOSS = 0.001  # most that ours may lie below FuxiCTR as shipped
ENOUGH = 100  # steps before an AUC is compared: the curve is steep before
SHAPES, MODELS = ("frappe", "criteo1m", "criteo5m"), ("AutoInt", "DeepFM", "DCNv2")
# (shape, model) -> lowest ratio to FuxiCTR as shipped and tuned that is a must, and that is aimed at
TARGETS = {
    ("criteo1m", "AutoInt"): ((4, 1.3), (7, 2.2)),
    ("criteo1m", "DeepFM"): ((3, 1.6), (4, 2.3)),
    ("criteo1m", "DCNv2"): ((3, 1.5), (3.5, 1.9)),
    ("criteo5m", "DCNv2"): ((4.5, 2), (6, 3)),
    **{("frappe", model): ((1.8, 1.1), (2.5, 1.5)) for model in MODELS},
}


def contender(
    name: str, args: argparse.Namespace, shape: str, model: str, batch: int, threads: int, seed: int = 1
) -> Worker:
    """Start a contender."""
    ours, tuned = name.startswith("ours"), name.endswith("tuned")
    asked = {"shape": shape, "model": model, "batch": batch, "settings": OURS.get(name, {}), "seed": seed,
             "matmul": tuned}
    environment = {"OMP_NUM_THREADS": str(threads), "FUXICTR": str(args.fuxictr.resolve())}
    file, python = ("worker_ours.py", sys.executable) if ours else ("worker_fuxictr.py", args.peer_python)
    return Worker(name, [python, str(HERE / file)], asked, environment | (MALLOC if tuned else {}), args.log)


def measure(
    args: argparse.Namespace, shape: str, model: str, batch: int, threads: int
) -> list[dict[str, Any]]:
    """One line a contender: milliseconds a step (best and median of the rounds), their parts, AUC, memory."""
    workers = [contender(name, args, shape, model, batch, threads) for name in args.contenders]
    take_turns(workers, args.warm, args.rounds, args.steps)
    left = args.total - args.warm - args.rounds * args.steps
    lines = []
    for worker in workers:
        if left > 0:
            worker.ask(steps=left)
        final = worker.ask(evaluate=True)
        worker.close()
        lines.append(
            {
                "shape": shape,
                "model": model,
                "batch": batch,
                "threads": threads,
                "contender": worker.name,
                "settings": worker.asked["settings"],
                **step_times(worker.rounds, args.steps),
                "evaluation_s": round(final["seconds"], 2),
                "auc": round(final["auc"], 6),
                "steps": max(args.total, args.warm + args.rounds * args.steps),
                "rounds": args.rounds,
                "peak_mib": round(final["peak_mib"]),
                **worker.facts,
                "machine": machine(),
                "commit": commit(HERE),
                "fuxictr_commit": commit(args.fuxictr),
                "when": time.strftime("%Y-%m-%d"),
            }
        )
        print(json.dumps(lines[-1]), flush=True)
    return lines


def ratios(line: dict[str, Any] | None, shipped: dict[str, Any], tuned: dict[str, Any]) -> str:
    """Samples/s over those of FuxiCTR as shipped and tuned, and the contender if several were possible."""
    if line is None:
        return "-"
    both = " / ".join(f"{other['best_ms'] / line['best_ms']:.2f}" for other in (shipped, tuned))
    mode = line["contender"].removeprefix("ours ")
    return both if mode == "exact" else f"{both} ({mode})"


def report(lines: list[dict[str, Any]]) -> str:
    """Markdown: a table a configuration, then the ratios beside their targets."""
    groups: dict[tuple, dict[str, dict[str, Any]]] = {}
    for line in lines:
        key = (line["shape"], line["model"], line["batch"], line["threads"])
        groups.setdefault(key, {})[line["contender"]] = line
    first = lines[0]
    text = [
        "# Training speed beside FuxiCTR",
        "",
        f"Generated by `benchmarks/speed/ctr.py --report`. {first['machine']}; contenders took turns; "
        "milliseconds a step: best (median) of the rounds.",
        "",
        "| shape | model | batch | threads | contender | step | loading | forward, backward | optimiser "
        "| samples/s | evaluation of 100,000 rows, s | AUC | peak MiB |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (shape, model, batch, threads), found in groups.items():
        for name, line in found.items():
            text.append(
                f"| {shape} | {model} | {batch} | {threads} | {name} | {line['best_ms']} "
                f"({line['median_ms']}) | {line['loading_ms']} | {line['forward_backward_ms']} "
                f"| {line['optimiser_ms']} | {1e3 * batch / line['best_ms']:,.0f} "
                f"| {line['evaluation_s']:.2f} | {line['auc']:.4f} | {line['peak_mib']:,} |"
            )
    text += [
        "",
        "Ratio of samples/s to FuxiCTR as shipped / tuned; floor and goal are for ours best",
        "",
        "| shape | model | batch | threads | exact, fp32: the same algorithm | best | floor | goal "
        "| AUC difference of best, after steps | roofline, share that best reaches |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for key, found in groups.items():
        shipped, tuned = found.get("fuxictr shipped"), found.get("fuxictr tuned")
        if not shipped or not tuned:
            continue
        ways = [line for name, line in found.items() if name.startswith("ours rows")]
        best = min(ways, key=lambda line: line["best_ms"], default=None)
        target = TARGETS.get(key[:2]) if key[2:] == (4096, 1) else None
        cells = [*key, *(ratios(line, shipped, tuned) for line in (found.get("ours exact"), best))]
        cells += [f"{a} / {b}" for a, b in target] if target else ["-", "-"]
        gap = best["auc"] - shipped["auc"] if best else 0.0
        few, low = best is not None and best["steps"] < ENOUGH, gap < -AUC_LOSS
        doubt = " (too few to say)" if few else " (lower than allowed)" if low else ""
        cells.append(f"{gap:+.4f} after {best['steps']}{doubt}" if best else "-")
        roof = 1e3 * best["flops"] / best["peak_flops"] if best else 0
        cells.append(f"{roof:.0f} ms, {roof / best['best_ms']:.0%}" if best else "-")
        text.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(text) + "\n"


def main() -> None:
    """Command line."""
    parser = options(__doc__, peer=True)
    add = parser.add_argument
    add("--shapes", default=",".join(SHAPES))
    add("--models", default=",".join(MODELS))
    add("--batches", default="4096,10000")
    add("--threads", default="1,2")
    add("--contenders", default=",".join(CONTENDERS))
    add("--rounds", type=int, default=7)
    add("--steps", type=int, default=5, help="steps a round")
    add("--warm", type=int, default=5, help="steps before the first round")
    add("--total", type=int, default=200, help="steps before the AUC is taken")
    args = parse(parser, report)
    args.contenders = args.contenders.split(",")
    for shape in args.shapes.split(","):
        for model in args.models.split(","):
            for batch in map(int, args.batches.split(",")):
                for threads in map(int, args.threads.split(",")):
                    append(args.out, measure(args, shape, model, batch, threads))


if __name__ == "__main__":
    main()
