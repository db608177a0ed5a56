"""The encoder: raw values to ids and numbers, the same for the rows that were prepared and for new ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote

import numpy as np
import polars as pl

from ..errors import InputError
from ..schema import Column, Schema
from .numeric import buckets, transform
from .spec import ColumnSpec, DataSpec
from .store import Split, split_shapes
from .tables import Table, columns_of_frame, join
from .values import Chunk, all_numbers, as_numbers, as_text, missing_column, written_text
from .vocab import Vocabulary

if TYPE_CHECKING:
    import pandas

    from ..batch import Inputs

Frame: TypeAlias = "pl.DataFrame | pandas.DataFrame | Mapping[str, Any]"
Fitted = dict[str, dict[str, float | list[float]]]


class Encoder:
    """A data set's spec with what was fitted on its training rows (vocabularies, numeric rules), side tables.
    """

    def __init__(self, spec: DataSpec, vocabularies: dict[str, Vocabulary], fitted: Fitted,
                 tables: Sequence[Table] = ()) -> None:
        """spec: with max_len filled in; vocabularies by the column that owns them; fitted by column."""
        self.spec, self.vocabularies, self.fitted, self.tables = spec, vocabularies, fitted, tables
        self.schema = Schema(
            dataset=spec.dataset, columns=tuple(self._column(c) for c in spec.columns),
            labels=tuple(label.name for label in spec.labels),
            group=spec.group, user=spec.user, item=spec.item, interactions=spec.interactions is not None)

    def _column(self, column: ColumnSpec) -> Column:
        size = 0 if column.kind == "numeric" else len(self.vocabularies[column.owner])
        return Column(name=column.name, kind=column.kind, side=column.side, vocab_size=size,
                      max_len=column.max_len, share_with=column.share_with)

    def encode(self, frame: Frame, where: str = "frame") -> Inputs:
        """What a model sees of the rows of a polars or pandas frame or a dict of columns; no labels needed.

        Values not in the vocabulary become 1 (unknown). The columns of a side table are taken from the frame
        where it has them, else joined by the frame's key column from the table as it was when the data were
        prepared (missing for keys that it lacks). InputError for a column that is not there (with near
        matches), for some columns of a side table without the others and for text in a numeric column; it
        begins with `where`.
        """
        names = self.spec.raw_columns(prediction=True)
        columns, joined = columns_of_frame(where, frame_names(frame), names, self.tables)
        table = to_polars(frame, columns, where)
        chunk, _ = join(Chunk(table, where, np.arange(1, table.height + 1)), joined)
        ids, numeric = self.arrays(chunk)
        labels = np.zeros((table.height, len(self.schema.labels)), np.float32)
        return Split(self.schema.of_rows(), ids, numeric, labels).inputs(slice(None))

    def arrays(self, chunk: Chunk, schema: Schema | None = None) -> tuple[np.ndarray, np.ndarray]:
        """ids int32 [rows, W] laid out by `Schema.id_slices`, and numeric float32 [rows, N].

        schema: a part of the columns, by default those of a row.
        """
        schema = schema or self.schema.of_rows()
        shapes = split_shapes(schema, len(chunk))
        ids = np.zeros(shapes["ids"][::-1], np.int32).T  # filled by columns
        numeric = np.zeros(shapes["numeric"][::-1], np.float32).T
        places, names = schema.id_slices(), {c.name for c in schema.columns}
        columns = [column for column in self.spec.columns if column.name in names]
        plain = [column for column in columns if column.written]
        texts = [written_text(chunk.column(column.raw), chunk.where) for column in plain]
        encoded = Vocabulary.encode_all([self.vocabularies[column.owner] for column in plain], texts)
        for column, found in zip(plain, encoded, strict=True):
            ids[:, places[column.name].start] = found
        numbers = [column for column in columns if column.kind == "numeric"]
        values = all_numbers(chunk, [(column.raw, fill_of(column)) for column in numbers])
        for place, column in enumerate(numbers):
            numeric[:, place] = transform(column, self.fitted.get(column.name, {}), values[place])
        for column in columns:
            if column.kind != "numeric" and not column.written:
                text, rows, place = self.texts(chunk, column)
                ids[rows, places[column.name].start + place] = self.vocabularies[column.owner].encode(text)
        return ids, numeric

    def texts(self, chunk: Chunk, column: ColumnSpec
              ) -> tuple[pl.Series, slice | np.ndarray, int | np.ndarray]:
        """What is looked up in a column's vocabulary: texts (canonical or not), the row of each, its place in
        the row."""
        if column.written:
            return written_text(chunk.column(column.raw), chunk.where), slice(None), 0
        if column.kind != "categorical":
            return kept_values(chunk, column)
        numbers = as_numbers(chunk, column.raw, fill_of(column))
        return bucket_text(buckets(column, self.fitted.get(column.name, {}), numbers)), slice(None), 0

    def decode(self, column: str, ids: np.ndarray) -> list[str | None]:
        """The texts (bucket numbers, for bucketed columns) of ids; None for padding and unknown."""
        owner = self.schema.column(column).share_with or column
        if owner not in self.vocabularies:
            raise InputError(f"column {column!r} is numeric and has no vocabulary")
        return self.vocabularies[owner].decode(ids)

    def save(self, folder: Path) -> None:
        """Write spec.json, numeric.json, one <column>.parquet a vocabulary and tables/<number>.parquet."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "spec.json").write_text(self.spec.model_dump_json(indent=1), encoding="utf-8")
        (folder / "numeric.json").write_text(json.dumps(self.fitted, indent=1), encoding="utf-8")
        for name, vocabulary in self.vocabularies.items():
            vocabulary.save(folder / vocabulary_file(name))
        self.save_tables(folder)

    def save_tables(self, folder: Path) -> None:
        """Write the side tables, numbered as in the spec."""
        for number, table in enumerate(self.tables):
            table.save(folder / table_file(number))

    @classmethod
    def open(cls, folder: Path | str) -> Encoder:
        """Read what `save` wrote (the encoding/ of a prepared folder, the vocab/ of a checkpoint)."""
        folder = Path(folder)
        spec = DataSpec.parse(_read_json(folder / "spec.json"), str(folder / "spec.json"))
        owners = [c.name for c in spec.columns if c.kind != "numeric" and not c.share_with]
        vocabularies = {name: Vocabulary.open(folder / vocabulary_file(name)) for name in owners}
        tables = [Table.open(folder / table_file(k), table) for k, table in enumerate(spec.tables)]
        return cls(spec, vocabularies, _read_json(folder / "numeric.json"), tables)


def vocabulary_file(column: str) -> str:
    """File name of a column's vocabulary; characters that do not belong into file names are escaped."""
    return f"{quote(column, safe=' ')}.parquet"


def table_file(number: int) -> str:
    """File name of a side table; no vocabulary lies in this folder."""
    return f"tables/{number}.parquet"


def fill_of(column: ColumnSpec) -> float | None:
    """The column's `fill` as a number, None when there is none."""
    return None if column.fill == "none" else float(column.fill)


def bucket_text(bucket: np.ndarray) -> pl.Series:
    """Bucket numbers as the texts that their vocabulary counts, null where missing."""
    return as_text(pl.Series(bucket))


def all_values(chunk: Chunk, column: ColumnSpec) -> tuple[pl.Series, np.ndarray, np.ndarray]:
    """The values of a bag or sequence one below the other: text, row, place in the row from 0.

    Missing and empty values are left out. All of them count for the vocabulary, so that it does not depend on
    max_len; FuxiCTR counts like this, and published table sizes need it.
    """
    series = chunk.column(column.raw)
    nested = isinstance(series.dtype, pl.List | pl.Array)
    lists = series if nested else as_text(series, chunk.where).str.split(column.separator)
    numbered = pl.DataFrame({"row": np.arange(len(series)), "value": lists}).explode("value")
    text = as_text(numbered.get_column("value").alias(column.raw), chunk.where)
    present = text.is_not_null()
    text, rows = text.filter(present), numbered.get_column("row").filter(present).to_numpy()
    lengths = np.bincount(rows, minlength=len(series))
    place = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return text, rows, place


def kept_values(chunk: Chunk, column: ColumnSpec) -> tuple[pl.Series, np.ndarray, np.ndarray]:
    """Those of `all_values` that are looked up.

    A bag keeps its first max_len values, from place 0; a sequence its last max_len, ending at place
    max_len - 1. With max_len 0 all are kept, counted from place 0.
    """
    text, rows, place = all_values(chunk, column)
    if not column.max_len:
        return text, rows, place
    if column.kind == "sequence":
        place = place - np.bincount(rows, minlength=len(chunk))[rows] + column.max_len
    kept = (place >= 0) & (place < column.max_len)
    return (text, rows, place) if kept.all() else (text.filter(pl.Series(kept)), rows[kept], place[kept])


def frame_names(frame: Frame) -> list[str]:
    """The names of a frame's columns; InputError for another kind of object."""
    if not isinstance(frame, pl.DataFrame | Mapping) and not hasattr(frame, "iloc"):
        raise InputError("frame: expected a polars or pandas frame or a dict of columns, "
                         f"got {type(frame).__name__}")
    return [str(name) for name in (frame.columns if isinstance(frame, pl.DataFrame) else frame.keys())]


def to_polars(frame: Frame, columns: Sequence[str], where: str = "frame") -> pl.DataFrame:
    """These columns as a polars frame; InputError for another kind of object, absent or uneven columns."""
    names = frame_names(frame)
    for name in columns:
        if name not in names:
            raise missing_column(where, name, names)
        if names.count(name) > 1:
            raise InputError(f"frame: two columns are named {name!r}; rename one")
    if isinstance(frame, pl.DataFrame):
        return frame.select(columns)
    try:
        return pl.DataFrame([_series(name, frame[name]) for name in columns])
    except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
        raise InputError(f"frame: not columns of equal length ({str(error).splitlines()[0]})") from None


def _series(name: str, values: Any) -> pl.Series:
    if isinstance(values, pl.Series):
        return values.alias(name)
    if not hasattr(values, "isna"):  # not of pandas: neither a Series nor an Index nor one of its arrays
        objects = isinstance(values, np.ndarray) and values.dtype == object
        return pl.Series(name, values.tolist() if objects else values, strict=False)
    if getattr(values.dtype, "kind", "O") in "iufbM" and isinstance(values.dtype, np.dtype):
        return pl.Series(name, values.to_numpy(), nan_to_null=True)  # pandas has no other way to say missing
    missing = np.asarray(values.isna())
    plain = values.astype(object).tolist()
    present = [None if gone else value for value, gone in zip(plain, missing, strict=True)]
    return pl.Series(name, present, strict=False)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; the encoder is incomplete") from None
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON: {error}") from None
