"""What a budget of trials buys: the best validation metric against the number of trials, as numbers and SVG.

Expected validation performance (Dodge et al., EMNLP 2019, eq. 5): the mean best of n trials drawn at random,
by the empirical distribution of the trials there are.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from ..errors import InputError
from .plot import Axis

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 920, 440, 78, 340, 52, 54
_LINE = 15  # between two labels at the ends of curves
# after Okabe and Ito, dark enough for text on white; dashes and labels tell curves apart without them
_COLOURS = ("#0072b2", "#b34a00", "#00735a", "#8f3f71", "#1a1a1a", "#7a6100")
_DASHES = ("none", "7 3", "2 3", "9 3 2 3", "14 4")


@dataclass(frozen=True)
class Curve:
    """The trials of one study in their order, the recipe's own setting first; NaN where one came to nothing.

    A sampler other than "random" learns from its trials, so that they are in no sense drawn alike: their best
    so far is drawn, in the order they came.
    """

    label: str
    values: Sequence[float]
    metric: str
    sampler: str
    lower_is_better: bool = False

    def points(self) -> list[tuple[int, float]]:
        """(trials beside the recipe's own, metric); at 0 is the recipe's own, where trials stay in order."""
        if self.sampler == "random":
            found = expected_best(self.values[1:], self.lower_is_better)
            return list(enumerate(found, start=1))
        return list(_best_so_far(self.values, self.lower_is_better))

    @property
    def kind(self) -> str:
        """What the curve shows."""
        return "expected best" if self.sampler == "random" else f"{self.sampler}, best so far"

    @property
    def own(self) -> float:
        """The recipe's own setting, where it is no point of the curve; else NaN."""
        return self.values[0] if self.sampler == "random" and self.values else math.nan


def expected_best(values: Sequence[float], lower_is_better: bool = False) -> list[float]:
    """E[best of n] for n = 1..N of trials drawn with replacement: sum_i v_(i) ((i/N)^n - ((i-1)/N)^n).

    A NaN counts as the worst of the others; without any number there is no curve.

    >>> expected_best([0.0, 1.0])
    [0.5, 0.75]
    """
    numbers = [value for value in values if not math.isnan(value)]
    if not numbers:
        return []
    worst = max(numbers) if lower_is_better else min(numbers)
    ranked = sorted((worst if math.isnan(v) else v for v in values), reverse=lower_is_better)  # worst first
    count = len(ranked)
    return [
        math.fsum(v * ((i / count) ** n - ((i - 1) / count) ** n) for i, v in enumerate(ranked, start=1))
        for n in range(1, count + 1)
    ]


def _best_so_far(values: Sequence[float], lower_is_better: bool) -> Iterator[tuple[int, float]]:
    best = math.nan
    for place, value in enumerate(values):
        better = value < best if lower_is_better else value > best
        best = value if math.isnan(best) or better else best
        if not math.isnan(best):
            yield place, best


@dataclass(frozen=True)
class Epochs(Curve):
    """The validation metric of one training, epoch by epoch, from the first on, or in the epochs `at`."""

    at: Sequence[int] = ()

    def points(self) -> list[tuple[int, float]]:
        """(epoch, metric)."""
        return list(zip(self.at or range(1, 1 + len(self.values)), self.values, strict=True))

    @property
    def kind(self) -> str:
        """How long it is."""
        return f"{self.points()[-1][0]} epochs"

    @property
    def own(self) -> float:
        """None."""
        return math.nan


def picture(
    curves: Sequence[Curve],
    title: str,
    below: str = "trials beside the recipe's own setting (at 0)",
    of: str = "validation",
) -> str:
    """All curves that have a point as one SVG picture; InputError where there is none, or two metrics.

    below: what the horizontal axis counts; of: where the metric was taken.
    """
    drawn = [(curve, points) for curve in curves if (points := curve.points())]
    if not drawn:
        raise InputError("no trial has come to a validation metric, so there is no curve to draw")
    if len(metrics := {curve.metric for curve, _ in drawn}) > 1:
        raise InputError(f"curves of {sorted(metrics)} cannot stand in one picture; draw them apart")
    axis, cut = _axis(drawn)
    last = max(points[-1][0] for _, points in drawn)
    ends = _labels([_y(axis, points[-1][1]) for _, points in drawn])
    name = escape(drawn[0][0].metric)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" font-family="system-ui, sans-serif" font-size="12" role="img" '
        f'aria-label="{escape(title)}">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="22" font-size="14" font-weight="600">{escape(title)}</text>',
        f'<text x="{_LEFT}" y="40" fill="#444">{escape(of)} {name}{"; lower parts are cut off" * cut}</text>',
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 12}" text-anchor="middle" fill="#444">'
        f"{escape(below)}</text>",
        *_grid(axis, last),
    ]
    for place, ((curve, points), label) in enumerate(zip(drawn, ends, strict=True)):
        colour = _COLOURS[place % len(_COLOURS)]
        dashes = _DASHES[place % len(_DASHES)]
        shown = [(_x(x, last), _y(axis, max(y, axis.low))) for x, y in points]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in shown)
        end, right = shown[-1], _WIDTH - _RIGHT
        parts += [
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2" '
            f'stroke-dasharray="{dashes}"><title>{escape(curve.label)}: {points[-1][1]:.6f} after '
            f"{points[-1][0]}</title></polyline>",
            f'<circle cx="{end[0]:.1f}" cy="{end[1]:.1f}" r="3" fill="{colour}"/>',
            f'<path d="M{end[0] + 4:.1f},{end[1]:.1f} L{right + 8},{label:.1f}" stroke="{colour}" '
            'stroke-width="0.7" fill="none"/>',
            *_ring(curve, axis, colour),
            f'<text x="{right + 12}" y="{label + 4:.1f}" fill="{colour}">{escape(curve.label)} '
            f"{points[-1][1]:.5f} ({escape(curve.kind)})</text>",
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _axis(drawn: Sequence[tuple[Curve, list[tuple[int, float]]]]) -> tuple[Axis, bool]:
    """Three times as deep as the better half of all points, but for trainings, which are shown whole; whether
    lower ones are cut off."""
    owns = [curve.own for curve, _ in drawn if not math.isnan(curve.own)]
    values = sorted([*owns, *(y for _, points in drawn for _, y in points)])
    low, high = values[0], values[-1]
    whole = drawn[0][0].lower_is_better or isinstance(drawn[0][0], Epochs)
    cut = not whole and low < high - 3 * (high - statistics.median(values))
    low = high - 3 * (high - statistics.median(values)) if cut else low
    pad = (high - low) * 0.06 or abs(high) * 0.01 or 0.01
    return Axis(low - pad, high + pad), cut


def _ring(curve: Curve, axis: Axis, colour: str) -> Iterator[str]:
    if not math.isnan(curve.own):
        title = f"{escape(curve.label)}: own setting {curve.own:.6f}"
        yield (f'<circle cx="{_LEFT}" cy="{_y(axis, curve.own):.1f}" r="4" fill="none" stroke-width="1.6" '
               f'stroke="{colour}"><title>{title}</title></circle>')


def _x(trial: float, last: int) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * trial / max(last, 1)


def _y(axis: Axis, value: float) -> float:
    share = (max(value, axis.low) - axis.low) / (axis.high - axis.low)
    return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * share


def _grid(axis: Axis, last: int) -> Iterator[str]:
    ticks = axis.ticks()
    digits = max(3, 1 - math.floor(math.log10(ticks[1] - ticks[0]))) if len(ticks) > 1 else 6
    for tick in ticks:
        y = _y(axis, tick)
        yield f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e3e3e3"/>'
        yield f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:.{digits}f}</text>'
    step = math.ceil(last / 16) or 1
    for trial in range(0, last + 1, step):
        x = _x(trial, last)
        yield f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{trial}</text>'


def _labels(heights: Sequence[float]) -> list[float]:
    """Heights of the labels, in the order of the curves' ends and apart from each other."""
    order = sorted(range(len(heights)), key=lambda k: heights[k])
    placed: list[float] = []
    for k in order:
        placed.append(max(heights[k], placed[-1] + _LINE) if placed else heights[k])
    over = max(0.0, placed[-1] - (_HEIGHT - _BOTTOM))
    for place in range(len(placed) - 1, -1, -1):  # back upwards where they ran out of the picture
        limit = placed[place + 1] - _LINE if place + 1 < len(placed) else placed[place] - over
        placed[place] = min(placed[place], limit)
    found = dict(zip(order, placed, strict=True))
    return [found[k] for k in range(len(heights))]
