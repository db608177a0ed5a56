"""Tables that are written a part at a time, as CSV or Parquet: whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from ..errors import InputError
from ..files import whole_file


def check_name(out: Path) -> None:
    """InputError for a name that does not say the format."""
    if out.suffix not in (".csv", ".parquet"):
        raise InputError(f"--out {out}: the name must end in .csv or .parquet")


def write_frames(out: Path, frames: Iterable[pl.DataFrame]) -> int:
    """Write frames of the same columns one below the other; returns the number of rows.

    Memory is that of one frame: the parts of a Parquet file lie beside it until they are joined.
    """
    check_name(out)
    rows, parts, beside = 0, [], {"dir": out.parent, "prefix": f".{out.name}."}
    with whole_file(out) as file, tempfile.TemporaryDirectory(**beside) as place:
        for number, frame in enumerate(frames):
            rows += frame.height
            if out.suffix == ".csv":
                frame.write_csv(file, include_header=number == 0)
            else:
                parts.append(Path(place, f"{number}.parquet"))
                frame.write_parquet(parts[-1])
        if parts:
            pl.scan_parquet(parts, glob=False).sink_parquet(file)
    return rows
