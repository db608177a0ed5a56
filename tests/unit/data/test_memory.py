"""Files four times as large as the memory that preparing them may take, under a limit of the kernel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recsys_zoo.data.store import Prepared

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits and reads memory by Linux's means")

SPEC = {
    "dataset": "wide",
    "labels": ["click"],
    "columns": [{"name": f"c{k}", "kind": "bag", "max_len": 1} for k in range(4)],
    "split": {"method": "column", "column": "part"},
}

# The base is what the process has after a small file of the same kind: interpreter, libraries, thread pools.
CHILD = """
import json, resource, sys
from pathlib import Path
import polars as pl
from recsys_zoo.data import blocks, read
from recsys_zoo.data.prepare import prepare
from recsys_zoo.data.spec import DataSpec

what, file, warm, out, allowed, block = sys.argv[1:7]
spec = DataSpec.parse(json.loads(sys.argv[7]), "spec")

def go(file, out):
    if what == "prepare":
        return prepare([Path(file)], spec, out)
    return pl.read_csv(file, infer_schema=False) if file.endswith("csv") else pl.read_parquet(file)

blocks._SIZE = read._BYTES = int(block)
go(warm, out)
status = Path("/proc/self/status").read_text().splitlines()
base = next(int(line.split()[1]) << 10 for line in status if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, (base + int(allowed), -1))
go(file, out)
"""
# Freed memory goes back at once, so that the limit is on what is needed and not on what is kept for later.
ALLOCATORS = {
    "_RJEM_MALLOC_CONF": "retain:false,dirty_decay_ms:0,muzzy_decay_ms:0,narenas:1",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "MALLOC_MMAP_THRESHOLD_": "65536",
}


def write(path: Path, rows: int) -> Path:
    """Four columns of texts, no two rows alike, cut from a small vocabulary: about 545 bytes a row."""
    rng = np.random.default_rng(0)
    words = pl.Series([rng.bytes(8).hex() for _ in range(1000)])
    parts = pl.Series(["train", "train", "valid", "test"]).gather(np.arange(rows) % 4)
    columns = {"click": pl.Series(rng.integers(0, 2, rows)), "part": parts}
    for k in range(4):
        parts = pl.DataFrame({f"p{j}": words.gather(rng.integers(0, 1000, rows)) for j in range(8)})
        columns[f"c{k}"] = parts.select(pl.concat_str(pl.all(), separator="|")).to_series()
    frame = pl.DataFrame(columns)
    if path.suffix == ".csv":
        frame.write_csv(path)
    else:
        frame.write_parquet(path, compression="uncompressed", row_group_size=max(2000, rows // 50))
    return path


def check(folder: Path, ending: str, rows: int, block: int) -> None:
    file, warm = write(folder / f"large{ending}", rows), write(folder / f"small{ending}", 2000)
    allowed = file.stat().st_size // 4
    assert allowed > 100 * rows  # nothing was packed away

    def run(what: str, memory: int) -> subprocess.CompletedProcess[str]:
        words = [what, file, warm, folder / what, memory, block, json.dumps(SPEC)]
        return subprocess.run(
            [sys.executable, "-c", CHILD, *map(str, words)],
            env={**os.environ, **ALLOCATORS},
            capture_output=True,
            text=True,
            check=False,
        )

    done = run("prepare", allowed)
    assert done.returncode == 0, done.stderr[-2000:]
    whole = run("whole", allowed)
    assert whole.returncode != 0
    assert "memory" in whole.stderr.lower()
    assert run("whole", 16 * allowed).returncode == 0  # it is the limit that stops it
    compare(
        Prepared.open(folder / "prepare"),
        pl.read_parquet(file) if ending == ".parquet" else pl.read_csv(file),
    )


def compare(data: Prepared, raw: pl.DataFrame) -> None:
    """What was prepared against the whole file in polars: first words, by falling count of all, then text."""
    words = raw.select("part", "click", pl.col("^c[0-3]$").str.split("|").list.first())
    train = raw.filter(pl.col("part") == "train")
    for place, name in enumerate(("c0", "c1", "c2", "c3")):
        counts = train.select(pl.col(name).str.split("|").explode()).group_by(name).len()
        order = counts.sort(["len", name], descending=[True, False]).with_row_index("id", offset=2)
        ids = words.join(order, on=name, how="left", maintain_order="left")
        for part in ("train", "valid", "test"):
            expected = ids.filter(pl.col("part") == part)
            assert np.array_equal(data.split(part).ids[:, place], expected["id"].fill_null(1).to_numpy())
            assert np.array_equal(data.split(part).labels[:, 0], expected["click"].to_numpy())


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_file_four_times_the_memory(tmp_path: Path, ending: str):
    check(tmp_path, ending, 240_000, 1 << 20)


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_large_file_four_times_the_memory(tmp_path: Path, ending: str):
    """With blocks as large as they are by default."""
    check(tmp_path, ending, 800_000, 4 << 20)
