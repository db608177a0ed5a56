"""A click problem with known probabilities, made by seed: what can be learnt from it is known.

Ten categorical columns are drawn independently of each other, value k of a column with probability
proportional to (k + 1)^-s (Zipf). The probability of a click is

    sigmoid(b + sum_c a_c[x_c] + sum_(c,d) G_cd[g_cd(x_c), h_cd(x_d)])

a_c: one Gaussian number a value. For every planted pair of columns, g and h sort the values of both columns
into `GROUPS` hidden groups, and G is a Gaussian table over pairs of groups. Single effects have mean 0, pair
effects mean 0 in every row and column of G (all under the popularities), so a sum of single effects knows
nothing of the pairs; each effect is scaled to the standard deviation given below. Labels and splits are
independent draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import InputError
from ..files import write_whole
from ..schema import UNKNOWN, Column, Schema, Side
from .spec import ColumnSpec, DataSpec, SplitSpec
from .store import Prepared, Split

GROUPS = 3
INTERCEPT = -1.0
SPLITS = {"train": 0.8, "valid": 0.1, "test": 0.1}


class PlantedColumn(NamedTuple):
    """A column: how many values, Zipf exponent s, standard deviation of its single effect."""

    name: str
    side: Side
    size: int
    zipf: float
    deviation: float


COLUMNS = (
    PlantedColumn("user", "user", 300, 0.7, 0.5), PlantedColumn("item", "item", 200, 0.9, 0.6),
    PlantedColumn("age", "user", 8, 0.5, 0.2), PlantedColumn("city", "user", 50, 1.0, 0.3),
    PlantedColumn("category", "item", 30, 0.8, 0.3), PlantedColumn("brand", "item", 60, 1.0, 0.3),
    PlantedColumn("device", "context", 5, 1.0, 0.2), PlantedColumn("hour", "context", 24, 0.4, 0.2),
    PlantedColumn("weekday", "context", 7, 0.2, 0.1), PlantedColumn("page", "context", 12, 0.8, 0.2),
)
PAIRS = {
    ("user", "item"): 0.7, ("user", "category"): 0.7, ("item", "age"): 0.7, ("item", "page"): 0.5,
    ("age", "category"): 0.6, ("city", "brand"): 0.6, ("device", "hour"): 0.5, ("hour", "weekday"): 0.6,
    ("category", "page"): 0.5, ("brand", "device"): 0.5,
}


class Ceiling(NamedTuple):
    """What the true probabilities score; no model does better but by luck."""

    auc: float
    logloss: float


@dataclass(frozen=True)
class Planted:
    """The rows of a planted problem: value numbers by column, true probability, label, split."""

    values: dict[str, np.ndarray]
    probability: np.ndarray
    labels: np.ndarray
    split: np.ndarray

    def ceiling(self, split: str = "test") -> Ceiling:
        """AUC and logloss of the true probabilities on the labels of a split."""
        rows = self.split == split
        truth, labels = self.probability[rows], self.labels[rows]
        logloss = -np.where(labels == 1, np.log(truth), np.log1p(-truth)).mean()
        return Ceiling(rank_auc(truth, labels), float(logloss))

    def texts(self, column: str) -> np.ndarray:
        """The raw values, such as "user17"."""
        return np.char.add(column, self.values[column].astype(np.str_))

    def spec(self) -> DataSpec:
        """The schema file that belongs to `write_csv`."""
        columns = tuple(ColumnSpec(name=c.name, side=c.side) for c in COLUMNS)
        return DataSpec(dataset="planted", labels=("click",), group="user", user="user", item="item",
                        columns=columns, split=SplitSpec(method="column", column="split"))

    def write_csv(self, path: Path) -> None:
        """The raw file: click, the columns, split."""
        names = list(self.values)
        rows = zip(self.labels, *(self.texts(name) for name in names), self.split, strict=True)
        lines = [",".join(["click", *names, "split"]), *(",".join(map(str, row)) for row in rows), ""]
        write_whole(path, "\n".join(lines))

    def prepared(self) -> Prepared:
        """The same ids as preparing the file of `write_csv` gives, without any file."""
        train = self.split == "train"
        ids, columns = [], []
        for column in COLUMNS:
            codes, size = _encode(self.texts(column.name), train)
            ids.append(codes)
            columns.append(Column(name=column.name, kind="categorical", side=column.side, vocab_size=size))
        schema = Schema(dataset="planted", columns=tuple(columns), labels=("click",), group="user",
                        user="user", item="item")
        matrix, group, splits = np.stack(ids, 1), _dense(self.values["user"]), {}
        for name in SPLITS:
            rows = self.split == name
            splits[name] = Split(schema, matrix[rows], None, self.labels[rows].astype(np.float32), None,
                                 group[rows])
        return Prepared.in_memory(schema, splits)


def planted_ctr(rows: int = 120_000, seed: int = 1) -> Prepared:
    """A planted problem ready to train on; see `plant`."""
    return plant(rows, seed).prepared()


def plant(rows: int = 120_000, seed: int = 1) -> Planted:
    """Draw a planted problem; the effects depend on the seed alone, the rows on seed and number."""
    if rows < 100:
        raise InputError(f"rows={rows}: a planted problem needs at least 100")
    rng = np.random.default_rng(seed)
    popularity = {c.name: _zipf(c) for c in COLUMNS}
    single = {c.name: _single(rng, popularity[c.name], c.deviation) for c in COLUMNS}
    pairs = {(c, d): _pair(rng, popularity[c], popularity[d], sd) for (c, d), sd in PAIRS.items()}
    values = {c.name: rng.choice(c.size, rows, p=popularity[c.name]) for c in COLUMNS}
    logit = INTERCEPT + sum(single[name][values[name]] for name in values)
    for (c, d), (table, left, right) in pairs.items():
        logit = logit + table[left[values[c]], right[values[d]]]
    probability = 1 / (1 + np.exp(-logit))
    labels = (rng.random(rows) < probability).astype(np.int8)
    split = rng.choice(list(SPLITS), rows, p=list(SPLITS.values()))
    return Planted(values, probability, labels, split)


def _zipf(column: PlantedColumn) -> np.ndarray:
    weights = np.arange(1, column.size + 1) ** -column.zipf
    return weights / weights.sum()


def _single(rng: np.random.Generator, popularity: np.ndarray, deviation: float) -> np.ndarray:
    effect = rng.normal(size=len(popularity))
    effect -= popularity @ effect
    return effect * deviation / np.sqrt(popularity @ effect**2)


def _pair(rng: np.random.Generator, popular_c: np.ndarray, popular_d: np.ndarray, deviation: float
          ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Table over groups, group of each value of the first column, and of the second."""
    left, right = (rng.permutation(len(p)) % GROUPS for p in (popular_c, popular_d))
    mass_c, mass_d = np.bincount(left, popular_c, GROUPS), np.bincount(right, popular_d, GROUPS)
    table = rng.normal(size=(GROUPS, GROUPS))
    table = table - mass_c @ table
    table = table - (table @ mass_d)[:, None]
    return table * deviation / np.sqrt(mass_c @ table**2 @ mass_d), left, right


def _encode(texts: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, int]:
    """Ids by falling count in training, ties by text, from 2; and the size of the vocabulary."""
    known, counts = np.unique(texts[train], return_counts=True)
    order = np.lexsort((known, -counts))
    number = np.empty(len(known), np.int32)
    number[order] = np.arange(2, len(known) + 2)
    place = np.minimum(np.searchsorted(known, texts), len(known) - 1)
    return np.where(known[place] == texts, number[place], UNKNOWN).astype(np.int32), len(known) + 2


def _dense(values: np.ndarray) -> np.ndarray:
    """Numbers 0, 1, 2, ... in order of first appearance."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first)).astype(np.int32)[inverse]


def rank_auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Area under the ROC curve by mid-ranks; ties count one half."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    ones = int(labels.sum())
    return float((ranks[labels == 1].sum() - ones * (ones + 1) / 2) / (ones * (len(labels) - ones)))
