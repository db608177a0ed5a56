"""Floors of a CTR board: what counting the training rows reaches, without gradients and without settings.

A model that does not clear them has learnt nothing that counts do not say. They stand on the board as
reference lines, not as ranked models. Rates are smoothed by one row at the base rate, so that none is 0 or 1;
sample weights count where the data has them.
"""

from __future__ import annotations

from typing import ClassVar, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from ..data.store import Split
from ..errors import InputError
from ..schema import PADDING, UNKNOWN


class Floor(Protocol):
    """Counts the training rows once, then gives click probabilities [rows], float64; `label` by its place."""

    name: ClassVar[str]

    def fit(self, split: Split, label: int = 0) -> Self: ...

    def predict(self, split: Split) -> Tensor: ...


class BaseRate:
    """p = mean label of the training rows, for every row: AUC 0.5, and the logloss to beat."""

    name: ClassVar[str] = "base_rate"

    def fit(self, split: Split, label: int = 0) -> Self:
        labels, weight = _labels(split, label), _weight(split)
        self.rate = float((labels * weight).sum() / weight.sum())
        return self

    def predict(self, split: Split) -> Tensor:
        return torch.full((len(split),), self.rate, dtype=torch.float64)


class ColumnRates:
    """Naive Bayes: logit p = logit(base) + sum over columns of logit(rate of the value) - logit(base).

    A value's rate is the smoothed mean label of the training rows that hold it; a value without training rows
    adds 0. A bag or sequence adds the mean over its values. Numeric columns are not used.
    """

    name: ClassVar[str] = "column_rates"

    def fit(self, split: Split, label: int = 0) -> Self:
        labels, weight = _labels(split, label), _weight(split)
        self.base = BaseRate().fit(split, label).rate
        self.odds = {}
        for column, place in split.schema.id_slices().items():
            ids = split.ids[:, place]  # [rows, width]
            width, size = ids.shape[1], split.schema.column(column).vocab_size
            rate = _rates(ids.ravel(), labels.repeat(width), weight.repeat(width), size, self.base)
            self.odds[column] = _logit(rate) - _logit(self.base)
            self.odds[column][PADDING] = 0.0
        return self

    def predict(self, split: Split) -> Tensor:
        logit = np.full(len(split), _logit(self.base))
        for column, place in split.schema.id_slices().items():
            ids = split.ids[:, place]
            logit += self.odds[column][ids].sum(1) / np.maximum((ids != PADDING).sum(1), 1)
        return torch.from_numpy(logit).sigmoid()


class PairMemory:
    """p = mean label of the same (user, item) pair in train, or the smoothed rate of the item without one.

    An item without training rows gets the base rate. Where users repeat items, as in app usage, this is hard
    to beat, and a score that does not say what share of the test pairs is repeated says little.
    """

    name: ClassVar[str] = "pair_memory"

    def fit(self, split: Split, label: int = 0) -> Self:
        labels, weight, keys = _labels(split, label), _weight(split), _pair_keys(split)
        known = (keys >= 0) & (weight > 0)
        self.pairs, pair = np.unique(keys[known], return_inverse=True)
        self.pair_rate = np.bincount(pair, (labels * weight)[known]) / np.bincount(pair, weight[known])
        base, size = BaseRate().fit(split, label).rate, split.schema.column(split.schema.item).vocab_size
        self.item_rate = _rates(_ids(split, split.schema.item), labels, weight, size, base)
        return self

    def predict(self, split: Split) -> Tensor:
        rate = self.item_rate[_ids(split, split.schema.item)]
        seen, at = _find(self.pairs, _pair_keys(split))
        rate[seen] = self.pair_rate[at]
        return torch.from_numpy(rate)


FLOORS: dict[str, type[Floor]] = {floor.name: floor for floor in (BaseRate, ColumnRates, PairMemory)}


def seen_pairs(train: Split, test: Split) -> Tensor:
    """Bool [test rows]: the (user, item) pair occurs in train. An unknown user or item makes no pair."""
    pairs = np.unique(_pair_keys(train))
    return torch.from_numpy(_find(pairs[pairs >= 0], _pair_keys(test))[0])


def _labels(split: Split, label: int) -> np.ndarray:
    return split.labels[:, label].astype(np.float64)


def _weight(split: Split) -> np.ndarray:
    return np.ones(len(split)) if split.weight is None else split.weight.astype(np.float64)


def _ids(split: Split, column: str) -> np.ndarray:
    return split.ids[:, split.schema.id_slices()[column].start]


def _rates(ids: np.ndarray, labels: np.ndarray, weight: np.ndarray, size: int, base: float) -> np.ndarray:
    """Mean label [size] of the rows that hold each id, one row at the base rate added."""
    return (np.bincount(ids, labels * weight, size) + base) / (np.bincount(ids, weight, size) + 1)


def _pair_keys(split: Split) -> np.ndarray:
    """One int64 a (user, item) pair, -1 where either is unknown."""
    schema = split.schema
    if not schema.user or not schema.item:
        raise InputError(f"{schema.dataset!r} names no user or no item column, so there are no pairs; set "
                         "`user` and `item` in the schema file")
    user, item = (_ids(split, name).astype(np.int64) for name in (schema.user, schema.item))
    keys = user * schema.column(schema.item).vocab_size + item
    return np.where((user > UNKNOWN) & (item > UNKNOWN), keys, -1)


def _find(pairs: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which keys are among the sorted pairs, and where those that are."""
    if len(pairs) == 0:
        return np.zeros(len(keys), bool), np.zeros(0, np.int64)
    at = np.searchsorted(pairs, keys).clip(max=len(pairs) - 1)
    seen = pairs[at] == keys
    return seen, at[seen]


def _logit(rate: np.ndarray | float) -> np.ndarray:
    rate = np.clip(rate, 1e-7, 1 - 1e-7)  # the base rate of a split of one class
    return np.log(rate / (1 - rate))
