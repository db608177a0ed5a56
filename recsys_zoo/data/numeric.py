"""Rules for numbers: what is fitted on training rows, how a number becomes a model's input or a bucket."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from .spec import ColumnSpec


class ExactSum:
    """The sum of float64 values without rounding, so that neither their order nor their batches matter."""

    def __init__(self) -> None:
        self._parts: dict[int, int] = {}  # exponent -> sum of 53-bit mantissas

    def add(self, values: np.ndarray) -> None:
        """Add finite values."""
        if not len(values):
            return
        mantissa, exponent = np.frexp(values)
        lowest = int(exponent.min())
        scaled = np.ldexp(mantissa, 53)
        high = np.floor(scaled / 2**27)  # sums of either half stay below 2^53, exact, up to 2^26 values
        for half, shift in ((high, 27), (scaled - high * 2**27, 0)):
            for place, total in enumerate(np.bincount(exponent - lowest, weights=half)):
                key = place + lowest + shift
                self._parts[key] = self._parts.get(key, 0) + int(total)

    def total(self) -> Fraction:
        """The exact sum."""
        parts = (part * Fraction(2) ** (key - 53) for key, part in self._parts.items())
        return sum(parts, Fraction(0))


class Fit:
    """Gathers from training rows what a column's rule needs."""

    def __init__(self, column: ColumnSpec) -> None:
        self.column = column
        self._count, self._sum, self._squares = 0, ExactSum(), ExactSum()
        self._values, self._counts = np.empty(0), np.empty(0, np.int64)
        self._pending: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, numbers: np.ndarray) -> None:
        """Take numbers of training rows into account; NaN (missing) is left out."""
        numbers = numbers[~np.isnan(numbers)]
        if self.column.rule == "standardise":
            self._count += len(numbers)
            self._sum.add(numbers)
            self._squares.add(numbers * numbers)
        else:
            self._pending.append(np.unique(numbers, return_counts=True))
            if sum(len(values) for values, _ in self._pending) > max(100_000, len(self._values)):
                self._merge()

    def finish(self) -> dict[str, float | list[float]]:
        """Mean and standard deviation, or the bucket edges."""
        if self.column.rule == "standardise":
            if not self._count:
                return {"mean": 0.0, "std": 1.0}
            mean = self._sum.total() / self._count
            variance = max(self._squares.total() / self._count - mean * mean, Fraction(0))
            return {"mean": float(mean), "std": math.sqrt(variance) or 1.0}  # a constant column becomes 0
        self._merge()
        if not len(self._values):
            return {"edges": []}
        seen, total = np.cumsum(self._counts), int(self._counts.sum())
        ranks = [(i * total + self.column.bins - 1) // self.column.bins for i in range(1, self.column.bins)]
        edges = np.unique(self._values[np.searchsorted(seen, ranks)])
        return {"edges": [float(edge) for edge in edges]}

    def counted(self) -> tuple[np.ndarray, np.ndarray]:
        """Distinct training values and their counts (rule quantile)."""
        self._merge()
        return self._values, self._counts

    def _merge(self) -> None:
        values = np.concatenate([self._values, *(v for v, _ in self._pending)])
        counts = np.concatenate([self._counts, *(c for _, c in self._pending)])
        self._values, place = np.unique(values, return_inverse=True)
        self._counts = np.bincount(place, weights=counts, minlength=len(self._values)).astype(np.int64)
        self._pending = []


def log_square(x: np.ndarray) -> np.ndarray:
    """floor(ln(x)^2) where x > 2, else x (the winners of the Criteo 2014 contest)."""
    large = np.where(x > 2, x, 3.0)
    return np.where(x > 2, np.floor(np.log(large) ** 2), x)


def transform(column: ColumnSpec, fitted: dict[str, float | list[float]], numbers: np.ndarray) -> np.ndarray:
    """What a model reads of a numeric column: float32, 0 where missing (AutoInt's zero vector)."""
    if column.rule == "standardise":
        numbers = (numbers - fitted["mean"]) / fitted["std"]
    elif column.rule == "log_square":
        numbers = log_square(numbers)
    return np.where(np.isnan(numbers), 0.0, numbers).astype(np.float32)


def buckets(column: ColumnSpec, fitted: dict[str, float | list[float]], numbers: np.ndarray) -> np.ndarray:
    """Bucket numbers as float64 (NaN where missing): log_square truncated, or how many edges lie below."""
    if column.rule == "log_square":
        return np.trunc(log_square(numbers))
    edges = np.asarray(fitted["edges"], np.float64)
    found = np.searchsorted(edges, numbers, side="left").astype(np.float64)
    return np.where(np.isnan(numbers), np.nan, found)
