"""Workers in processes of their own that take turns: what the parents of worker.py share."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from machine import write_report

PARTS = ("loading", "forward_backward", "optimiser")


class Worker:
    """One contender; `facts` are what it says of itself, `rounds` its answers to `take_turns`."""

    def __init__(
        self, name: str, command: list[str], asked: dict[str, Any], environment: dict[str, str], log: str
    ) -> None:
        with open(log, "a", encoding="utf-8") as errors:
            self.process = subprocess.Popen(
                [*command, json.dumps(asked)],
                env={**os.environ, **environment},
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        self.name, self.asked, self.rounds = name, asked, []
        self.facts = self.read()["facts"]

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


def take_turns(workers: list[Worker], warm: int, rounds: int, steps: int) -> None:
    """`warm` steps each, then rounds of `steps` steps, another worker first each time."""
    for worker in workers:
        worker.ask(steps=warm)
    for number in range(rounds):
        for worker in workers[number % len(workers) :] + workers[: number % len(workers)]:
            worker.rounds.append(worker.ask(steps=steps))


def step_times(rounds: list[dict[str, Any]], steps: int) -> dict[str, float]:
    """Milliseconds a step: of the best round, with its parts, and of the median one."""
    each = [1e3 * r["seconds"] / steps for r in rounds]
    best = min(rounds, key=lambda r: r["seconds"])
    return {
        "best_ms": round(min(each), 2),
        "median_ms": round(statistics.median(each), 2),
        **{f"{k}_ms": round(1e3 * best[k] / steps, 2) for k in PARTS},
    }


def options(doc: str, peer: bool = False) -> argparse.ArgumentParser:
    """Options of every script whose workers take turns; with a peer, also where FuxiCTR is."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--report", type=Path, help="only write FILE.md from the lines of FILE.jsonl")
    if peer:
        add("--fuxictr", type=Path, help="git checkout of FuxiCTR")
        add("--peer-python", help="interpreter of FuxiCTR's environment")
    add("--log", default=os.devnull, help="file for the workers' messages")
    add("--out", type=Path, help="JSON lines, appended")
    return parser


def parse(
    parser: argparse.ArgumentParser, report: Callable[[list[dict[str, Any]]], str]
) -> argparse.Namespace:
    """The arguments, all that say where things are given; with --report, write it and end."""
    args = parser.parse_args()
    if args.report:
        write_report(args.report, report)
        raise SystemExit(0)
    needed = ("fuxictr", "peer_python", "recbole_python", "implicit_python", "out")
    places = [name for name in needed if name in args]
    missing = [f"--{name.replace('_', '-')}" for name in places if not getattr(args, name)]
    if missing:
        parser.error(f"needed: {', '.join(missing)}")
    return args
