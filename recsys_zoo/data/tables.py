"""Side tables (of users, items, ...): held in memory, joined by key to rows that stream past."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from ..errors import InputError
from .read import read_frame, readable
from .spec import TableSpec
from .values import Chunk, as_text
from .vocab import FIRST, Vocabulary


class Table:
    """The columns that a side table brings, one row a key; keys are compared as canonical text."""

    def __init__(self, spec: TableSpec, keys: pl.Series, frame: pl.DataFrame) -> None:
        """keys: texts, all different, none missing; frame: the columns of the spec, as many rows."""
        self.spec, self.keys, self.frame = spec, keys, frame
        self._rows = Vocabulary(keys, pl.zeros(len(keys), eager=True))  # row 0 of `frame` has id FIRST

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def name(self) -> str:
        """Its (first) file, as the schema file names it."""
        return self.spec.files[0]

    @classmethod
    def read(cls, spec: TableSpec, folder: Path) -> Table:
        """Read the files; InputError names file, column and row of a missing or repeated key."""
        paths = [folder / name for name in spec.files]
        frames = [read_frame(path, spec.read, [spec.key, *spec.columns]) for path in paths]
        chunks = [
            Chunk(frame, str(path), np.arange(1, frame.height + 1))
            for path, frame in zip(paths, frames, strict=True)
        ]
        texts = [as_text(chunk.column(spec.key), chunk.where) for chunk in chunks]
        for chunk, text in zip(chunks, texts, strict=True):
            if text.null_count():
                raise chunk.error(spec.key, text.is_null().to_numpy(), "no key; fill it in or remove the row")
        _refuse_repeated(spec.key, chunks, texts)
        try:
            frame = pl.concat([frame.select(spec.columns) for frame in frames], how="vertical_relaxed")
        except pl.exceptions.PolarsError:
            raise InputError(
                f"{paths[0]}: its columns have other types than those of the table's other "
                "files; write all of them in one way"
            ) from None
        return cls(spec, pl.concat(texts).rechunk(), frame.rechunk())

    def find(self, chunk: Chunk) -> pl.Series:
        """The row of each key of the chunk, null where the table has none."""
        text = as_text(chunk.column(self.spec.raw), chunk.where)
        rows = pl.Series(self._rows.encode(text)) - FIRST
        return rows.set(rows < 0, None)

    def save(self, path: Path) -> None:
        """Write the keys and columns as Parquet."""
        buffer = io.BytesIO()
        self.frame.with_columns(self.keys.alias(self.spec.key)).write_parquet(buffer)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(buffer.getbuffer())  # by Python, whose errors say when the disk is full

    @classmethod
    def open(cls, path: Path, spec: TableSpec) -> Table:
        """Read what `save` wrote; InputError when the file is missing or damaged."""
        with readable(path, "the side tables are incomplete"):
            frame = pl.read_parquet(path, glob=False)
            return cls(spec, frame.get_column(spec.key), frame.select(spec.columns))


def join(chunk: Chunk, tables: Sequence[Table]) -> tuple[Chunk, np.ndarray]:
    """The chunk with the tables' columns; which rows have their key in each table, bool [rows, tables]."""
    found = np.ones((len(chunk), len(tables)), bool)
    frame, origins = chunk.frame, dict(chunk.origins)
    for place, table in enumerate(tables):
        rows = table.find(chunk)
        found[:, place] = rows.is_not_null().to_numpy()
        frame = frame.hstack(table.frame.select(pl.all().gather(rows)))
        origins |= dict.fromkeys(table.spec.columns, table.name)
    return Chunk(frame, chunk.where, chunk.rows, origins), found


def plan_join(columns: Sequence[str], tables: Sequence[Table]) -> tuple[list[str], list[Table]]:
    """What to read so that a join gives these columns: columns of the main files; the tables to join."""
    joined = [table for table in tables if not set(table.spec.columns).isdisjoint(columns)]
    brought = {name for table in joined for name in table.spec.columns}
    own = [name for name in columns if name not in brought]
    return list(dict.fromkeys([*own, *(table.spec.raw for table in joined)])), joined


def columns_of_frame(
    where: str, names: Collection[str], columns: Sequence[str], tables: Sequence[Table]
) -> tuple[list[str], list[Table]]:
    """`plan_join` for a frame that has these names: it may hold the columns of a side table itself.

    InputError when it holds some of a table's columns only.
    """
    absent = []
    for table in tables:
        used = [name for name in table.spec.columns if name in columns]
        held = [name for name in used if name in names]
        if not held:
            absent.append(table)
        elif len(held) < len(used):
            lacking = next(name for name in used if name not in held)
            raise InputError(
                f"{where}: has {held[0]!r} but not {lacking!r} of the side table {table.name!r}; "
                f"give all of its columns, or none and {table.spec.raw!r}"
            )
    return plan_join(columns, absent)


def refuse_both(where: str, names: Collection[str], tables: Sequence[Table]) -> None:
    """InputError for a column that a main file with these names has and a side table brings."""
    for table in tables:
        for name in table.spec.columns:
            if name in names:
                raise InputError(
                    f"{where}: has a column {name!r}, and so has the side table {table.name!r}; "
                    "rename one, or remove it from the table's columns"
                )


def _refuse_repeated(key: str, chunks: Sequence[Chunk], texts: Sequence[pl.Series]) -> None:
    together = pl.concat(texts)
    again = ~together.is_first_distinct()
    if not again.any():
        return
    second = int(again.arg_true()[0])
    first = int((together == together[second]).arg_true()[0])
    starts = np.cumsum([0, *map(len, chunks)])
    (file, row), (there, before) = (
        (chunks[k], int(place - starts[k]))
        for place in (second, first)
        for k in [int(np.searchsorted(starts, place, side="right")) - 1]
    )
    raise file.error(
        key,
        np.arange(len(file)) == row,
        f"the key {{value}} is in row {before + 1} of {there.where} already; keep one of them",
    )
