"""Names beside points of a picture, greedily and without overlaps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

HEIGHT = 14  # of a label, px
WIDTH = 7.2  # of a character at 12 px; wider than the mean of the usual fonts
RADIUS = 6  # of a point, px
RINGS = (8, 14, 24, 38, 56)  # distances of labels from the middle of their point, px


class Box(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: Box) -> bool:
        return (self.left < other.right and other.left < self.right
                and self.top < other.bottom and other.top < self.bottom)

    def inside(self, other: Box) -> bool:
        return (self.left >= other.left and self.right <= other.right
                and self.top >= other.top and self.bottom <= other.bottom)


def around(x: float, y: float, radius: float) -> Box:
    """The square around a point."""
    return Box(x - radius, y - radius, x + radius, y + radius)


def place_labels(points: Sequence[tuple[float, float]], texts: Sequence[str], frame: Box,
                 taken: Sequence[Box] = ()) -> list[Box | None]:
    """A box for each point's text, earlier points first; None where no place beside the point is free.

    points: centres in px. No box leaves `frame`, covers a point, another box or one of `taken`.
    """
    covered = [*taken, *(around(x, y, RADIUS) for x, y in points)]
    found: list[Box | None] = []
    for (x, y), text in zip(points, texts, strict=True):
        free = (box for box in _candidates(x, y, WIDTH * len(text))
                if box.inside(frame) and not any(box.overlaps(other) for other in covered))
        box = next(free, None)
        found.append(box)
        covered += [box] if box else []
    return found


def _candidates(x: float, y: float, width: float) -> list[Box]:
    """Right, left, then above and below, in ever wider rings."""
    corners = []
    for ring in RINGS:
        flat, steep = ring * 0.9, ring * 0.6
        corners += [(x + ring, y - HEIGHT / 2), (x - ring - width, y - HEIGHT / 2)]
        for top in (y - steep - HEIGHT, y + steep):
            corners += [(x + flat, top), (x - flat - width, top)]
        corners += [(x - width / 2, y - ring - HEIGHT), (x - width / 2, y + ring)]
    return [Box(left, top, left + width, top + HEIGHT) for left, top in corners]
