"""Raw values as canonical text or as numbers, whatever file they come from; errors name file, column, row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from ..errors import InputError, unknown_name

LARGEST = float(np.finfo(np.float32).max)  # numbers are stored as float32


@dataclass
class Chunk:
    """Some rows of one file: `rows` holds their numbers in the file (the first data row is 1).

    origins: column -> side table that it was joined from.
    """

    frame: pl.DataFrame
    where: str
    rows: np.ndarray
    origins: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.frame.height

    def filter(self, mask: np.ndarray) -> Chunk:
        """The rows where mask is true."""
        if mask.all():
            return self
        return Chunk(self.frame.filter(pl.Series(mask)), self.where, self.rows[mask], self.origins)

    def column(self, name: str) -> pl.Series:
        """One column; UnknownName-like InputError with near matches."""
        if name not in self.frame.columns:
            raise missing_column(self.where, name, self.frame.columns)
        return self.frame.get_column(name)

    def error(self, column: str, bad: np.ndarray, what: str) -> InputError:
        """The sentence for the first row where `bad`; `what` may use {value}."""
        place = int(np.flatnonzero(bad)[0])
        value = self.frame.get_column(column)[place]
        what = what.replace("{value}", repr(value))
        origin = f" (from {self.origins[column]})" if column in self.origins else ""
        return InputError(f"{self.where}: column {column!r}{origin}, row {self.rows[place]}: {what}")


def missing_column(where: str, name: str, known: list[str]) -> InputError:
    """The error for a column that is not there, with near matches."""
    return InputError(f"{where}: {unknown_name('column', name, known)}")


def as_text(series: pl.Series, where: str = "") -> pl.Series:
    """Canonical text, null for missing: the same value has the same text in CSV, Parquet and frames.

    Whole numbers lose a trailing ".0" (pandas writes integers with gaps as 3.0), times are ISO 8601, empty
    text and NaN are missing. InputError for nested and binary values.
    """
    kind = series.dtype
    if kind == pl.String:
        return _tidy(series)
    if kind.is_integer():
        return series.cast(pl.String)
    if kind.is_float():
        return _float_text(series)
    if kind == pl.Boolean or isinstance(kind, pl.Categorical | pl.Enum | pl.Decimal):
        return _tidy(series.cast(pl.String))
    if kind.is_temporal():
        return series.dt.to_string("iso:strict")
    if kind == pl.Null:
        return series.cast(pl.String)
    raise InputError(f"{where}: column {series.name!r} holds {kind}, neither text nor numbers; convert it")


def written_text(series: pl.Series, where: str = "") -> pl.Series:
    """Text as a file has it, otherwise `as_text`: for what looks at each distinct value, not at each row."""
    return series if series.dtype == pl.String else as_text(series, where)


def _tidy(text: pl.Series) -> pl.Series:
    if text.str.ends_with(".0").any():
        text = text.str.replace(r"^(-?[0-9]+)\.0$", "${1}")
    if text.is_in(["", "-0"]).any():
        text = text.replace(["", "-0"], [None, "0"])
    return text


def _float_text(series: pl.Series) -> pl.Series:
    frame = pl.DataFrame({"x": series.fill_nan(None)})
    whole = (pl.col("x") == pl.col("x").floor()) & (pl.col("x").abs() < 2.0**63)
    as_integer = pl.col("x").cast(pl.Int64, strict=False).cast(pl.String)
    text = pl.when(whole).then(as_integer).otherwise(pl.col("x").cast(pl.String))
    return frame.select(text.alias(series.name)).to_series()


def as_numbers(chunk: Chunk, column: str, fill: float | None = None, role: str = "") -> np.ndarray:
    """A column as float64, NaN for missing; `fill` takes the place of missing, NaN and infinite values.

    InputError for text that is no number, and for NaN and infinite values when there is no fill; `role` says
    what reads the numbers, where that is no column of a model.
    """
    return all_numbers(chunk, [(column, fill)], role)[0]


def all_numbers(chunk: Chunk, columns: Sequence[tuple[str, float | None]],
                role: str = "") -> list[np.ndarray]:
    """`as_numbers` of several columns, each with its fill.

    Texts are read by one call for all columns, which polars shares among its threads.
    """
    texts = {name for name, _ in columns if chunk.column(name).dtype == pl.String}
    read = chunk.frame.select(pl.col(name).cast(pl.Float64, strict=False) for name in texts)
    known = {series.name: series for series in read.get_columns()}
    return [_checked(chunk, name, to_float(chunk.column(name), known.get(name)), fill, role)
            for name, fill in columns]


def _checked(chunk: Chunk, column: str, numbers: pl.Series | None, fill: float | None,
             role: str) -> np.ndarray:
    series = chunk.column(column)
    otherwise = f"name another {role}" if role else "make the column kind = \"categorical\""
    if numbers is None:
        raise InputError(f"{chunk.where}: column {column!r} holds {series.dtype}, not numbers; {otherwise}")
    values = numbers.to_numpy()  # NaN for null
    odd = ~(np.abs(values) <= LARGEST)
    if not odd.any():
        return values
    if numbers.null_count() > series.null_count():
        wrong = numbers.is_null().to_numpy() & ~is_missing(series)
        if wrong.any():
            raise chunk.error(column, wrong, f"{{value}} is not a number; mend the file or {otherwise}")
    if fill is not None:
        return np.where(odd, fill, values)
    odd &= numbers.is_not_null().to_numpy()
    if odd.any():
        mend = "" if role else " or set fill"
        raise chunk.error(column, odd, f"{{value}} is not a finite number; mend the file{mend}")
    return values


def to_float(series: pl.Series, numbers: pl.Series | None = None) -> pl.Series | None:
    """The series as Float64 with null where a text is no number; None for types that hold no numbers.

    numbers: what polars reads of the texts, where that is known.
    """
    kind = series.dtype
    if kind == pl.String:
        numbers = series.cast(pl.Float64, strict=False) if numbers is None else numbers
        if numbers.null_count() > series.null_count():
            tidy = series.str.strip_chars().str.to_lowercase()
            words = tidy.replace_strict({"true": 1.0, "false": 0.0}, default=None, return_dtype=pl.Float64)
            numbers = tidy.cast(pl.Float64, strict=False).fill_null(words)
        return numbers
    if kind.is_numeric() or kind in (pl.Boolean, pl.Null):
        return series.cast(pl.Float64)
    return None


def is_missing(series: pl.Series) -> np.ndarray:
    """Rows without a value: null or, in text, nothing but blanks."""
    missing = series.is_null()
    if series.dtype == pl.String:
        missing = missing | (series.str.strip_chars() == "")
    return missing.to_numpy()


def as_times(chunk: Chunk, column: str) -> np.ndarray:
    """Moments to compare, float64: numbers as they are, dates and times in microseconds since 1970."""
    series = chunk.column(column)
    if isinstance(series.dtype, pl.Date | pl.Datetime):
        times = series.cast(pl.Datetime("us")).to_physical().cast(pl.Float64)
    else:
        numbers = to_float(series)
        times = pl.Series([None] * len(series), dtype=pl.Float64) if numbers is None else numbers
        if series.dtype == pl.String and times.null_count():
            times = times.fill_null(_parse_dates(series))
    bad = ~np.isfinite(times.fill_null(float("nan")).to_numpy())
    if bad.any():
        raise chunk.error(column, bad, "{value} is neither a number nor an ISO date, needed to split by time")
    return times.to_numpy()


def _parse_dates(text: pl.Series) -> pl.Series:
    tidy = text.str.replace("T", " ", literal=True).str.strip_suffix("Z")
    moment = tidy.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", strict=False, time_unit="us")
    minute = tidy.str.to_datetime("%Y-%m-%d %H:%M", strict=False, time_unit="us")
    day = tidy.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us"))
    return moment.fill_null(minute).fill_null(day).to_physical().cast(pl.Float64)
