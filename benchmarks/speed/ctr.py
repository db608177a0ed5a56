"""Training speed beside FuxiCTR: contenders take turns in one run, with their AUC after equally many steps.

    python benchmarks/speed/ctr.py --fuxictr CHECKOUT --peer-python PYTHON \
        --out benchmarks/results/speed/ctr.jsonl
    python benchmarks/speed/ctr.py --report benchmarks/results/speed/ctr.jsonl

Four contenders: FuxiCTR as shipped; FuxiCTR with the backend settings that we make for ourselves (oneDNN
fp32 products, freed blocks kept); ours in fp32 with whole-table Adam, which is FuxiCTR's algorithm; ours in
its fastest mode (`BEST`). Each is a process of its own that sleeps while another works; --peer-python is an
interpreter of FuxiCTR's environment (benchmarks/peers/fuxictr.py says what it needs). Data are generated
(shapes.py).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from machine import commit, machine

HERE = Path(__file__).parent
FP32: dict[str, Any] = {"table_update": "exact"}
BEST: dict[str, dict[str, Any]] = {
    "DeepFM": {"table_update": "rows", "precision": "bf16"},
    "DCNv2": {"table_update": "rows", "precision": "bf16"},
    "AutoInt": {"table_update": "rows"},
}
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}
PARTS = ("loading", "forward_backward", "optimiser")
CONTENDERS = ("fuxictr shipped", "fuxictr tuned", "ours fp32", "ours best")
SHAPES, MODELS = ("frappe", "criteo1m", "criteo5m"), ("AutoInt", "DeepFM", "DCNv2")
# (shape, model) -> lowest ratio to FuxiCTR as shipped and tuned that is a must, and that is aimed at
TARGETS = {
    ("criteo1m", "AutoInt"): ((4, 1.3), (7, 2.2)),
    ("criteo1m", "DeepFM"): ((3, 1.6), (4, 2.3)),
    ("criteo1m", "DCNv2"): ((3, 1.5), (3.5, 1.9)),
    ("criteo5m", "DCNv2"): ((4.5, 2), (6, 3)),
    **{("frappe", model): ((1.8, 1.1), (2.5, 1.5)) for model in MODELS},
}


class Worker:
    """A contender in a process of its own."""

    def __init__(
        self, name: str, args: argparse.Namespace, shape: str, model: str, batch: int, threads: int
    ) -> None:
        ours, tuned = name.startswith("ours"), name.endswith("tuned")
        settings = FP32 if name == "ours fp32" else BEST[model] if ours else {}
        asked = {"shape": shape, "model": model, "batch": batch, "settings": settings, "matmul": tuned}
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "FUXICTR": str(args.fuxictr.resolve())}
        environment |= MALLOC if tuned else {}
        file, python = ("worker_ours.py", sys.executable) if ours else ("worker_fuxictr.py", args.peer_python)
        with open(args.log, "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [python, str(HERE / file), json.dumps(asked)],
                env=environment,
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self.name, self.settings, self.rounds = name, settings, []
        self.read()

    def read(self) -> dict[str, Any]:
        """The next answer."""
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"error: {self.name} ended; its messages are in the log")
        return json.loads(line)

    def ask(self, **command: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self.read()

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()


def measure(
    args: argparse.Namespace, shape: str, model: str, batch: int, threads: int
) -> list[dict[str, Any]]:
    """One line a contender: milliseconds a step (best and median of the rounds), their parts, AUC, memory."""
    workers = [Worker(name, args, shape, model, batch, threads) for name in args.contenders]
    for worker in workers:
        worker.ask(steps=args.warm)
    for number in range(args.rounds):
        for worker in workers[number % len(workers) :] + workers[: number % len(workers)]:
            worker.rounds.append(worker.ask(steps=args.steps))
    left = args.total - args.warm - args.rounds * args.steps
    lines = []
    for worker in workers:
        if left > 0:
            worker.ask(steps=left)
        final = worker.ask(evaluate=True)
        worker.close()
        each = [1e3 * r["seconds"] / args.steps for r in worker.rounds]
        best = min(worker.rounds, key=lambda r: r["seconds"])
        parts = {f"{k}_ms": round(1e3 * best[k] / args.steps, 2) for k in PARTS}
        lines.append(
            {
                "shape": shape,
                "model": model,
                "batch": batch,
                "threads": threads,
                "contender": worker.name,
                "settings": worker.settings,
                "best_ms": round(min(each), 2),
                "median_ms": round(statistics.median(each), 2),
                **parts,
                "evaluation_s": round(final["seconds"], 2),
                "auc": round(final["auc"], 6),
                "steps": max(args.total, args.warm + args.rounds * args.steps),
                "rounds": args.rounds,
                "peak_mib": round(final["peak_mib"]),
                "machine": machine(),
                "commit": commit(HERE),
                "fuxictr_commit": commit(args.fuxictr),
                "when": time.strftime("%Y-%m-%d"),
            }
        )
        print(json.dumps(lines[-1]), flush=True)
    return lines


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
        "| samples/s | AUC | peak MiB |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (shape, model, batch, threads), found in groups.items():
        for name, line in found.items():
            text.append(
                f"| {shape} | {model} | {batch} | {threads} | {name} | {line['best_ms']} "
                f"({line['median_ms']}) | {line['loading_ms']} | {line['forward_backward_ms']} "
                f"| {line['optimiser_ms']} | {1e3 * batch / line['best_ms']:,.0f} | {line['auc']:.4f} "
                f"| {line['peak_mib']:,} |"
            )
    text += [
        "",
        "Ratio of samples/s to FuxiCTR as shipped / tuned; floor and goal are for ours best",
        "",
        "| shape | model | batch | threads | fp32, same algorithm | best | floor | goal | AUC difference |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for key, found in groups.items():
        if len(found) < len(CONTENDERS):
            continue
        ms = {name: line["best_ms"] for name, line in found.items()}
        shipped, tuned = ms["fuxictr shipped"], ms["fuxictr tuned"]
        pair = {name: (shipped / ms[name], tuned / ms[name]) for name in ("ours fp32", "ours best")}
        target = TARGETS.get(key[:2]) if key[2:] == (4096, 1) else None
        floor, goal = (f"{a} / {b}" for a, b in target) if target else ("-", "-")
        gap = found["ours best"]["auc"] - found["fuxictr shipped"]["auc"]
        cells = [f"{a:.2f} / {b:.2f}" for a, b in pair.values()]
        place = " | ".join(map(str, key))
        text.append(f"| {place} | {cells[0]} | {cells[1]} | {floor} | {goal} | {gap:+.4f} |")
    return "\n".join(text) + "\n"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--report", type=Path, help="only write FILE.md from the lines of FILE.jsonl")
    add("--fuxictr", type=Path, help="git checkout of FuxiCTR")
    add("--peer-python", help="interpreter of FuxiCTR's environment")
    add("--shapes", default=",".join(SHAPES))
    add("--models", default=",".join(MODELS))
    add("--batches", default="4096,10000")
    add("--threads", default="1,2")
    add("--contenders", default=",".join(CONTENDERS))
    add("--rounds", type=int, default=7)
    add("--steps", type=int, default=5, help="steps a round")
    add("--warm", type=int, default=5, help="steps before the first round")
    add("--total", type=int, default=200, help="steps before the AUC is taken")
    add("--log", default=os.devnull, help="file for the contenders' messages")
    add("--out", type=Path, help="JSON lines, appended")
    args = parser.parse_args()
    if args.report:
        lines = [json.loads(line) for line in args.report.read_text(encoding="utf-8").splitlines()]
        args.report.with_suffix(".md").write_text(report(lines), encoding="utf-8")
        return
    if not (args.fuxictr and args.peer_python and args.out):
        parser.error("--fuxictr, --peer-python and --out are needed")
    args.contenders = args.contenders.split(",")
    for shape in args.shapes.split(","):
        for model in args.models.split(","):
            for batch in map(int, args.batches.split(",")):
                for threads in map(int, args.threads.split(",")):
                    lines = measure(args, shape, model, batch, threads)
                    args.out.parent.mkdir(parents=True, exist_ok=True)
                    with args.out.open("a", encoding="utf-8") as stream:
                        stream.writelines(json.dumps(line) + "\n" for line in lines)


if __name__ == "__main__":
    main()
