"""Pictures of a ranking as inline SVG: one strip a model, all on one axis, sharp at any width.

Horizontal places are percentages of the strip, so a strip stretches with the page while dots and text keep
their size. Colours come from the page's style sheet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from .rank import Entry, Ranking

HEIGHT = 30  # of a strip, px
LABEL = 15  # line height of the labels under the axis, px


@dataclass(frozen=True)
class Axis:
    """A linear scale from `low` to `high`, drawn over the middle 96 % of a strip."""

    low: float
    high: float

    def place(self, value: float) -> float:
        """Percent from the left, held inside the strip."""
        share = (value - self.low) / (self.high - self.low)
        return 2 + 96 * min(max(share, 0.0), 1.0)

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high

    def ticks(self) -> list[float]:
        """Round numbers, at most eight."""
        span = self.high - self.low
        step = 10 ** math.floor(math.log10(span))
        step *= next(f for f in (0.2, 0.5, 1.0, 2.0) if span / (step * f) <= 7)
        first = math.ceil(self.low / step - 1e-9)
        return [k * step for k in range(first, math.floor(self.high / step + 1e-9) + 1)]


def axis_of(ranking: Ranking) -> Axis:
    """Holds all models, the best floor and the ceilings; of the other floors those that lie close by."""
    ends = [value for entry in ranking.entries for value in (*entry.values(), *(entry.interval() or ()))]
    ends += [entry.mean() for entry in ranking.references if entry.role == "ceiling"]
    best = best_floor(ranking)
    ends += [best.mean()] if best else []
    margin = (max(ends) - min(ends)) * 0.25
    near = [e.mean() for e in ranking.references if min(ends) - margin <= e.mean() <= max(ends) + margin]
    low, high = min(ends + near), max(ends + near)
    pad = (high - low) * 0.04 or abs(high) * 0.01 or 0.01
    return Axis(low - pad, high + pad)


def best_floor(ranking: Ranking) -> Entry | None:
    """The floor that is hardest to clear."""
    floors = [entry for entry in ranking.references if entry.role == "floor"]
    pick = min if ranking.lower_is_better else max
    return pick(floors, key=lambda e: e.mean(), default=None)


def named(entry: Entry) -> str:
    """The label; references are no models, so theirs is in plain words."""
    return entry.label if entry.role == "model" else entry.label.replace("_", " ")


def strip(entry: Entry, axis: Axis, references: Sequence[Entry], start: float) -> str:
    """One model: bar from `start` to the mean, interval, a dot a seed; dashed lines are references."""
    middle = HEIGHT / 2
    parts = [_open(HEIGHT, f"{entry.label}: mean {entry.mean():.6f}")]
    parts += _lines(axis, references, 0, HEIGHT)
    left, right = sorted((axis.place(start), axis.place(entry.mean())))
    parts.append(f'<rect class="bar" x="{left:.2f}%" width="{right - left:.2f}%" y="{middle - 5}" '
                 'height="10"/>')
    span = entry.interval()
    if span is not None:
        low, high = (axis.place(end) for end in span)
        parts += [_line("interval", low, high, middle, middle),
                  *(_line("interval", end, end, middle - 5, middle + 5) for end in (low, high))]
    for row, value in zip(entry.rows, entry.values(), strict=True):
        parts.append(f'<circle class="seed" cx="{axis.place(value):.2f}%" cy="{middle}" r="3.2">'
                     f"<title>seed {row.seed}: {value:.6f}</title></circle>")
    mean = axis.place(entry.mean())
    parts.append(_line("mean", mean, mean, middle - 10, middle + 10))
    return "".join([*parts, "</svg>"])


def scale(axis: Axis, references: Sequence[Entry], digits: int) -> str:
    """The axis under the strips: ticks, then a line of text for each reference that lies on it."""
    shown = [entry for entry in references if axis.holds(entry.mean())]
    height = 26 + LABEL * len(shown)
    parts = [_open(height, "axis"), _line("axis", 2, 98, 0.5, 0.5)]
    for tick in axis.ticks():
        x = axis.place(tick)
        parts += [_line("axis", x, x, 0, 5),
                  f'<text x="{x:.2f}%" y="17" text-anchor="{_anchor(x)}">{tick:.{digits}f}</text>']
    for number, entry in enumerate(shown):
        x, y = axis.place(entry.mean()), 24 + LABEL * (number + 1)
        side, shift = ("end", -4) if x > 50 else ("start", 4)
        name = escape(named(entry))
        parts += _lines(axis, [entry], 20, y)
        parts.append(f'<text class="{entry.role}" x="{x:.2f}%" dx="{shift}" y="{y}" text-anchor="{side}">'
                     f"{name} {entry.mean():.4f}</text>")
    return "".join([*parts, "</svg>"])


def _open(height: float, title: str) -> str:
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="100%" height="{height}" role="img" '
            f'aria-label="{escape(title)}">')


def _line(style: str, left: float, right: float, top: float, bottom: float) -> str:
    return f'<line class="{style}" x1="{left:.2f}%" x2="{right:.2f}%" y1="{top}" y2="{bottom}"/>'


def _lines(axis: Axis, references: Sequence[Entry], top: float, bottom: float) -> list[str]:
    places = [(entry.role, axis.place(entry.mean())) for entry in references if axis.holds(entry.mean())]
    return [_line(f"reference {role}", x, x, top, bottom) for role, x in places]


def _anchor(x: float) -> str:
    return "start" if x < 8 else "end" if x > 92 else "middle"
