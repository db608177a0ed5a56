"""All tests, long ones included, with a summary for the record: python tests/run_all.py --out FILE.json"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path


def main() -> int:
    """Run pytest, pass its output on, and write commit, counts and seconds; returns pytest's exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    git = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    since = time.perf_counter()
    command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "worksteal", "-m", "not gpu"]
    process = subprocess.Popen(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True
    )
    last = ""
    for line in process.stdout or ():
        print(line, end="", flush=True)
        last = line if re.search(r"\d+ (passed|failed)", line) else last
    code = process.wait()
    counts = {
        word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|errors?)", last)
    }
    summary = {"commit": commit, **counts, "seconds": round(time.perf_counter() - since), "exit_code": code}
    out.write_text(json.dumps(summary) + "\n", encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
