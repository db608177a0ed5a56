"""Vocabularies: counted on training rows, ordered by falling count (ties by value), values from id 2 on.

A vocabulary grows at its end, by values that are ordered among themselves, so that ids keep their meaning.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from ..errors import InputError
from ..schema import FIRST, UNKNOWN
from .read import readable
from .values import as_text

_STRANGERS = 1 << 20  # texts that are no values: how many polars may remember, beside one a value


class Counter:
    """Counts of texts over a stream; memory grows with the number of distinct values only.

    Texts are counted as they are written; each distinct one is made canonical (`as_text`) at the end.
    """

    def __init__(self) -> None:
        self._type = pl.Categorical(pl.Categories.random())
        self._seen = [pl.Series([], dtype=self._type)]  # polars forgets categories that no series uses
        self._counts = np.empty(0, np.int64)  # by the code that polars gives a text; -1: not seen

    def add(self, text: pl.Series, counts: np.ndarray | int = 1) -> None:
        """Count these texts, each as often as `counts` says; nulls are left out (which needs one number)."""
        coded, places = _codes([text], [self._type])
        self._add(coded[0], places[0], counts)

    @staticmethod
    def add_all(counters: Sequence[Counter], texts: Sequence[pl.Series]) -> None:
        """Count the texts of several columns of equal length, each by its counter."""
        types = [counter._type for counter in counters]
        for counter, coded, codes in zip(counters, *_codes(texts, types), strict=True):
            counter._add(coded, codes)

    def _add(self, coded: pl.Series, places: pl.Series, counts: np.ndarray | int = 1) -> None:
        if coded.null_count():
            coded, places = coded.drop_nulls(), places.drop_nulls()
        codes = places.to_numpy()
        size = int(codes.max(initial=0)) + 1
        if size > len(self._counts):
            grown = np.full(size + size // 4, -1, np.int64)
            grown[:len(self._counts)] = self._counts
            self._counts = grown
        fresh = np.flatnonzero(self._counts[codes] < 0)
        if len(fresh):
            fresh = fresh[np.unique(codes[fresh], return_index=True)[1]]
            self._counts[codes[fresh]] = 0
            self._seen.append(coded.gather(fresh))
        np.add.at(self._counts, codes, counts)

    def finish(self, min_count: int = 1, always: pl.Series | None = None) -> Vocabulary:
        """The vocabulary of the values seen at least `min_count` times, and of `always`, seen or not."""
        if always is not None:
            self.add(always, 0)
        coded = pl.concat(self._seen)
        counts = pl.Series("count", self._counts[coded.to_physical().to_numpy()])
        written = coded.cast(pl.String).alias("value")
        text = as_text(written)
        counted = pl.DataFrame([text, counts])
        if text is not written:  # grouping takes more memory than all else here
            counted = counted.drop_nulls("value").group_by("value").agg(pl.col("count").sum())
        kept = pl.col("count") >= min_count
        if always is not None:
            kept |= pl.col("value").is_in(always.implode())
        ordered = counted.filter(kept).sort(["count", "value"], descending=[True, False])
        return Vocabulary(ordered.get_column("value"), ordered.get_column("count"))


class Vocabulary:
    """Values in the order of their ids (2, 3, ...); 0 is padding, 1 is unknown."""

    def __init__(self, values: pl.Series, counts: pl.Series) -> None:
        self.values = values.alias("value")
        self.counts = counts.alias("count").cast(pl.Int64)
        self._index: tuple[pl.Series, np.ndarray] | None = None

    def __len__(self) -> int:
        """Rows of an embedding table: the values, padding and unknown."""
        return len(self.values) + FIRST

    def encode(self, text: pl.Series) -> np.ndarray:
        """Ids int32 of texts, canonical or not; null and values not in the vocabulary are unknown (1)."""
        return self.encode_all([self], [text])[0]

    @staticmethod
    def encode_all(vocabularies: Sequence[Vocabulary], texts: Sequence[pl.Series]) -> list[np.ndarray]:
        """`encode` of several columns of equal length, each by its vocabulary."""
        types = [vocabulary._indexed()[0].dtype for vocabulary in vocabularies]
        _, codes = _codes(texts, types)
        return [each._ids(*column) for each, *column in zip(vocabularies, texts, codes, strict=True)]

    def _ids(self, text: pl.Series, places: pl.Series) -> np.ndarray:
        ids = self._indexed()[1]
        last = len(ids) - 1
        codes = (places.fill_null(last) if places.null_count() else places).to_numpy()
        found = ids.take(codes, mode="clip")
        strange = np.flatnonzero(codes >= last)
        if len(strange):
            if codes.max() > 2 * last + _STRANGERS:
                self._index = None
            raw = text.gather(strange)
            canonical = as_text(raw)
            other = (canonical != raw).fill_null(False)
            if other.any():
                found[strange[other.to_numpy()]] = self.encode(canonical.filter(other))
        return found

    def _indexed(self) -> tuple[pl.Series, np.ndarray]:
        self._index = self._index or self._make_index()
        return self._index

    def _make_index(self) -> tuple[pl.Series, np.ndarray]:
        """The values as polars codes them, and the id of each code, the last one for all others.

        The codes are kept between calls: an Enum builds its table anew at each cast, which takes seconds for
        millions of values. Polars gives every stranger a code too, so they are begun again when many came.
        """
        coded = self.values.cast(pl.Categorical(pl.Categories.random()))
        codes = coded.to_physical().to_numpy()
        ids = np.full((int(codes.max()) + 1 if len(codes) else 0) + 1, UNKNOWN, np.int32)
        ids[codes] = np.arange(FIRST, FIRST + len(codes))
        return coded, ids

    def grown(self, other: Vocabulary) -> Vocabulary:
        """This vocabulary, followed by what only the other one holds, with its counts."""
        fresh = pl.Series(self.encode(other.values) == UNKNOWN)
        if not fresh.any():
            return self
        return Vocabulary(pl.concat([self.values, other.values.filter(fresh)]),
                          pl.concat([self.counts, other.counts.filter(fresh)]))

    def decode(self, ids: np.ndarray) -> list[str | None]:
        """The texts of ids; None for padding and unknown."""
        places = pl.Series(np.asarray(ids, np.int64) - FIRST)
        return self.values.gather(places.set(places < 0, None)).to_list()

    def digest(self) -> str:
        """SHA-256 of values and counts, whatever file holds them."""
        length, count = pl.col("value").str.len_bytes().cast(pl.String), pl.col("count").cast(pl.String)
        row = pl.concat_str(length, pl.lit(":"), "value", count, pl.lit(";"))  # "2:ab7;": ab, seen 7 times
        digest = hashlib.sha256()
        for part in pl.DataFrame([self.values, self.counts]).iter_slices(65536):
            digest.update(part.select(row.str.join("")).item().encode())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write value, id, count as Parquet."""
        buffer = io.BytesIO()
        pl.DataFrame([self.values, _id_column(len(self.values)), self.counts]).write_parquet(buffer)
        path.write_bytes(buffer.getbuffer())  # by Python, whose errors say when the disk is full

    @classmethod
    def open(cls, path: Path) -> Vocabulary:
        """Read a vocabulary; InputError when the file is missing or damaged."""
        with readable(path, "the vocabularies are incomplete"):
            frame = pl.read_parquet(path, glob=False)
            if not frame.get_column("id").equals(_id_column(frame.height)):
                raise InputError(f"{path}: its ids are not {FIRST}, {FIRST + 1}, ...; it is not a vocabulary")
            return cls(frame.get_column("value"), frame.get_column("count"))


def _codes(texts: Sequence[pl.Series],
           types: Sequence[pl.DataType]) -> tuple[list[pl.Series], list[pl.Series]]:
    """Texts of equal length as categories of these types, and as the numbers of those.

    One call for all columns: polars shares them among its threads, and a call costs more than a short column.
    """
    names = [str(place) for place in range(len(texts))]
    frame = pl.DataFrame([text.alias(name) for text, name in zip(texts, names, strict=True)])
    coded = frame.select(pl.col(name).cast(kind) for name, kind in zip(names, types, strict=True))
    return coded.get_columns(), coded.select(pl.all().to_physical()).get_columns()


def _id_column(values: int) -> pl.Series:
    return pl.int_range(FIRST, FIRST + values, dtype=pl.Int32, eager=True).alias("id")
