"""Reproduce rows drawn at random: `python benchmarks/reproduce.py --rows FILE --out FILE.jsonl`.

Each row is run again with its own seed (bit for bit where the conditions are the same) and with a fresh one
(inside the prediction interval of one more seed). Rows that the output holds already are not run again;
`--report` prints the table of an output.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
from pathlib import Path

from recsys_zoo.board.rows import Row, read_rows
from recsys_zoo.files import write_whole
from recsys_zoo.reproduce import Reproduction, reproduce


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=Path, help="file of rows")
    parser.add_argument("--draw", type=int, default=20, help="rows to draw")
    parser.add_argument("--seed", type=int, default=1, help="of the draw")
    parser.add_argument("--runs", type=Path, default=Path("runs/reproduced"), help="parent of run folders")
    parser.add_argument("--raw", type=Path, help="raw files of the data recipe")
    parser.add_argument("--out", type=Path, help="records to write (.jsonl)")
    parser.add_argument("--report", type=Path, help="print the table of this output and end")
    options = parser.parse_args()
    if options.report:
        print(report(options.report))
        return
    if not options.rows or not options.out:
        parser.error("--rows and --out are needed (or --report)")
    rows = read_rows(options.rows)
    for number in draw(rows, options.draw, options.seed):
        for fresh in (False, True):
            if (number, fresh) in {(r["number"], r["fresh"]) for r in records(options.out)}:
                continue
            shutil.rmtree(options.runs / str(number), ignore_errors=True)  # of a run without a record
            done = reproduce(rows[number - 1], rows, options.runs / str(number), fresh=fresh, raw=options.raw,
                             say=lambda _: None)
            add(options.out, record(number, done))
            print(f"{number}: {done.row.label} seed {done.again.seed}: {done.verdict}", flush=True)


def draw(rows: list[Row], count: int, seed: int) -> list[int]:
    """Numbers (from 1) of `count` finished rows of models, in the order drawn."""
    fit = [number for number, row in enumerate(rows, 1) if row.role == "model" and row.status == "done"]
    return random.Random(seed).sample(fit, min(count, len(fit)))


def record(number: int, done: Reproduction) -> dict:
    """What is kept of one reproduction."""
    return {"number": number, "fresh": done.fresh, "model": done.row.label, "seed": done.row.seed,
            "commit": done.row.git, "commit_now": done.again.git, "conditions": done.conditions,
            "auc": done.row.metrics["test.auc"], "auc_now": done.again.metrics.get("test.auc"),
            "identical": done.identical, "interval": done.interval, "inside": done.inside, "good": done.good,
            "verdict": done.verdict, "seconds": done.again.seconds, "torch": done.again.torch,
            "processor": done.again.processor, "when": done.again.when}


def records(path: Path) -> list[dict]:
    """The records of an output; none when it is not there."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def add(path: Path, one: dict) -> None:
    """Add a record at the end."""
    write_whole(path, "".join(json.dumps(each) + "\n" for each in [*records(path), one]))


def report(path: Path) -> str:
    """A table in Markdown, and the counts."""
    found = records(path)
    same, fresh = ([r for r in found if r["fresh"] is kind] for kind in (False, True))
    lines = ["| row | model | seed | commit | test AUC | same seed | fresh seed | one more seed, 95 % |",
             "|---|---|---|---|---|---|---|---|"]
    for one in same:
        cells = [one["number"], one["model"], one["seed"], one["commit"][:12], f"{one['auc']:.6f}",
                 "identical" if one["identical"] else one["verdict"]]
        other = next((r for r in fresh if r["number"] == one["number"]), None)
        inside = "" if other is None else "inside" if other["inside"] else "outside"
        cells.append(f"{other['auc_now']:.6f} ({inside})" if other else "")
        cells.append(" – ".join(f"{end:.6f}" for end in one["interval"] or ()))
        lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += ["", f"Same seed: {sum(r['identical'] for r in same)} of {len(same)} bit for bit. Fresh seed: "
                  f"{sum(bool(r['inside']) for r in fresh)} of {len(fresh)} inside the 95 % interval."]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
