"""A model's card: the paper it comes from, its equations, deviations and published numbers."""

from __future__ import annotations

from typing import Literal

from .config import Frozen


class Published(Frozen):
    """Numbers printed elsewhere for this model on one board, with their source."""

    board: str
    metrics: dict[str, float]
    source: str


class Card(Frozen):
    """What a reader wants to know before using a model."""

    name: str
    family: Literal["ctr", "floor"]
    title: str
    authors: str
    year: int
    url: str
    equations: str
    notes: tuple[str, ...] = ()
    published: tuple[Published, ...] = ()
    faithful: Literal["paper", "code", "reconstruction"] = "paper"
