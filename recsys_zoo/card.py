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
    family: Literal["ctr", "retrieval", "floor"]
    title: str
    authors: str
    year: int
    url: str
    equations: str
    notes: tuple[str, ...] = ()
    published: tuple[Published, ...] = ()
    faithful: Literal["paper", "code", "reconstruction"] = "paper"

    def bibtex(self) -> str:
        """An entry for a LaTeX bibliography; its key is the first author's name with year and model."""
        first = self.authors.partition(",")[0]
        key = "".join(c for c in f"{first}{self.year}{self.name}" if c.isascii() and c.isalnum())
        fields = {"title": f"{{{latex(self.title)}}}", "author": latex(self.authors.replace(", ", " and ")),
                  "year": str(self.year), "url": self.url}
        body = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items())
        return f"@misc{{{key},\n{body}}}\n"


def latex(text: str) -> str:
    """Text with the characters that LaTeX gives a meaning escaped."""
    special = {c: f"\\{c}" for c in "&%$#_{}"}
    special |= {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}"}
    return "".join(special.get(c, c) for c in text)
