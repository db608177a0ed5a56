"""Tune FuxiCTR's FinalMLP as `recsys-zoo tune` tunes ours: same ranges, sampler, seed and number of trials.

    python benchmarks/peers/tune_fuxictr.py --fuxictr CHECKOUT --peer-python PYTHON --data DATA \\
        --trials 16 --work SCRATCH --out benchmarks/results/peers/fuxictr_finalmlp_trials.jsonl
    ... --runs benchmarks/results/peers/fuxictr_finalmlp_tuned.csv      # the chosen setting over five seeds

Trials are the records of our own studies (`recsys_zoo.trials`), pruned by the same rule; each is one run of
fuxictr.py that never scores test. Initial vectors have the deviation its class fixes. A stopped study goes on
with the trial it was at.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from recsys_zoo import runs
from recsys_zoo.catalog import find_recipe
from recsys_zoo.files import write_whole
from recsys_zoo.machine import git_commit
from recsys_zoo.space import Space, space_of
from recsys_zoo.trials import PRUNE_AFTER, Trial, best_of, lags, propose

BOARD, MODEL, RECIPE = "frappe_x1", "FinalMLP", "frappe_x1/finalmlp"
OPTIONS = {"model.hidden": "mlp1_hidden_units", "model.batch_norm": "mlp1_batch_norm",
           "model.dropout": "mlp1_dropout", "model.second_hidden": "mlp2_hidden_units",
           "model.second_batch_norm": "mlp2_batch_norm", "model.second_dropout": "mlp2_dropout",
           "model.heads": "num_heads", "model.gates": "use_fs", "model.gate_hidden": "fs_hidden_units",
           "train.lr": "learning_rate", "train.table_l2": "embedding_regularizer",
           "train.net_l2": "net_regularizer"}
FIXED = ("model.embedding",)  # FuxiCTR's class gives initial vectors no setting


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--fuxictr", type=Path, required=True, help="git checkout of FuxiCTR")
    add("--peer-python", required=True, help="interpreter of FuxiCTR's environment")
    add("--data", type=Path, required=True, help="folder of the boards")
    add("--trials", type=int, default=16)
    add("--sampler", choices=("tpe", "random"), default="tpe")
    add("--epochs", type=int, default=100, help="cap on the epochs of a run")
    add("--work", type=Path, required=True, help="scratch folder")
    add("--out", type=Path, required=True, help="record of the trials (.jsonl)")
    add("--runs", type=Path, help="CSV: run the chosen setting over seeds 2 to 6 and score test")
    options = parser.parse_args()
    cfg = runs.read_recipe(find_recipe(RECIPE)).resolved()
    space = space_of(cfg, FIXED)
    trials = tune(options, space)
    best = best_of(trials)
    print(f"trial {best.number} of {len(trials)} is chosen, valid AUC {best.value:.6f}: {best.settings}")
    if options.runs:
        peer(options, space, best, "2,3,4,5,6", options.runs)


def tune(options: argparse.Namespace, space: Space) -> list[Trial]:
    """Make the missing trials; the first is the recipe itself."""
    trials = read(options.out)
    while len(trials) < options.trials:
        settings = propose(space, trials, options.sampler) if trials else space.own_values()
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        trial = Trial(number=len(trials), settings=settings, when=now, git=git_commit())
        trials.append(tried(options, space, trial, trials))
        write_whole(options.out, "".join(one.model_dump_json() + "\n" for one in trials))
        print(f"trial {trial.number}: {trials[-1].state}, valid AUC {trials[-1].value}", flush=True)
    return trials


def tried(options: argparse.Namespace, space: Space, trial: Trial, before: list[Trial]) -> Trial:
    """A trial with what it came to; an earlier one of equal settings answers for it."""
    for twin in before:
        if twin.settings == trial.settings:
            told = {"state": twin.state, "value": twin.value, "valid": twin.valid, "same_as": twin.number}
            return trial.model_copy(update=told)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch, "row.csv")
        try:
            pruning = {"medians": medians(before), "curve": str(Path(scratch, "curve.json"))}
            peer(options, space, trial, "1", out, "--trial", json.dumps(pruning))
        except subprocess.CalledProcessError as error:
            return trial.model_copy(update={"state": "failed", "reason": f"exit code {error.returncode}"})
        row = next(csv.DictReader(out.read_text(encoding="utf-8").splitlines()))
        curve = json.loads(Path(scratch, "curve.json").read_text(encoding="utf-8"))
    found = {"value": float(row["valid_auc"]), "seconds": float(row["seconds"]),
             "valid": tuple({"auc": value} for value in curve)}
    made = trial.model_copy(update=found)
    if lags([*before, made], made.number, "auc"):
        reason = f"below the median of the trials before it after epoch {len(curve)}"
        return made.model_copy(update={"state": "pruned", "reason": reason})
    return made.model_copy(update={"state": "done"})


def medians(before: list[Trial]) -> list[float | None]:
    """AUC by epoch below which the next trial lags (`recsys_zoo.trials.lags`): that of the finished ones."""
    finished = [one for one in before if one.state == "done" and one.same_as is None]
    curves = [[epoch["auc"] for epoch in one.valid] for one in finished]
    found: list[float | None] = []
    for epoch in range(max(map(len, curves), default=0)):
        at = [curve[epoch] for curve in curves if len(curve) > epoch]
        found.append(statistics.median(at) if epoch >= PRUNE_AFTER and len(at) >= PRUNE_AFTER else None)
    return found


def peer(options: argparse.Namespace, space: Space, trial: Trial, seeds: str, out: Path, *more: str) -> None:
    """Run FuxiCTR with the settings of a trial."""
    own: dict[str, Any] = {**space.own_values(), **trial.settings}
    asked = json.dumps({OPTIONS[name]: value for name, value in own.items() if name in OPTIONS})
    script = Path(__file__).with_name("fuxictr.py")
    # blocks of gigabytes, which FuxiCTR's bilinear layer takes in each step, are kept and in huge pages
    environment = {"MALLOC_MMAP_THRESHOLD_": str(1 << 33), "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
                   "THP_MEM_ALLOC_ENABLE": "1", "OMP_NUM_THREADS": "1", **os.environ}
    words = {"fuxictr": options.fuxictr, "data": options.data, "work": options.work, "board": BOARD,
             "models": MODEL, "seeds": seeds, "epochs": options.epochs, "out": out, "options": asked}
    named = [str(part) for name, value in words.items() for part in (f"--{name}", value)]
    command = [options.peer_python, str(script), *named, *more]
    subprocess.run(command, check=True, env=environment, stdout=sys.stderr)


def read(path: Path) -> list[Trial]:
    """The trials so far."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Trial.parse(json.loads(line), f"{path}, line {n}") for n, line in enumerate(lines, 1)]


if __name__ == "__main__":
    main()
