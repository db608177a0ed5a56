"""Interactions while their files stream past: which rows stay, and what is fitted on which of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from ..errors import InputError
from ..schema import Side
from .assign import DenseCodes, needed_text
from .encode import Encoder
from .fit import Fitter
from .interactions import core, first_of_pairs
from .spec import ColumnSpec, DataSpec, InteractionSpec
from .tables import Table, join
from .values import Chunk, as_numbers, as_times

DROPPED = 255  # in place of a split's number
SIDES: tuple[Side, ...] = ("user", "item")


def above(chunk: Chunk, rule: InteractionSpec) -> np.ndarray:
    """The rows whose rating is above the threshold: bool [rows]; InputError for a missing rating."""
    if not rule.rating:
        return np.ones(len(chunk), bool)
    ratings = as_numbers(chunk, rule.rating, role="rating")
    if np.isnan(ratings).any():
        raise chunk.error(rule.rating, np.isnan(ratings), "no rating; fill it in or leave the row out")
    return ratings > rule.above


class Selection:
    """Which rows of interactions stay; it holds 16 bytes a row, 24 with times, for a moment more, then 2."""

    def __init__(self, spec: DataSpec) -> None:
        self.spec, self.rule = spec, spec.interactions or InteractionSpec(repeats="keep")
        self.needed = self.rule.repeats != "keep" or max(self.rule.user_core, self.rule.item_core) > 1
        self._time = self.rule.time or spec.split.order  # of two rows of a pair, which is the first
        self._codes = {side: DenseCodes() for side in SIDES}
        self._rows: dict[str, list[np.ndarray]] = {"user": [], "item": [], "time": []}
        self.few = np.empty(0, bool)  # after settle: rows that would go as those of too few, not as repeats

    def observe(self, chunk: Chunk) -> None:
        """Note what the rules need of these rows."""
        for side, codes in self._codes.items():
            text = needed_text(chunk, self.spec.raw_id(side), f"know the {side}")
            self._rows[side].append(codes.encode(text))
        if self._time:
            self._rows["time"].append(as_times(chunk, self._time))

    def settle(self) -> np.ndarray:
        """After the last chunk, the rows that stay: bool [rows]."""
        none = [np.empty(0, np.int64)]
        users, items = (np.concatenate(self._rows[side] or none) for side in SIDES)
        times = np.concatenate(self._rows["time"]) if self._rows["time"] else np.zeros(len(users))
        self._rows = {}
        once = first_of_pairs(users, items, times, self.rule.repeats == "last")
        if self.rule.repeats == "refuse" and not once.all():
            again = np.flatnonzero(~once)
            raise InputError(
                f"interactions: {len(again)} rows repeat a pair of user and item, the first of them row "
                f"{again[0] + 1} of those that count; remove them, or say which row stays by "
                "interactions.repeats = 'first', 'last' or 'keep'")
        stays = np.zeros(len(users), bool)
        stays[once] = core(users[once], items[once], self.rule.user_core, self.rule.item_core)
        self.few = once | (self.rule.repeats == "keep")
        if self.rule.repeats == "keep":  # the other rows of a pair stay with the one that was counted
            pairs = users * (items.max(initial=0) + 1) + items
            stays = np.isin(pairs, pairs[stays])
        return stays


class InteractionFitter:
    """A `Fitter` of the rows, and one of the users and items that have a training row.

    Users and items of every row get an id, in the order of their number of training rows: those of held-out
    rows come last, whatever these rows say of them.
    """

    def __init__(self, spec: DataSpec) -> None:
        self.spec, self.rows = spec, Fitter(_part(spec, spec.row_columns))
        self._known = {side: DenseCodes() for side in SIDES}

    def know(self, chunk: Chunk) -> None:
        """Rows of any split."""
        for side, codes in self._known.items():
            codes.encode(needed_text(chunk, self.spec.raw_id(side), f"know the {side}"))

    def add(self, chunk: Chunk) -> None:
        """Training rows."""
        self.rows.add(chunk)

    def finish(self, tables: Sequence[Table] = ()) -> Encoder:
        """The encoder of all columns."""
        whole = self.spec.interactions is not None and self.spec.interactions.catalogue == "table"
        names = dict(zip(SIDES, (self.spec.user, self.spec.item), strict=True))
        for side, codes in self._known.items():
            keys = [table.keys for table in tables if whole and table.spec.raw == self.spec.raw_id(side)]
            known = pl.concat([codes.values(), *keys]).unique(maintain_order=True)
            self.rows.always = {**self.rows.always, names[side]: known}
        parts = [self.rows.finish()]
        for side in SIDES:
            if columns := self.spec.side_columns(side):
                vocabulary, fitter = parts[0].vocabularies[names[side]], Fitter(_part(self.spec, columns))
                chunk = side_chunk(self.spec, side, vocabulary.values, tables)
                fitter.add(chunk.filter((vocabulary.counts > 0).to_numpy()))
                parts.append(fitter.finish())
        fitted = {c.name: c for part in parts for c in part.spec.columns}
        columns = tuple(fitted[c.name] for c in self.spec.columns)
        spec = self.spec.model_copy(update={"columns": columns})
        vocabularies = {k: v for part in parts for k, v in part.vocabularies.items()}
        numeric = {k: v for part in parts for k, v in part.fitted.items()}
        return Encoder(spec, vocabularies, numeric, tables)


def side_chunk(spec: DataSpec, side: Side, ids: pl.Series, tables: Sequence[Table]) -> Chunk:
    """What the side tables say of these users or items, one row each; missing where they know nothing."""
    raw = spec.raw_id(side)
    chunk = Chunk(ids.alias(raw).to_frame(), f"{side}s", np.arange(1, len(ids) + 1))
    return join(chunk, [table for table in tables if table.spec.raw == raw])[0]


def _part(spec: DataSpec, columns: tuple[ColumnSpec, ...]) -> DataSpec:
    """Some of the columns, without what the others are for."""
    return spec.model_copy(update={"columns": columns, "user": "", "item": "", "interactions": None})
