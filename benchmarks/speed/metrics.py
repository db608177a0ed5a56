"""Time of AUC beside scikit-learn and of gAUC beside FuxiCTR, on the same generated scores.

    python benchmarks/speed/metrics.py --fuxictr CHECKOUT --peer-python PYTHON \
        --out benchmarks/results/speed/metrics.json

Contenders take turns; wall seconds, best and median of the rounds. Scores are float32 sigmoids, as a model
gives them; users have Zipf popularity. FuxiCTR runs in its own environment (--peer-python, see
benchmarks/peers/fuxictr.py) and divides its work among half of the cores, as shipped.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent


def generate(rows: int, users: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores float32, labels float32 and users int64 [rows]."""
    draw = np.random.default_rng(0)
    logit = draw.normal(-1.0, 1.0, rows)
    labels = draw.random(rows) < 1 / (1 + np.exp(-logit))
    scores = 1 / (1 + np.exp(-(logit + draw.normal(0, 0.5, rows))))
    share = 1 / np.arange(1, users + 1) ** 0.8
    group = np.searchsorted(np.cumsum(share / share.sum()), draw.random(rows))
    return scores.astype(np.float32), labels.astype(np.float32), np.minimum(group, users - 1)


def peer(folder: Path) -> None:
    """FuxiCTR's gAUC of the arrays in `folder`, timed in its own environment: one answer a line read."""
    sys.path.insert(0, os.environ["FUXICTR"])
    from fuxictr.metrics import evaluate_metrics

    labels, scores, group = (np.load(folder / f"{name}.npy") for name in ("labels", "scores", "group"))
    for _ in sys.stdin:
        since = time.perf_counter()
        value = evaluate_metrics(labels, scores, ["gAUC"], group)["gAUC"]
        print(json.dumps({"seconds": time.perf_counter() - since, "value": float(value)}), flush=True)


def timed(work: Callable[[], float]) -> dict[str, float]:
    """Seconds and value of one call."""
    since = time.perf_counter()
    value = work()
    return {"seconds": time.perf_counter() - since, "value": value}


def race(contenders: dict[str, Callable[[], dict[str, float]]], rounds: int) -> dict[str, Any]:
    """Each contender once a round."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    for number in range(rounds + 1):  # the first one warms up
        for name, contender in contenders.items():
            result = contender()
            if number:
                found[name].append(result)
    return {
        name: {
            "best_s": round(min(r["seconds"] for r in results), 5),
            "median_s": round(statistics.median(r["seconds"] for r in results), 5),
            "value": results[0]["value"],
        }
        for name, results in found.items()
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--fuxictr", type=Path, help="git checkout of FuxiCTR")
    add("--peer-python", help="interpreter of FuxiCTR's environment")
    add("--rows", type=int, default=5_000_000, help="rows of the AUC")
    add("--group-rows", type=int, default=200_000, help="rows of the gAUC")
    add("--users", type=int, default=10_000, help="users of the gAUC")
    add("--rounds", type=int, default=5)
    add("--out", type=Path, help="JSON; a table in Markdown is written beside it")
    add("--peer", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        peer(args.peer)
        return
    if not (args.fuxictr and args.peer_python and args.out):
        parser.error("--fuxictr, --peer-python and --out are needed")

    import sklearn
    import torch
    from machine import commit, machine
    from sklearn.metrics import roc_auc_score

    from recsys_zoo.metrics.binary import auc, gauc

    torch.set_num_threads(1)
    scores, labels, _ = generate(args.rows, 1)
    tensors = torch.from_numpy(scores), torch.from_numpy(labels)
    whole = race(
        {
            "ours": lambda: timed(lambda: auc(*tensors)),
            "scikit-learn": lambda: timed(lambda: float(roc_auc_score(labels, scores))),
        },
        args.rounds,
    )
    arrays = dict(zip(("scores", "labels", "group"), generate(args.group_rows, args.users), strict=True))
    grouped = [torch.from_numpy(array) for array in arrays.values()]
    with tempfile.TemporaryDirectory() as folder:
        for name, array in arrays.items():
            np.save(Path(folder, name), array)
        with subprocess.Popen(
            [args.peer_python, __file__, "--peer", folder],
            env={**os.environ, "FUXICTR": str(args.fuxictr.resolve())},
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:

            def ask() -> dict[str, float]:
                process.stdin.write("go\n")
                process.stdin.flush()
                return json.loads(process.stdout.readline())

            by_user = race({"ours": lambda: timed(lambda: gauc(*grouped)), "FuxiCTR": ask}, args.rounds)
            process.stdin.close()
    result = {
        "auc": {"rows": args.rows, **whole},
        "gauc": {"rows": args.group_rows, "users": args.users, **by_user},
        "rounds": args.rounds,
        "threads": 1,
        "machine": machine(),
        "torch": torch.__version__,
        "scikit_learn": sklearn.__version__,
        "commit": commit(HERE),
        "fuxictr_commit": commit(args.fuxictr),
        "when": time.strftime("%Y-%m-%d"),
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    args.out.with_suffix(".md").write_text(report(result), encoding="utf-8")


def report(result: dict[str, Any]) -> str:
    """The result as a table."""
    auc, gauc = result["auc"], result["gauc"]
    lines = [
        "# Time of the metrics",
        "",
        f"Generated by `benchmarks/speed/metrics.py`. {result['machine']}; one thread (FuxiCTR: half of the "
        f"cores); contenders took turns, {result['rounds']} rounds; wall seconds, best (median).",
        "",
        "| metric | rows | ours | other | ratio of the best | values agree to |",
        "|---|---|---|---|---|---|",
    ]
    for name, entry, other in (("AUC", auc, "scikit-learn"), ("gAUC", gauc, "FuxiCTR")):
        ours, theirs = entry["ours"], entry[other]
        size = f"{entry['rows']:,}" + (f", {entry['users']:,} users" if "users" in entry else "")
        lines.append(
            f"| {name} | {size} | {ours['best_s']} ({ours['median_s']}) | {other} {theirs['best_s']} "
            f"({theirs['median_s']}) | {theirs['best_s'] / ours['best_s']:.1f} "
            f"| {abs(ours['value'] - theirs['value']):.0e} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
