"""The champion of a tuned board against FuxiCTR's FinalMLP, tuned with the same budget on the same files.

The champion is chosen before any tuned setting is scored on test, from the trials alone, and written down:

    python benchmarks/champion.py choose --studies tuning/frappe_x1 --out champion.json

Then, when its chosen recipe has been run over five seeds (`recsys-zoo board run tuning/frappe_x1/suite.toml`)
and FuxiCTR's too (`benchmarks/peers/tune_fuxictr.py --runs`), both are compared by a paired bootstrap over
users and the seeds of both sides:

    python benchmarks/champion.py compare --champion champion.json --rows ROWS.jsonl --runs RUNS \\
        --peer TUNED.csv --peer-scores SCRATCH/checkpoints --out champion.md
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import re
from pathlib import Path

import numpy as np
import torch

from recsys_zoo.board.key import budget_of
from recsys_zoo.board.rank import lower_is_better, read_quoted, worded_metric
from recsys_zoo.board.rows import read_rows
from recsys_zoo.board.scores import read_scores, score_files
from recsys_zoo.catalog import published
from recsys_zoo.config import read_toml
from recsys_zoo.files import write_whole
from recsys_zoo.machine import git_commit
from recsys_zoo.metrics.paired import Comparison, holm, paired_test
from recsys_zoo.runs import RunConfig, is_row_of
from recsys_zoo.trials import Trial, best_of

HEAD = """# Champion of the tuned board

Chosen on valid, by {budget} of each of {recipes} recipes, before any tuned setting was scored on test
(`champion.json`, {when}, commit {commit}): **{champion}**.

Ours: {ours} seeds. FuxiCTR's FinalMLP: {theirs} seeds, tuned over the same ranges with the same budget.
Paired bootstrap over users (2,000 resamples), and the seeds of both sides.

| metric | ours less FuxiCTR's | 95 % | p (Holm) | verdict |
|---|---|---|---|---|"""
BESIDE = """
Test AUC of ours {ours:.6f}. Published for FinalMLP: {auc:.4f} (one seed, real train negatives, picked on
test). The standard error over users of one such value is {error:.4f}."""


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    choosing = commands.add_parser("choose", help="by validation, before any test score is there")
    choosing.add_argument("--studies", type=Path, required=True, help="folder of the studies of a board")
    choosing.add_argument("--rows", type=Path, help="rows of the board, to see that none is tuned yet")
    choosing.add_argument("--out", type=Path, required=True)
    choosing.set_defaults(run=choose)
    comparing = commands.add_parser("compare", help="champion and peer on the test split")
    comparing.add_argument("--champion", type=Path, required=True)
    comparing.add_argument("--rows", type=Path, required=True, help="rows of the tuned board")
    comparing.add_argument("--runs", type=Path, required=True, help="parent of the run folders")
    comparing.add_argument("--peer", type=Path, required=True, help="CSV of tune_fuxictr.py --runs")
    comparing.add_argument("--peer-scores", type=Path, required=True, help="folder of *_test_scores.npy")
    comparing.add_argument("--out", type=Path, required=True, help="Markdown")
    comparing.set_defaults(run=compare)
    options = parser.parse_args()
    options.run(options)


def choose(options: argparse.Namespace) -> None:
    """The study whose best trial is best on valid; equal budgets are demanded."""
    found = {}
    for file in sorted(options.studies.glob("*/trials.jsonl")):
        lines = file.read_text(encoding="utf-8").splitlines()
        found[file.parent.name] = [Trial.parse(json.loads(line), str(file)) for line in lines]
    unfinished = [name for name, trials in found.items() if any(t.state == "running" for t in trials)]
    if unfinished:
        raise SystemExit(f"error: trials are still running: {unfinished}")
    best = {name: trial.value for name, trials in found.items() if (trial := best_of(trials))}
    recipes = {name: read_toml(options.studies / name / "recipe.toml") for name in best}
    minutes = {recipe.get("minutes", 0.0) for recipe in recipes.values()}
    counts = {name: len(trials) for name, trials in found.items()}
    if len(minutes) != 1 or (len(set(counts.values())) != 1 and not max(minutes)):
        raise SystemExit(f"error: budgets differ, or there is no study with a choice: {counts}")
    name = max(best, key=lambda n: best[n])
    budget = budget_of(counts[name], max(minutes))
    if options.rows and any(row.hparams == "valid" and budget_of(row.trials, row.minutes) == budget
                            for row in read_rows(options.rows)):
        raise SystemExit(f"error: {options.rows} holds rows of tuned settings; choose before they are run")
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    record = {"champion": name, "rule": "best valid value of all trials of all studies", "valid": best,
              "budget": budget, "recipe": recipes[name], "commit": git_commit(), "when": now}
    write_whole(options.out, json.dumps(record, indent=1) + "\n")
    print(f"{name}, valid {best[name]:.6f}; wrote {options.out}")


def compare(options: argparse.Namespace) -> None:
    """Paired test of both over the same test rows, beside the published number."""
    record = json.loads(options.champion.read_text(encoding="utf-8"))
    cfg = RunConfig.parse(record["recipe"], str(options.champion)).resolved()
    rows = [row for row in read_rows(options.rows) if row.status == "done" and is_row_of(
        row, cfg.model_copy(update={"train": cfg.train.model_copy(update={"seed": row.seed})}),
        row.data_digest)]
    if any(row.when < record["when"] for row in rows):
        raise SystemExit("error: a row of the champion is older than its choice")
    files = score_files(options.runs)
    sets = [read_scores(files[row.scores_digest], row.scores_digest) for row in rows]
    with options.peer.open(encoding="utf-8") as stream:
        theirs = [row for row in csv.DictReader(stream) if row["model"] == "FinalMLP"]
    own = {re.search(r"options [0-9a-f]{8}", row["note"])[0] for row in theirs}
    if len(own) != 1 or min(len(rows), len(theirs)) < 5:
        raise SystemExit(f"error: {len(rows)} rows of the champion and {len(theirs)} of the peer (settings: "
                         f"{sorted(own)}); both sides need five seeds of one setting")
    ids = [f"{row['board']}_FinalMLP_reg{float(row['embedding_regularizer']):g}_seed{row['seed']}_"
           f"{next(iter(own)).replace(' ', '_')}_test_scores.npy" for row in theirs]
    peer = torch.stack([torch.from_numpy(np.load(options.peer_scores / name)) for name in ids])
    ours = torch.stack([scores.score for scores in sets])
    found = paired_test(ours, peer, sets[0].label, sets[0].group, replicates=2000)
    corrected = dict(zip(found, holm([test.p for test in found.values()]), strict=True))
    lines = [HEAD.format(**record, recipes=len(record["valid"]), ours=len(rows), theirs=len(theirs)),
             *(line(name, test, corrected[name]) for name, test in found.items())]
    table = published("frappe_x1")
    printed = [q for q in read_quoted(table) if q.model == "finalmlp"] if table else []
    value = float(np.mean([row.metrics["test.auc"] for row in rows]))
    width = np.mean([row.metrics["test.auc_high"] - row.metrics["test.auc_low"] for row in rows])
    lines += [BESIDE.format(ours=value, error=width / 3.92, **q.metrics) for q in printed]
    write_whole(options.out, "\n".join(lines) + "\n")
    print("\n".join(lines))


def line(name: str, test: Comparison, p: float) -> str:
    """A row of the table; p is Holm's over the metrics."""
    better = (test.value > 0) != lower_is_better(name)
    verdict = "tied" if p > 0.05 else "ours is better" if better else "FuxiCTR's is better"
    return (f"| {worded_metric(f'test.{name}')} | {test.value:+.6f} | {test.low:+.6f} to {test.high:+.6f} | "
            f"{p:.3f} | {verdict} |")


if __name__ == "__main__":
    main()
