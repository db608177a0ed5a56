"""Quality against cost as inline SVG: one picture a kind of cost, with the models that nothing beats on both.

Better is always up, cheaper is left. Colours and line widths come from the page's style sheet.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

from .compare import costs
from .labels import HEIGHT, WIDTH, Box, place_labels
from .plot import Axis, named
from .rank import Entry, Ranking, worded_metric
from .rows import Row

PAGE = Box(0, 0, 960, 470)
PLOT = Box(70, 16, 944, 392)
BAND = 28  # height of the band below the plot, for models that lie off the axis
SHAPES = (  # around (0, 0); all groups after the fifth share the last one
    "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0z", "M-4.5-4.5h9v9h-9z", "M0-6l5.6 10h-11.2z",
    "M0-6.5l5.5 6.5-5.5 6.5-5.5-6.5z", "M0 6l5.6-10h-11.2z", "M-2-6h4v4h4v4h-4v4h-4v-4h-4v-4h4z")  # fmt: skip


def _machine(row: Row) -> str:
    device = f"{row.device} ({row.processor})" if row.processor else row.device
    return f"{device or 'unknown device'}, {row.threads} thread{'s' * (row.threads != 1)}"


class Measure(NamedTuple):
    """A kind of cost: `field` of `compare.Cost`; only rows of one `group` compare."""

    name: str
    title: str
    field: str
    group: Callable[[Row], str]
    said: str


MEASURES = (
    Measure("parameters", "parameters", "params", lambda row: "", ""),
    Measure("seconds", "seconds of training", "seconds", _machine,
            "Seconds are those of the rows, as measured during the runs: training with its validation "
            "passes, mean over seeds. They are comparable only where every run had the machine alone."),
    Measure("memory", "peak memory, MiB", "peak_mib", lambda row: row.device or "unknown device",
            "Peak memory is the largest resident memory of the process, mean over seeds. A GPU's own memory "
            "is not in it."))  # fmt: skip


class Point(NamedTuple):
    """An entry with its cost; `number` is its place in the ranking."""

    number: int
    entry: Entry
    cost: float
    quality: float  # the mean, negative where lower is better
    group: str


class Picture(NamedTuple):
    """A scatter plot with what must be read beside it; `shapes` are (path, group) where there are several."""

    name: str
    title: str
    svg: str
    said: list[str]
    shapes: list[tuple[str, str]]


def pictures(ranking: Ranking) -> list[Picture]:
    """One picture for each kind of cost that the rows of at least one entry know."""
    return [picture for measure in MEASURES if (picture := _picture(ranking, measure)) is not None]


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Places of the (cost, quality) that no other beats, from the cheapest on.

    To beat is to cost no more and to be no worse, with one of the two better.
    """
    best, found = -math.inf, []
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if points[i][1] > best or (found and points[i] == points[found[-1]]):
            found.append(i)
            best = points[i][1]
    return found


def quality_axis(ranking: Ranking) -> Axis:
    """Holds the entries with their intervals; not what lies far below most of them (Tukey's fence)."""
    sign = -1 if ranking.lower_is_better else 1
    means = sorted(sign * entry.mean() for entry in ranking.entries)
    fence = means[0]
    if len(means) > 3:
        first, _, third = statistics.quantiles(means, n=4, method="inclusive")
        fence = first - 1.5 * (third - first)
    shown = [entry for entry in ranking.entries if sign * entry.mean() >= fence]
    ends = [sign * end for entry in shown for end in (entry.mean(), *(entry.interval() or ()))]
    pad = (max(ends) - min(ends)) * 0.02 or abs(ends[0]) * 0.01 or 0.01
    return Axis(min(ends) - pad, max(ends) + pad)


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between the ends; over more than three decades, powers of ten alone."""
    factors = (1, 2, 5) if high / low < 1000 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [f * 10.0**p for p in powers for f in factors if low <= f * 10.0**p <= high]


def _picture(ranking: Ranking, measure: Measure) -> Picture | None:
    sign = -1 if ranking.lower_is_better else 1
    found = []
    for number, cost in enumerate(costs(ranking.entries)):
        group = " and ".join(dict.fromkeys(measure.group(row) for row in cost.entry.rows))
        found.append(Point(number, cost.entry, getattr(cost, measure.field), sign * cost.entry.mean(), group))
    points = [point for point in found if point.cost > 0]
    if not points:
        return None
    groups = list(dict.fromkeys(point.group for point in points))
    shapes = {group: SHAPES[min(i, len(SHAPES) - 1)] for i, group in enumerate(groups)}
    said = [measure.said] if measure.said else []
    if len(groups) > 1:
        said.append("Marker shapes stand for machines: costs of different shapes cannot be compared, and "
                    "each shape has a line of its own.")
    if any(point.quality < quality_axis(ranking).low for point in points):
        said.append("In the band “worse” lie models far below the others, all at one height.")
    missing = [point.entry.label for point in found if not point.cost > 0]
    if missing:
        said.append(f"Left out, as their rows do not know this cost: {', '.join(missing)}.")
    return Picture(measure.name, measure.title, _Canvas(ranking, measure.title, points, shapes).svg(), said,
                   [(path, group) for group, path in shapes.items()] if len(groups) > 1 else [])


class _Canvas:
    """Gives the points of one picture their places and writes them as SVG."""

    def __init__(self, ranking: Ranking, title: str, points: Sequence[Point],
                 shapes: dict[str, str]) -> None:
        self.points, self.shapes, self.title = points, shapes, title
        self.metric, self.references = worded_metric(ranking.metric), ranking.references
        self.sign = -1 if ranking.lower_is_better else 1
        self.quality = quality_axis(ranking)
        powers = [math.log10(point.cost) for point in points]
        pad = (max(powers) - min(powers)) * 0.03 or 0.1
        self.cost = Axis(min(powers) - pad, max(powers) + pad)
        by_group = [[point for point in points if point.group == group] for group in shapes]
        self.fronts = [[members[i] for i in front([(p.cost, p.quality) for p in members])]
                       for members in by_group]

    def x(self, cost: float) -> float:
        return PLOT.left + self.cost.place(math.log10(cost)) / 100 * (PLOT.right - PLOT.left)

    def y(self, quality: float) -> float:
        return PLOT.bottom - self.quality.place(quality) / 100 * (PLOT.bottom - PLOT.top)

    def off(self, point: Point) -> bool:
        return point.quality < self.quality.low

    def at(self, point: Point) -> tuple[float, float]:
        return self.x(point.cost), PLOT.bottom + BAND / 2 if self.off(point) else self.y(point.quality)

    def svg(self) -> str:
        best = ", ".join(point.entry.label for members in self.fronts for point in members)
        words = escape(f"{self.metric} against {self.title}; not beaten on both: {best}")
        return "".join([
            f'<svg xmlns="http://www.w3.org/2000/svg" class="cost" role="img" aria-label="{words}" '
            f'viewBox="0 0 {PAGE.right} {PAGE.bottom}">',
            *self._frame(), *self._references(), *self._fronts(), *self._points(), "</svg>"])

    def _frame(self) -> list[str]:
        bottom, ticks = PLOT.bottom + BAND, self.quality.ticks()
        step = min((high - low for low, high in itertools.pairwise(ticks)), default=1)
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        parts = [_line("axis", PLOT.left, bottom, PLOT.right, bottom),
                 _line("axis", PLOT.left, PLOT.top, PLOT.left, bottom)]
        for tick in ticks:
            parts += [_line("grid", PLOT.left, self.y(tick), PLOT.right, self.y(tick)),
                      _text("", PLOT.left - 8, self.y(tick) + 4, "end", f"{self.sign * tick:.{digits}f}")]
        for tick in log_ticks(10**self.cost.low, 10**self.cost.high):
            parts += [_line("axis", self.x(tick), bottom, self.x(tick), bottom + 5),
                      _text("", self.x(tick), bottom + 19, "middle", _short(tick))]
        parts += [f'<text transform="translate(14 {(PLOT.top + PLOT.bottom) / 2}) rotate(-90)" '
                  f'text-anchor="middle">{escape(self.metric)}, better is up</text>',
                  _text("", (PLOT.left + PLOT.right) / 2, bottom + 40, "middle",
                        f"{self.title} (log scale), cheaper is left")]
        if any(map(self.off, self.points)):
            parts += [_line("cut", PLOT.left, PLOT.bottom, PLOT.right, PLOT.bottom),
                      _text("", PLOT.left - 8, PLOT.bottom + BAND / 2 + 4, "end", "worse")]
        return parts

    def _lines(self) -> list[tuple[Entry, Box, str]]:
        """The references that lie on the axis, with the box of their words above their lines."""
        found = []
        for entry in self.references:
            if self.quality.holds(self.sign * entry.mean()):
                y, words = self.y(self.sign * entry.mean()), f"{named(entry)} {entry.mean():.4f}"
                found.append((entry, Box(PLOT.right - WIDTH * len(words), y - HEIGHT, PLOT.right, y), words))
        return found

    def _references(self) -> list[str]:
        return [part for entry, box, words in self._lines()
                for part in (_line(f"reference {entry.role}", PLOT.left, box.bottom, PLOT.right, box.bottom),
                             _text(entry.role, box.right, box.bottom - 4, "end", words))]

    def _corners(self) -> list[list[tuple[float, float]]]:
        """The step line of each group's front, up to the right end."""
        found = []
        for members in self.fronts:
            places = [self.at(point) for point in members]
            steps = [corner for (_, before), (x, y) in itertools.pairwise(places)
                     for corner in ((x, before), (x, y))]
            found.append([places[0], *steps, (PLOT.right, places[-1][1])])
        return found

    def _fronts(self) -> list[str]:
        return [f'<polyline class="front" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in corners)}"/>'
                for corners in self._corners()]

    def _points(self) -> list[str]:
        """Intervals, then marks, then labels; those on a front find places for their labels first."""
        best = [point for members in self.fronts for point in members]
        order = [*best, *(point for point in self.points if point not in best)]
        places, texts = [self.at(point) for point in order], [self._label(point) for point in order]
        taken = [box for _, box, _ in self._lines()]
        taken += [Box(min(a, c) - 1, min(b, d) - 1, max(a, c) + 1, max(b, d) + 1)
                  for corners in self._corners() for (a, b), (c, d) in itertools.pairwise(corners)]
        frame = Box(PLOT.left + 2, PAGE.top, PAGE.right, PLOT.bottom + BAND)
        intervals, marks, labels = [], [], []
        for point, (x, y), text, box in zip(order, places, texts, place_labels(places, texts, frame, taken),
                                            strict=True):
            entry, span = f'data-entry="{point.number}"', point.entry.interval()
            if span is not None and not self.off(point):
                low, high = (self.y(self.sign * end) for end in span)
                intervals.append(f"<g {entry}>{_line('interval', x, low, x, high)}</g>")
            marks.append(f'<path class="marker{" best" if point in best else ""}" {entry} '
                         f'transform="translate({x:.1f} {y:.1f})" d="{self.shapes[point.group]}">'
                         f"<title>{escape(self._words(point))}</title></path>")
            if box is not None:
                labels.append(f"<g {entry}>{_leader(x, y, box)}{_beside(x, box, text)}</g>")
        return [*intervals, *marks, *labels]

    def _label(self, point: Point) -> str:
        return point.entry.label + (f" {point.entry.mean():.4f}" if self.off(point) else "")

    def _words(self, point: Point) -> str:
        span = point.entry.interval()
        interval = f" ({span[0]:.4f} – {span[1]:.4f})" if span else ""
        group = f", {point.group}" if point.group else ""
        return (f"{point.entry.label}: {self.metric} {point.entry.mean():.5f}{interval}, "
                f"{self.title}: {point.cost:,.0f}{group}")


def _short(value: float) -> str:
    """1000000 as 1M."""
    for unit, word in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g}{word}"
    return f"{value:g}"


def _line(style: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(style: str, x: float, y: float, anchor: str, text: str) -> str:
    kind = f' class="{style}"' if style else ""
    return f'<text{kind} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _beside(x: float, box: Box, text: str) -> str:
    """A label held at the side of its point, so that an error of the estimated width shows at the far end."""
    if box.left > x:
        return _text("label", box.left, box.bottom - 3.5, "start", text)
    if box.right < x:
        return _text("label", box.right, box.bottom - 3.5, "end", text)
    return _text("label", (box.left + box.right) / 2, box.bottom - 3.5, "middle", text)


def _leader(x: float, y: float, box: Box) -> str:
    """A line from a point to a label that is not right beside it."""
    end = (min(max(x, box.left), box.right), min(max(y, box.top + 3), box.bottom - 3))
    return _line("leader", x, y, *end) if math.dist((x, y), end) > 16 else ""
