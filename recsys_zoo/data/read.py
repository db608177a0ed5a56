"""Files as a stream of chunks: CSV, TSV and Parquet, plain or compressed, with bounded memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from ..errors import InputError
from .spec import ReadSpec
from .values import Chunk, missing_column

_PARQUET, _TEXT = (".parquet", ".pq"), (".csv", ".txt")
_TABS = (".tsv", ".tab", ".inter", ".user", ".item")  # the last three: RecBole's atomic files
_PACKED = (".gz", ".zst", ".zlib")
_LINES = 1 << 15  # lines looked at together
_SLICE = 1 << 17  # rows of Parquet read together


def read_chunks(path: Path, columns: Sequence[str], read: ReadSpec, batch_rows: int,
                keep_empty: bool = False) -> Iterator[Chunk]:
    """The rows of one file in order, `batch_rows` at a time, only these columns; texts come as texts.

    Rows of a text file without any value in these columns are blank lines and left out, unless `keep_empty`.

    InputError names the file for what cannot be read: not there, empty, truncated, ragged, lacking a column.
    """
    path = Path(path)
    frame = _scan(path, read)
    with _readable(path):
        known = frame.collect_schema().names()
    for name in columns:
        if name not in known:
            raise missing_column(str(path), name, known)
    row = 1
    with _readable(path):
        for part in _batches(frame.select(columns), _is_parquet(path), batch_rows):
            if not keep_empty and not _is_parquet(path):
                part = _without_blank_lines(part)
            yield Chunk(part, str(path), np.arange(row, row + part.height))
            row += part.height
    if row == 1:
        raise InputError(f"{path}: has no rows; give a file with data")


def _batches(frame: pl.LazyFrame, parquet: bool, rows: int) -> Iterator[pl.DataFrame]:
    """The rows in order, at most `rows` together.

    Parquet is read in slices: polars' own stream holds more of a file the longer the file is.
    """
    if not parquet:
        yield from frame.collect_batches(chunk_size=rows, maintain_order=True)
        return
    total, step = frame.select(pl.len()).collect().item(), rows * max(1, _SLICE // rows)
    for start in range(0, total, step):
        yield from frame.slice(start, step).collect(engine="streaming").iter_slices(rows)


def check_lines(path: Path, read: ReadSpec) -> int | None:
    """InputError for the first line of a text file with too few fields, which would read as missing values.

    Returns the number of blank lines, None where that is not known. Lines with quotes are passed over, and
    nothing is checked behind one that opens a field of several lines.
    """
    path = Path(path)
    names = column_names(path, read)
    if _is_parquet(path) or len(names) == 1:  # an empty line in a single column is a missing value
        return 0
    separator, text, done, blank = read.separator or _separator(path), pl.col("line"), 0, 0
    facts = {"fields": text.str.count_matches(separator, literal=True) + 1,
             "quotes": text.str.count_matches('"', literal=True), "blank": text.str.strip_chars() == ""}
    with _readable(path):
        lines = pl.scan_csv(path, glob=False, infer_schema=False, has_header=False, new_columns=["line"],
                            separator="\x01", quote_char=None, truncate_ragged_lines=True)
        for part in lines.collect_batches(chunk_size=_LINES, maintain_order=True):
            found = part.lazy().select(text.is_null().alias("null"), **facts).with_row_index(offset=done + 1)
            empty = pl.col("null") | pl.col("blank")
            short = (pl.col("fields") < len(names)) & ~empty
            opens = pl.col("quotes") % 2 == 1
            first = found.filter((short & (pl.col("quotes") == 0)) | opens).head(1).collect()
            blank += found.select(empty.sum()).collect().item()
            done += part.height
            if first.height and first["quotes"][0] == 0:
                line, count = first["index"][0], first["fields"][0]
                raise InputError(f"{path}, line {line}: has {count} of {len(names)} fields; "
                                 "an empty one still needs its separator")
            if first.height:
                return None
    return blank


def read_frame(path: Path, read: ReadSpec | None = None, columns: Sequence[str] = ()) -> pl.DataFrame:
    """A whole file with these (or all) columns, for files that fit into memory; texts come as texts."""
    read = read or ReadSpec()
    blank, names = check_lines(path, read), columns or column_names(path, read)
    frame = pl.concat([chunk.frame for chunk in read_chunks(path, names, read, 1 << 18, keep_empty=True)])
    if blank == 0:
        return frame
    left = _without_blank_lines(frame)
    if blank is not None and frame.height - left.height != blank:
        raise InputError(f"{path}: has blank lines and rows without any value, which read alike; "
                         "remove the blank lines")
    return left


def column_names(path: Path, read: ReadSpec) -> list[str]:
    """The columns of a file, in order."""
    path = Path(path)
    with _readable(path):
        return _scan(path, read).collect_schema().names()


def _scan(path: Path, read: ReadSpec) -> pl.LazyFrame:
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name the files in it")
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: is empty; give a file with data")
    with _readable(path):
        if _is_parquet(path):
            return pl.scan_parquet(path, glob=False)
        separator = read.separator or _separator(path)
        header = list(read.header) or _header(path, separator)
        return pl.scan_csv(path, glob=False, infer_schema=False, separator=separator, new_columns=header,
                           has_header=not read.header, null_values=list(read.null_values) or None)


def _is_parquet(path: Path) -> bool:
    ending = _ending(path)
    if ending not in (*_PARQUET, *_TABS, *_TEXT):
        raise InputError(f"{path}: cannot tell the format by its name; let it end in .csv, .tsv or .parquet")
    return ending in _PARQUET


def _ending(path: Path) -> str:
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes and suffixes[-1] in _PACKED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _separator(path: Path) -> str:
    if _ending(path) in _TABS:
        return "\t"
    line = _first_line(path, "\x01", quote=None)[0]
    return max(",\t;|", key=line.count)


def _header(path: Path, separator: str) -> list[str]:
    names = _first_line(path, separator, quote='"')
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InputError(f"{path}: two columns are named {twice[0]!r}; rename one in the header line")
    return names


def _first_line(path: Path, separator: str, quote: str | None) -> list[str]:
    lines = pl.scan_csv(path, glob=False, infer_schema=False, has_header=False, separator=separator,
                        quote_char=quote, truncate_ragged_lines=True)
    first = lines.head(1).collect(engine="streaming")
    return [name or "" for name in first.row(0)] if first.height else [""]


def _without_blank_lines(part: pl.DataFrame) -> pl.DataFrame:
    """Blank lines are read as rows of nulls; they are no records."""
    if part.width == 0 or part.get_column(part.columns[0]).null_count() == 0:
        return part
    return part.filter(~pl.all_horizontal(pl.all().is_null()))


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = " ".join(str(error).split("\n", 1)[0].split())
        raise InputError(f"{path}: damaged, or not what its name says ({reason})") from None
