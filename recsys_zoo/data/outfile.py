"""Tables that are written a part at a time, as CSV or Parquet: whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from ..errors import InputError
from ..files import disk_errors, whole_file


def check_name(out: Path) -> None:
    """InputError for a name that does not say the format."""
    if out.suffix not in (".csv", ".parquet"):
        raise InputError(f"--out {out}: the name must end in .csv or .parquet")


def write_frames(out: Path, frames: Iterable[pl.DataFrame]) -> int:
    """Write frames of the same columns one below the other; returns the number of rows.

    Memory is that of one frame: the parts of a Parquet file lie beside it until they are joined.
    """
    check_name(out)
    rows = 0
    with whole_file(out) as file, disk_errors(out), tempfile.TemporaryDirectory(dir=out.parent) as parts:
        for number, frame in enumerate(frames):
            rows += frame.height
            if out.suffix == ".csv":
                frame.write_csv(file, include_header=number == 0)
            else:
                frame.write_parquet(Path(parts, f"{number:08}.parquet"))
        if out.suffix == ".parquet":
            pl.scan_parquet(Path(parts, "*.parquet")).sink_parquet(file)
    return rows
