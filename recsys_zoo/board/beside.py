"""The table of a page that stands beside the ranking: what lists hold, and slices of users and items."""

from __future__ import annotations

import math
from typing import NamedTuple

from ..metrics.beyond import METRICS
from .plot import named
from .rank import Entry, Ranking, worded_metric


class Beside(NamedTuple):
    """heads of the columns behind the name; lines: a name and its cells."""

    heads: list[str]
    lines: list[tuple[str, list[str]]]


def beside(ranking: Ranking) -> Beside:
    """A column a metric of lists and of slices that test rows have; none where they have none."""
    shown = [*ranking.entries, *ranking.references]
    known = dict.fromkeys(name for entry in shown for row in entry.rows for name in row.metrics)
    names = [name for name in known if name.startswith("test.") and _belongs(name.removeprefix("test."))]
    lines = [(named(entry), [_cell(entry.mean(name)) for name in names]) for entry in shown]
    return Beside([_head(name, shown) for name in names], lines)


def _belongs(name: str) -> bool:
    sliced = "|" in name and not name.startswith("users|")
    return sliced or name.partition("@")[0] in METRICS


def _head(name: str, shown: list[Entry]) -> str:
    """With the number of users of a slice, which is that of all entries."""
    metric, bar, part = name.partition("|")
    if not bar:
        return worded_metric(metric)
    counts = {value for entry in shown for value in entry.values(f"test.users|{part}")}
    users = f" ({min(counts):,.0f} users)" if len(counts) == 1 else ""
    return f"{worded_metric(metric)}, {part.replace('_', ' ')}{users}"


def _cell(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4f}"
