"""Which entries of a board can be told apart: a test of every pair, corrected for their number."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

from ..metrics.paired import NO_SPREAD, Comparison, Spread, compare, holm, pooled_spread
from .draws import Bank
from .rows import Row

ALPHA = 0.05
NOT_TESTED = "not tested: neither resampled metrics nor intervals are at hand"
_Z95 = 1.959964  # half the width of a 95 % interval in standard errors


class Places(NamedTuple):
    """Of entries in the order given: rank, whether another has it too; and how pairs were tested."""

    ranks: list[int]
    tied: list[bool]
    rules: list[str]


def places(entries: Sequence[Sequence[Row]], metric: str, bank: Bank, lower_is_better: bool) -> Places:
    """An entry's rank is 1 + the number of entries that are better than it, by Holm-corrected tests.

    All pairs are tested, so no entry is singled out by its luck. Entries of one rank are called tied; two
    entries may differ although both are tied with a third. A pair that cannot be tested is tied.
    """
    pairs = list(itertools.combinations(range(len(entries)), 2))
    pooled = spread_of_seeds(entries, metric)
    tests = [pair_test(entries[i], entries[j], metric, bank, pooled) for i, j in pairs]
    ranks = [1] * len(entries)
    for (i, j), (found, _), p in zip(pairs, tests, holm([found.p for found, _ in tests]), strict=True):
        if p <= ALPHA:
            ranks[j if (found.value > 0) != lower_is_better else i] += 1
    rules = sorted({rule for _, rule in tests})
    return Places(ranks, [ranks.count(rank) > 1 for rank in ranks], rules)


def spread_of_seeds(entries: Sequence[Sequence[Row]], metric: str) -> Spread:
    """The variance over seeds of what draws something, pooled over the entries."""
    return pooled_spread([[row.metrics[metric] for row in rows] for rows in entries if _seeded(rows)])


def _seeded(rows: Sequence[Row]) -> bool:
    return any(row.seeded for row in rows)


def pair_test(one: Sequence[Row], other: Sequence[Row], metric: str, bank: Bank,
              pooled: Spread = NO_SPREAD) -> tuple[Comparison, str]:
    """The test of two entries' means of a metric ("test.auc"), and the rule in words.

    Without draws the entries' own intervals serve as if they were independent. They are not, and the test
    then misses differences. Without either, how far other test users would move the difference is not known:
    seeds alone would call too many differences real, so p is 1 and the interval has no ends.
    """
    split, _, name = metric.rpartition(".")
    values = [[row.metrics[metric] for row in rows] for rows in (one, other)]
    spreads = tuple(pooled if _seeded(rows) else NO_SPREAD for rows in (one, other))
    found = bank.variance(name, one, other) if split == "test" else None
    if found is not None:
        variance, unit = found
        return compare(*values, sampling=variance, pooled=spreads), f"paired bootstrap over {unit}, and seeds"
    errors = [_error(rows, metric) for rows in (one, other)]
    if not any(map(math.isnan, errors)):
        variance = math.fsum(error**2 for error in errors)
        rule = "intervals, unpaired (test scores are not at hand), and seeds"
        return compare(*values, sampling=variance, pooled=spreads), rule
    value = compare(*values, sampling=0.0).value
    return Comparison(value, -math.inf, math.inf, math.inf, 0.0, 1.0), NOT_TESTED


def _error(rows: Sequence[Row], metric: str) -> float:
    """Standard error of an entry from its rows' intervals; NaN where one has none."""
    widths = [row.metrics.get(f"{metric}_high", math.nan) - row.metrics.get(f"{metric}_low", math.nan)
              for row in rows]
    return math.fsum(widths) / len(widths) / (2 * _Z95)
