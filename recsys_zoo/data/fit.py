"""The first pass over training rows: counts of values, numeric rules, longest bags; ends in an `Encoder`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from .encode import Encoder, all_values, bucket_text, fill_of
from .numeric import Fit, buckets
from .spec import ColumnSpec, DataSpec
from .tables import Table
from .values import Chunk, as_numbers, written_text
from .vocab import Counter, Vocabulary


class Fitter:
    """Shown every training row once, in any batches; the encoder does not depend on the batches.

    always: by column, values that its vocabulary holds even where training rows lack them.
    """

    def __init__(self, spec: DataSpec, always: Mapping[str, pl.Series] | None = None) -> None:
        self.spec, self.always = spec, always or {}
        self.counters = {c.name: Counter() for c in spec.columns if c.kind != "numeric" and not c.share_with}
        self.fits = {c.name: Fit(c) for c in spec.columns if c.rule in ("standardise", "quantile")}
        self.longest = {c.name: 1 for c in spec.columns if c.kind in ("bag", "sequence")}

    def add(self, chunk: Chunk) -> None:
        """Count these rows."""
        plain = [column for column in self.spec.columns if column.written]
        texts = [written_text(chunk.column(column.raw), chunk.where) for column in plain]
        Counter.add_all([self.counters[column.owner] for column in plain], texts)
        for column in self.spec.columns:
            if column.reads_numbers:
                self._add_numbers(chunk, column)
            elif not column.written:
                text, _, place = all_values(chunk, column)
                self.counters[column.owner].add(text)
                self.longest[column.name] = max(self.longest[column.name], int(place.max(initial=0)) + 1)

    def _add_numbers(self, chunk: Chunk, column: ColumnSpec) -> None:
        if column.name in self.fits:
            self.fits[column.name].add(as_numbers(chunk, column.raw, fill_of(column)))
        elif column.kind == "categorical":
            numbers = as_numbers(chunk, column.raw, fill_of(column))
            self.counters[column.name].add(bucket_text(buckets(column, {}, numbers)))

    def finish(self, tables: Sequence[Table] = ()) -> Encoder:
        """The encoder fitted on all rows seen; the side tables are kept with it."""
        fitted = {name: fit.finish() for name, fit in self.fits.items()}
        vocabularies: dict[str, Vocabulary] = {}
        columns = []
        for column in self.spec.columns:
            if column.name in self.longest and not column.max_len:
                column = column.model_copy(update={"max_len": self.longest[column.name]})
            if column.rule == "quantile":
                values, counts = self.fits[column.name].counted()
                text = bucket_text(buckets(column, fitted[column.name], values))
                self.counters[column.name].add(text, counts)
            if column.name in self.counters:
                counter, always = self.counters.pop(column.name), self.always.get(column.name)
                vocabularies[column.name] = counter.finish(column.min_count, always)
                del counter  # its memory is needed for the next one
            columns.append(column)
        spec = self.spec.model_copy(update={"columns": tuple(columns)})
        return Encoder(spec, vocabularies, fitted, tables)


class Grower:
    """Shown every training row that is appended; with `grow` the vocabularies grow at their ends, all else
    stays.
    """

    def __init__(self, encoder: Encoder, grow: bool) -> None:
        self.encoder = encoder
        self.columns = [c for c in encoder.spec.columns if c.kind != "numeric"] if grow else []
        self.counters = {name: Counter() for name in encoder.vocabularies}

    def add(self, chunk: Chunk) -> None:
        """Count these rows."""
        for column in self.columns:
            several = column.kind != "categorical"
            text = (all_values(chunk, column) if several else self.encoder.texts(chunk, column))[0]
            self.counters[column.owner].add(text)

    def finish(self, tables: Sequence[Table]) -> Encoder:
        """The encoder with the values that reached their column's min_count among the rows seen."""
        spec, old = self.encoder.spec, self.encoder.vocabularies
        counted = {c.name: self.counters[c.name].finish(c.min_count) for c in spec.columns if c.name in old}
        vocabularies = {name: old[name].grown(new) for name, new in counted.items()}
        return Encoder(spec, vocabularies, self.encoder.fitted, tables)
