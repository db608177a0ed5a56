"""The split of every row, decided once before or during the first pass and replayed in the second."""

from __future__ import annotations

import datetime
import io
from pathlib import Path

import numpy as np
import polars as pl

from ..errors import InputError, unknown_name
from .split import by_fractions, by_release, by_time, by_user, by_users, cut_times, hash_unit
from .splitspec import SplitSpec, check_split_name, given_of
from .values import Chunk, as_text, as_times, is_missing


class DenseCodes:
    """Numbers 0, 1, 2, ... for texts in order of first appearance over all chunks."""

    def __init__(self, values: pl.Series | None = None) -> None:
        """values: texts, all different, that have the first numbers already."""
        self._type = pl.Categorical(pl.Categories.random())
        self._seen = [pl.Series([], dtype=self._type)]  # polars forgets categories that no series uses
        self._dense = np.empty(0, np.int64)
        self._next = 0
        if values is not None:
            self.encode(values)

    def encode(self, text: pl.Series) -> np.ndarray:
        """The code of each text; there must be no null."""
        coded = text.cast(self._type)
        raw = coded.to_physical().to_numpy()
        values, first = np.unique(raw, return_index=True)
        if len(values) and values[-1] >= len(self._dense):
            grown = np.full(max(2 * len(self._dense), int(values[-1]) + 1), -1, np.int64)
            grown[:len(self._dense)] = self._dense
            self._dense = grown
        first = np.sort(first[self._dense[values] < 0])
        self._dense[raw[first]] = np.arange(self._next, self._next + len(first))
        self._next += len(first)
        self._seen.append(coded.gather(first))
        return self._dense[raw]

    def values(self) -> pl.Series:
        """The texts numbered so far, in the order of their numbers."""
        return pl.concat(self._seen).cast(pl.String).alias("value")

    def save(self, path: Path) -> None:
        """Write the texts as Parquet."""
        buffer = io.BytesIO()
        self.values().to_frame().write_parquet(buffer)
        path.write_bytes(buffer.getbuffer())


class Assigner:
    """Gives each row the number of its split in `names`.

    Rules that need all rows first (time by fractions, user, users, release) are shown every chunk with
    `observe`, then `settle`. They hold 8 (time) or 16 bytes a row in memory, for a moment 24 or 80; the other
    rules hold nothing.
    """

    def __init__(self, spec: SplitSpec, names: tuple[str, ...]) -> None:
        self.spec, self.names = spec, names
        owners = {"user": spec.user, "users": spec.user, "release": "".join(spec.keys)}
        self._owner = owners.get(spec.method, "")  # the column whose values' rows are decided about together
        self.looks_ahead = bool(self._owner) or (spec.method == "time" and not spec.cuts)
        self._times: list[np.ndarray] = []
        self._owners: list[np.ndarray] = []  # of the rows: users, or items
        self._codes = DenseCodes()
        self._cuts: list[float] = []
        self._decided = np.empty(0, np.uint8)
        if spec.method == "time" and spec.cuts:
            self._cuts = [_moment(name, value) for name, value in spec.cuts.items()]
            if self._cuts != sorted(self._cuts):
                raise InputError(f"split.cuts={spec.cuts}: the moments must rise from split to split")

    def observe(self, chunk: Chunk) -> None:
        """Note what the rule needs of these rows."""
        if self.spec.random:
            self._times.append(self._hashed(chunk))
        elif self.spec.column:
            self._times.append(as_times(chunk, self.spec.column))
        if self._owner:
            purpose = f"split by {self.spec.method}"
            self._owners.append(self._codes.encode(needed_text(chunk, self._owner, purpose)))

    def settle(self, kept: np.ndarray | None = None) -> None:
        """Decide, after the last chunk, from the rows that are kept (all without a mask)."""
        if self._owner:
            owners = np.concatenate(self._owners) if self._owners else np.empty(0, np.int64)
            times = np.concatenate(self._times) if self._times else np.zeros(len(owners))
            stays = np.ones(len(owners), bool) if kept is None else kept
            self._decided = np.zeros(len(owners), np.uint8)
            self._decided[stays] = self._by_owner(owners[stays], times[stays])
        elif self._times and sum(map(len, self._times)):
            times = np.concatenate(self._times)
            self._cuts = cut_times(times if kept is None else times[kept], self.spec.fractions)
        self._times, self._owners = [], []

    def _by_owner(self, owners: np.ndarray, times: np.ndarray) -> np.ndarray:
        if self.spec.method == "release":
            return by_release(np.unique(owners, return_inverse=True)[1], times, self.spec.fractions)
        if self.spec.method == "user":
            return by_user(owners, times, list(self.spec.last.values()))
        unit = hash_unit([self._codes.values().to_numpy()], self.spec.salt)
        names = by_fractions(unit, self.spec.fractions)
        of_user = np.array([self.names.index(name) for name in names], np.int64)
        given = np.array([self.names.index(given_of(n)) if given_of(n) in self.names else 0
                          for n in self.names], np.int64)
        return by_users(owners, times, of_user, given, self.spec.given)

    def _hashed(self, chunk: Chunk) -> np.ndarray:
        keys = [needed_text(chunk, key, "split by hash", empty="").to_numpy() for key in self.spec.keys]
        return hash_unit(keys, self.spec.salt)

    def assign(self, chunk: Chunk, first: int, before: int, split: str) -> np.ndarray:
        """Split numbers (uint8) of a chunk.

        first: rows assigned so far; before: rows of earlier files, dropped ones counted; split: the file's.
        """
        rule = self.spec
        if rule.method == "files":
            return np.full(len(chunk), self.names.index(split), np.uint8)
        if rule.method == "column":
            return self._by_column(chunk)
        if rule.method == "time":
            return by_time(as_times(chunk, rule.column), self._cuts).astype(np.uint8)
        if self._owner:
            return self._decided[first:first + len(chunk)]
        keys = [needed_text(chunk, key, "split by hash", empty="").to_numpy() for key in rule.keys]
        unit = hash_unit(keys or [(before + chunk.rows - 1).astype(np.str_)], rule.salt)
        return self._numbers(by_fractions(unit, rule.fractions))

    def _by_column(self, chunk: Chunk) -> np.ndarray:
        text = needed_text(chunk, self.spec.column, "split by column")
        known = self.spec.names or {name: name for name in self.spec.splits}
        for value in text.unique(maintain_order=True):
            if value not in known:
                raise InputError(f"{chunk.where}: column {self.spec.column!r}: "
                                 f"{unknown_name('split', value, known)}; split.names maps values to splits")
        numbers = {value: self.names.index(name) for value, name in known.items()}
        return text.replace_strict(numbers, return_dtype=pl.UInt8).to_numpy()

    def _numbers(self, names: np.ndarray) -> np.ndarray:
        numbers = np.zeros(len(names), np.uint8)
        for number, name in enumerate(self.names):
            numbers[names == name] = number
        return numbers


def needed_text(chunk: Chunk, column: str, purpose: str, empty: str | None = None) -> pl.Series:
    """A column as text; missing values become `empty`, or are refused when it is None, blanks too."""
    text = as_text(chunk.column(column), chunk.where)
    if empty is not None:
        return text.fill_null(empty)
    if (missing := is_missing(text)).any():
        raise chunk.error(column, missing, f"no value, which is needed to {purpose}")
    return text


def _moment(name: str, value: float | str) -> float:
    if not isinstance(value, str):
        return float(value)
    frame = pl.DataFrame({name: [value]})
    try:
        return float(as_times(Chunk(frame, "split.cuts", np.array([1])), name)[0])
    except InputError:
        raise InputError(f"split.cuts.{name}={value!r} is neither a number nor an ISO date such as "
                         f"{datetime.date(2020, 5, 1)}") from None


def split_of_files(files: list[Path], split_files: dict[str, list[Path]] | None, spec: SplitSpec
                   ) -> list[tuple[str, Path]]:
    """(split or "", path) of every file in reading order, training first; InputError if they clash.

    With split_files, `files` are the training files.
    """
    if split_files:
        for name in split_files:
            check_split_name(name)
        if files and "train" in split_files:
            raise InputError("the training files are given twice, plain and as split 'train'; leave one out")
        split_files = {"train": files, **split_files} if files else split_files
        if spec.method != "files":
            raise InputError(f"the files of each split are given, so split.method={spec.method!r} has no "
                             "use; remove [split] or give the files without split names")
        if "train" not in split_files:
            raise InputError(f"the splits {list(split_files)} have no 'train'")
        order = sorted(split_files, key=lambda name: name != "train")
        return [(name, Path(path)) for name in order for path in split_files[name]]
    if not files:
        raise InputError("no file is given")
    if spec.method == "files":
        raise InputError("split.method='files' needs the files of each split (train, valid, test); name "
                         "them, or choose another split.method: column, time, hash, user, users or "
                         "release")
    return [("", Path(path)) for path in files]
