"""Full ranking and epochs of MF-BPR and LightGCN beside RecBole and implicit, which take turns in one run.

    python benchmarks/speed/topk.py --recbole-python PYTHON --implicit-python PYTHON \
        --out benchmarks/results/speed/topk.jsonl
    python benchmarks/speed/topk.py --report benchmarks/results/speed/topk.jsonl

30,000 users, 40,000 items, vectors of 64, batches of 2048 pairs with one negative each (interactions.py).
Each contender is a process of its own that sleeps while another works. The interpreters are those of
environments with RecBole 1.2.1 (numpy<2 pandas==2.3.3 scipy==1.10.1 setuptools<81 torch==2.13.0; nothing of
it is changed) and with implicit 0.7.3.

rank: recall@20 and ndcg@20 of all users by given vectors, from the interactions on. RecBole as shipped
(eval_batch_size 4096: one user a batch, since it counts scores) and with 10,240,000 (255 users); implicit's
`ranking_metrics_at_k`. All must agree on what they have in common. The first round of each warms up and does
not count; RecBole's rankings, which take minutes, all count.
bpr: an epoch of MF by Adam, all rows moving (RecBole; ours exact) or those of the batch (ours rows, another
algorithm); by SGD without moments in batches (ours sgd) or pair by pair (implicit).
lightgcn: an epoch with 2 layers by Adam. RecBole's are some steps of it, scaled: they alone take minutes.

Seconds of the clock depend on who else uses the machine; those of the processor, of all threads, less.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from driver import Worker, options, parse
from machine import append, commit, machine

HERE = Path(__file__).parent
BATCH, LAYERS, LARGE = 2048, 2, 10_240_000
AGREE = 2e-5  # of means: single precision may turn a pair of neighbours around
# what -> contender -> how many times faster ours, the first one, is to be
CELLS: dict[str, dict[str, float | None]] = {
    "rank": {"ours": None, "recbole shipped": 12.0, "recbole large batch": 6.0, "implicit": 1.8},
    "bpr": {"ours rows": None, "ours exact": None, "ours sgd": None, "recbole shipped": 10.0,
            "implicit": 1 / 1.5},
    "lightgcn": {"ours": None, "recbole shipped": 6.0},
}
# of an epoch, where a whole one takes long
STEPS = {("bpr", "recbole shipped"): 60, ("lightgcn", "recbole shipped"): 3, ("lightgcn", "ours"): 30,
         ("bpr", "ours exact"): 60}


def contender(name: str, args: argparse.Namespace, threads: int) -> Worker:
    """Start a contender."""
    asked: dict[str, Any] = {"batch": BATCH, "layers": LAYERS}
    if name.startswith("ours"):
        python, file = sys.executable, "topk_ours.py"
        asked |= {"way": name.partition(" ")[2] or "rows"}
    elif name.startswith("recbole"):
        python, file = args.recbole_python, "topk_recbole.py"
        asked |= {"eval_batch_size": LARGE if name.endswith("large batch") else 4096}
    else:
        python, file, asked = args.implicit_python, "topk_implicit.py", {"threads": threads}
    environment = {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "OPENBLAS", "MKL")}
    return Worker(name, [python, str(HERE / file)], asked, environment, args.log)


def measure(args: argparse.Namespace, what: str, threads: int) -> list[dict[str, Any]]:
    """One line a contender: seconds and processor seconds of its rounds, what it found, memory."""
    wanted = [name for name in CELLS[what] if name not in args.without.split(",")]
    workers = [contender(name, args, threads) for name in wanted]
    check_equal([(w.name, w.facts["digest"]) for w in workers if "digest" in w.facts], 0.0)
    for number in range(1 + args.rounds):  # the first one warms up
        for worker in workers[number % len(workers) :] + workers[: number % len(workers)]:
            peer = worker.name.startswith("recbole")
            if peer and number > args.recbole_rounds:
                continue
            steps = STEPS.get((what, worker.name), 0)
            load = os.getloadavg()[0]
            found = worker.ask(call=what, **({"steps": steps} if steps else {}))
            if number or (peer and what == "rank"):
                worker.rounds.append(found | {"load": load})
    for measured in ("recall", "ndcg", "capped"):
        check_equal([(w.name, r[measured]) for w in workers for r in w.rounds if measured in r], AGREE)
    lines = [line_of(what, threads, worker) for worker in workers]
    for worker in workers:
        worker.close()
    return lines


def check_equal(found: Sequence[tuple[str, Any]], most: float) -> None:
    """Ends the run where contenders have other data or results."""
    for name, value in found:
        first = found[0][1]
        if value != first and not (most and abs(value - first) <= most):
            raise SystemExit(f"error: {found[0][0]} has {first}, {name} has {value}: not the same work")


def line_of(what: str, threads: int, worker: Worker) -> dict[str, Any]:
    """A line of results; training is scaled to a whole epoch."""
    total = worker.facts["users" if what == "rank" else "pairs"]
    seconds, cpu = ([r[key] * total / r.get("pairs", total) for r in worker.rounds]
                    for key in ("seconds", "cpu_s"))
    last = worker.rounds[-1]
    line = {
        "what": what,
        "contender": worker.name,
        "threads": threads,
        "best_s": round(min(seconds), 3),
        "median_s": round(statistics.median(seconds), 3),
        "best_cpu_s": round(min(cpu), 3),
        "median_cpu_s": round(statistics.median(cpu), 3),
        "rounds": len(worker.rounds),
        "of": total,
        "measured": last.get("pairs", total),
        **{key: last[key] for key in ("recall", "ndcg", "capped") if key in last},
        "peak_mib": round(last["peak_mib"]),
        "load": round(statistics.median(r["load"] for r in worker.rounds), 1),
        "version": worker.facts["version"],
        "machine": machine(),
        "commit": commit(HERE),
        "when": time.strftime("%Y-%m-%d"),
    }
    print(json.dumps(line), flush=True)
    return line


def report(lines: list[dict[str, Any]]) -> str:
    """Markdown: of every cell its last measurement, and how many times faster the first contender is."""
    cells: dict[tuple, dict[str, dict[str, Any]]] = {}
    for line in lines:
        cells.setdefault((line["what"], line["threads"]), {})[line["contender"]] = line
    text = [
        "# Full ranking and epochs of MF-BPR and LightGCN",
        "",
        "Generated by `benchmarks/speed/topk.py --report`, which says what each contender does. "
        f"{lines[-1]['machine']}; contenders took turns; seconds of the clock and of the processor, all "
        "threads together: best (median) of the rounds. Load: processes that wanted a core, median; above "
        "the number of cores the clock counts waiting too, and the processor's seconds are the fairer ones.",
        "",
        "| what | threads | contender | version | commit | rounds | load | clock, s | processor, s "
        "| a second | peak MiB | ours is faster by: clock best (median) | processor best (median) | floor |",
        "|" + "---|" * 14,
    ]
    for (what, threads), found in cells.items():
        first = next(iter(CELLS[what]))
        for name, line in found.items():
            faster = ["-", "-"]
            if first in found and name != first:
                faster = [f"{line['best_' + key] / found[first]['best_' + key]:.2f} "
                          f"({line['median_' + key] / found[first]['median_' + key]:.2f})"
                          for key in ("s", "cpu_s")]
            least = CELLS[what].get(name)
            scaled = "" if line["measured"] == line["of"] else f" ({line['measured']:,} pairs, scaled)"
            unit = "users" if what == "rank" else "pairs"
            text.append(
                f"| {what} | {threads} | {name} | {line['version']} | {line['commit']} | {line['rounds']} "
                f"| {line['load']} | {line['best_s']} ({line['median_s']}){scaled} | {line['best_cpu_s']} "
                f"({line['median_cpu_s']}) | {line['of'] / line['best_s']:,.0f} {unit} "
                f"| {line['peak_mib']:,} | {faster[0]} | {faster[1]} | {f'{least:.2f}' if least else '-'} |"
            )
    text += ["", *same_algorithm(cells)]
    found = [line for line in lines if "ndcg" in line]
    if found:
        text += ["", "| contender | recall@20 | ndcg@20 | hits / min(20, relevant), of all users together |",
                 "|---|---|---|---|"]
        for name, line in {line["contender"]: line for line in found}.items():
            values = (f"{line[key]:.7f}" if key in line else "-" for key in ("recall", "ndcg", "capped"))
            text.append(f"| {name} | {' | '.join(values)} |")
    return "\n".join(text) + "\n"


def same_algorithm(cells: dict[tuple, dict[str, dict[str, Any]]]) -> list[str]:
    """How ours compares where it does what RecBole does in an epoch of MF-BPR."""
    text = []
    for (what, threads), found in cells.items():
        ours, theirs = found.get("ours exact"), found.get("recbole shipped")
        if what == "bpr" and ours and theirs:
            ratio = theirs["best_cpu_s"] / ours["best_cpu_s"]
            text.append("MF-BPR by the same algorithm, Adam over all rows (ours exact), "
                        f"{threads} thread(s): {ratio:.2f} times as fast as RecBole by seconds of the "
                        "processor. Ours rows moves the rows of the batch alone, and implicit's SGD has "
                        "neither batches nor moments.")
    return text


def main() -> None:
    """Command line."""
    parser = options(__doc__)
    add = parser.add_argument
    add("--recbole-python", help="interpreter of an environment with RecBole")
    add("--implicit-python", help="interpreter of an environment with implicit")
    add("--what", default=",".join(CELLS))
    add("--threads", default="1,2")
    add("--without", default="", help="contenders to leave out, with commas")
    add("--rounds", type=int, default=5)
    add("--recbole-rounds", type=int, default=2, help="rounds of RecBole, which takes longest")
    args = parse(parser, report)
    for what in args.what.split(","):
        for threads in map(int, args.threads.split(",")):
            append(args.out, measure(args, what, threads))


if __name__ == "__main__":
    main()
