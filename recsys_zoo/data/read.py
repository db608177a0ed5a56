"""Files as a stream of chunks: CSV, TSV and Parquet, plain or compressed, with bounded memory."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import zlib
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl

from ..errors import InputError
from .blocks import first_record, text_blocks
from .spec import ReadSpec
from .values import Chunk, missing_column

_PARQUET, _TEXT = (".parquet", ".pq"), (".csv", ".txt")
_TABS = (".tsv", ".tab", ".inter", ".user", ".item")  # the last three: RecBole's atomic files
_PACKED = (".gz", ".zst", ".zlib")
_LINE = {"infer_schema": False, "separator": "\x01", "quote_char": None, "truncate_ragged_lines": True}
_SLICE, _BYTES = 1 << 17, 4 << 20  # most rows of Parquet read together, and the bytes to aim at


def read_chunks(path: Path, columns: Sequence[str], read: ReadSpec, batch_rows: int,
                keep_empty: bool = False) -> Iterator[Chunk]:
    """The rows of one file in order, `batch_rows` at a time, only these columns; texts come as texts.

    Rows of a text file without any value in these columns are blank lines and left out, unless `keep_empty`.

    InputError names the file for what cannot be read: not there, empty, truncated, ragged, lacking a column.
    """
    path = Path(path)
    known = column_names(path, read)
    for name in columns:
        if name not in known:
            raise missing_column(str(path), name, known)
    row = 1
    with readable(path):
        parts = _parquet(path, columns) if _is_parquet(path) else _text(path, columns, read)
        for part in _ahead(parts):
            if not keep_empty and not _is_parquet(path):
                part = _without_blank_lines(part)
            for batch in part.iter_slices(batch_rows):
                yield Chunk(batch, str(path), np.arange(row, row + batch.height))
                row += batch.height
    if row == 1:
        raise InputError(f"{path}: has no rows; give a file with data")


def _ahead(parts: Generator[pl.DataFrame, None, None]) -> Iterator[pl.DataFrame]:
    """The same parts; while one is worked with, another thread reads the next."""
    with contextlib.closing(parts), ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, parts, None)
        while (part := coming.result()) is not None:
            coming = reader.submit(next, parts, None)
            yield part


def _parquet(path: Path, columns: Sequence[str]) -> Generator[pl.DataFrame, None, None]:
    """The rows in order, so many together that they take about `_BYTES`.

    Slices, because polars' own stream holds more of a file the longer the file is.
    """
    frame = pl.scan_parquet(path, glob=False)
    total, start, step = frame.select(pl.len()).collect().item(), 0, _SLICE >> 5
    while start < total:
        part = frame.select(columns).slice(start, step).collect(engine="streaming")
        start += step
        yield part
        step = min(_SLICE, max(_SLICE >> 7, _BYTES * part.height // max(1, part.estimated_size())))


def _text(path: Path, columns: Sequence[str], read: ReadSpec) -> Generator[pl.DataFrame, None, None]:
    """The records of a text file, a block at a time: polars' own stream holds more than the whole file."""
    separator, known = read.separator or _separator(path), column_names(path, read)
    names = {f"c{k}": name for k, name in enumerate(known)}
    header = separator.join(names).encode() + b"\n"  # so that a first record that is short is not refused
    blocks = text_blocks(path, header=_names_columns(path, read), before=header)
    if blocks is None:
        yield from _scan(path, read).select(columns).collect_batches(maintain_order=True)
        return
    wanted = [f"c{known.index(name)}" for name in columns]
    for block in blocks:
        try:
            part = pl.read_csv(block, infer_schema=False, columns=wanted, separator=separator,
                               null_values=list(read.null_values) or None)
        except pl.exceptions.ComputeError:
            _refuse_long(path, separator, len(known), header=_names_columns(path, read))
            raise
        del block  # so that it takes no memory beside its columns, while others work with them
        yield part.select(pl.col(place).alias(names[place]) for place in wanted)


def _refuse_long(path: Path, separator: str, fields: int, header: bool) -> None:
    """InputError for the first record with too many fields, of which polars does not say where it is."""
    row = 0
    for block in text_blocks(path, header) or ():
        text = io.StringIO(block.decode(errors="replace"), newline="")
        with contextlib.suppress(csv.Error):
            for record in filter(None, csv.reader(text, delimiter=separator)):
                row += 1
                if len(record) > fields:
                    raise InputError(f"{path}: row {row} has {len(record)} fields, and {fields} columns are "
                                     "named; put texts that hold the separator between quotes")


def check_lines(path: Path, read: ReadSpec) -> int | None:
    """InputError for the first line of a text file with too few fields, which would read as missing values.

    Returns the number of blank lines, None where that is not known. Lines with quotes are passed over, and
    nothing is checked behind one that opens a field of several lines.
    """
    path = Path(path)
    names = column_names(path, read)
    if _is_parquet(path) or len(names) == 1:  # an empty line in a single column is a missing value
        return 0
    separator, done, blank = read.separator or _separator(path), 0, 0
    with readable(path):
        for part in _lines(path):
            if isinstance(part, bytes):
                lines = _count(part, b"\n") + (not part.endswith(b"\n"))
                if b'"' not in part and _count(part, separator.encode()) == lines * (len(names) - 1):
                    done += lines  # a line with too many fields, which could hide a short one, is no record
                    continue
                part = pl.read_csv(b"line\n" + part, **_LINE)
            empty = _check_part(path, part.get_column("line"), separator, len(names), done)
            if empty is None:
                return None
            blank, done = blank + empty, done + part.height
    return blank


def _count(block: bytes, character: bytes) -> int:
    """`block.count(character)`, several times as fast for what is frequent."""
    return int(np.count_nonzero(np.frombuffer(block, np.uint8) == ord(character)))


def _lines(path: Path) -> Iterator[bytes | pl.DataFrame]:
    blocks = text_blocks(path, header=False, quotes=False)
    if blocks is not None:
        return blocks
    options = {**_LINE, "has_header": False, "new_columns": ["line"]}
    return pl.scan_csv(path, glob=False, **options).collect_batches(maintain_order=True)


def _check_part(path: Path, line: pl.Series, separator: str, fields: int, before: int) -> int | None:
    """Blank lines among these, which follow `before` others; None behind one that opens a longer field."""
    text = pl.col("line")
    facts = {"fields": text.str.count_matches(separator, literal=True) + 1,
             "quotes": text.str.count_matches('"', literal=True)}
    found = line.to_frame().lazy().select(
        (text.is_null() | (text.str.strip_chars() == "")).alias("empty"), **facts)
    short = (pl.col("fields") < fields) & ~pl.col("empty")
    wrong = (short & (pl.col("quotes") == 0)) | (pl.col("quotes") % 2 == 1)
    first = found.with_row_index(offset=before + 1).filter(wrong).head(1).collect()
    if not first.height:
        return found.select(pl.col("empty").sum()).collect().item()
    if first["quotes"][0] == 0:
        raise InputError(f"{path}, line {first['index'][0]}: has {first['fields'][0]} of {fields} fields; "
                         "an empty one still needs its separator")
    return None


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
    with readable(path):
        try:
            return _scan(path, read).collect_schema().names()
        except pl.exceptions.PolarsError as error:
            if "new_columns" not in str(error):
                raise
            raise InputError(f"{path}: has not as many columns as header under [read] names; give it these "
                             f"({', '.join(read.header)}), or a first line that names its own") from None


def _scan(path: Path, read: ReadSpec) -> pl.LazyFrame:
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name the files in it")
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: is empty; give a file with data")
    with readable(path):
        if _is_parquet(path):
            return pl.scan_parquet(path, glob=False)
        separator = read.separator or _separator(path)
        own = _names_columns(path, read)
        return pl.scan_csv(path, glob=False, infer_schema=False, separator=separator, has_header=own,
                           new_columns=_header(path, separator) if own else list(read.header),
                           null_values=list(read.null_values) or None)


def _names_columns(path: Path, read: ReadSpec) -> bool:
    """Whether a text file's first line names its columns: always, but where [read] has a header. Then a file
    may have the line all the same: one of names of that header, or two at least, and half of its fields."""
    if not read.header:
        return True
    first = _first_line(path, read.separator or _separator(path), quote='"')
    if len(set(first)) < len(first) or any(map(_is_number, first)):
        return False
    named = sum(name in read.header for name in first)
    return named == len(first) or (named >= 2 and 2 * named >= len(first))


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


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
    options = {"infer_schema": False, "has_header": False, "separator": separator, "quote_char": quote}
    options["truncate_ragged_lines"] = True
    blocks = text_blocks(path, header=False, quotes=quote is not None, size=1 << 14)
    if blocks is None:
        first = pl.scan_csv(path, glob=False, **options).head(1).collect(engine="streaming")
    else:
        first = pl.read_csv(first_record(next(blocks, b"")), **options)
    return [name or "" for name in first.row(0)] if first.height else [""]


def _without_blank_lines(part: pl.DataFrame) -> pl.DataFrame:
    """Blank lines are read as rows of nulls; they are no records."""
    if part.width == 0 or part.get_column(part.columns[0]).null_count() == 0:
        return part
    return part.filter(~pl.all_horizontal(pl.all().is_null()))


@contextlib.contextmanager
def readable(path: Path, missing: str = "give a file that is there") -> Iterator[None]:
    """Turn what polars and the system say of a damaged or absent file into one sentence.

    Of some damaged Parquet files polars says nothing: it panics, with what is no Exception at all.
    """
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {missing}") from None
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, EOFError, zlib.error) as error:
        reason = " ".join(str(error).split("\n", 1)[0].split())
        if "invalid utf-8" in reason:
            raise InputError(f"{path}: is not UTF-8; convert it") from None
        raise InputError(f"{path}: damaged, or not what its name says ({reason})") from None
