"""What stands beside every timing, the machine and the commit; and how lines of results are kept."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any


def machine() -> str:
    """Name of the processor and number of cores."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or 'unknown processor'}, {os.cpu_count()} cores"


def append(path: Path, lines: list[dict[str, Any]]) -> None:
    """Add results at the end of a file, one JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        stream.writelines(json.dumps(line) + "\n" for line in lines)


def write_report(path: Path, report: Callable[[list[dict[str, Any]]], str]) -> None:
    """FILE.md from the lines of FILE.jsonl."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    path.with_suffix(".md").write_text(report(lines), encoding="utf-8")


def commit(folder: Path) -> str:
    """Commit of a checkout; ends in -dirty when files other than results were changed."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(folder), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    code = (":(top)", ":(top,exclude)benchmarks/results")
    changed = git("status", "--porcelain", "--untracked-files=no", "--", *code)
    return git("describe", "--always", "--abbrev=12", "--exclude=*") + "-dirty" * bool(changed)
