"""A board as one HTML file: ranking, pictures and conditions, with nothing to load.

Everything is there without scripts; `page.js` adds sorting, filters and a switch between the pictures of
cost. Filters hide rows and points: ranks, ties and the lines of unbeaten models stay those of all models.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import write_whole
from .beside import beside
from .columns import columns, different, place
from .cost import pictures
from .plot import axis_of, best_floor, named, scale, strip
from .rank import Entry, Ranking, worded_metric
from .rows import Row
from .skill import Standing

Standings = Mapping[tuple[str, str], Sequence[Standing]]


def write_page(path: Path, rankings: Sequence[Ranking], title: str = "", overall: Standings | None = None
               ) -> None:
    """Write the page of one or several rankings."""
    write_whole(path, render(rankings, title, overall))


def render(rankings: Sequence[Ranking], title: str = "", overall: Standings | None = None) -> str:
    """The HTML text; every ranking has a section with a table of its own.

    overall: skills over the data sets (`skill.standings`), where there are enough of them.
    """
    import jinja2
    from markupsafe import Markup
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True,
                                     undefined=jinja2.StrictUndefined)
    style, script = _beside("page.css"), _beside("page.js")
    boards = [_board(ranking, rankings) for ranking in rankings]
    names = [board["id"] for board in boards]
    for number, board in enumerate(boards):
        before = names[:number].count(board["id"])
        board["id"] += f"-{before + 1}" if before else ""
    title = title or ", ".join(different(ranking.board for ranking in rankings))
    return environment.from_string(_beside("page.html")).render(
        title=title, boards=boards, overall=overall or {}, style=Markup(style), script=Markup(script),
        style_hash=_hash(style), script_hash=_hash(script))


def _beside(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """As the page's content security policy names what may run or style it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _board(ranking: Ranking, rankings: Sequence[Ranking]) -> dict[str, Any]:
    from markupsafe import Markup
    axis, floor = axis_of(ranking), best_floor(ranking)
    start = axis.low if floor is None else floor.mean()
    digits = 2 if axis.high - axis.low > 0.05 else 3 if axis.high - axis.low > 0.005 else 4
    shown, table = [*ranking.entries, *ranking.references], columns(ranking, rankings)
    origins = sorted({row.hparams for entry in ranking.entries for row in entry.rows})
    return {
        "id": re.sub(r"[^a-z0-9_]+", "-", ranking.title.lower()).strip("-") or "board",
        "title": ranking.title, "metric": worded_metric(ranking.metric), "lower": ranking.lower_is_better,
        "protocol": ranking.protocol, "notes": ranking.notes, "tie_rules": ranking.tie_rules,
        "warnings": ranking.warnings, "references": bool(ranking.references),
        "quoted": any(entry.quoted for entry in ranking.entries),
        "columns": table, "origins": origins if len(origins) > 1 else [],
        "seeds": sorted({len(entry.rows) for entry in ranking.entries}),
        "units": " or ".join(different(e.unit for e in ranking.entries if e.interval())),
        "entries": [{**_entry(entry), "cells": [column.cells[number] for column in table]}
                    for number, entry in enumerate(shown)],
        "strips": [(f"{entry.mean():.5f}", Markup(strip(entry, axis, ranking.references, start)))
                   for entry in ranking.entries],
        "scale": Markup(scale(axis, ranking.references, digits)),
        "pictures": [picture._replace(svg=Markup(picture.svg)) for picture in pictures(ranking)],
        "outside": [named(entry) for entry in ranking.references if not axis.holds(entry.mean())],
        "beside": beside(ranking),
        "conditions": _conditions(ranking), "sources": _sources(ranking.entries),
        "inherited": any("inherited" in entry.hparams for entry in ranking.entries),
        "unranked": [{"label": row.label, "seed": row.seed, "reason": why} for row, why in ranking.unranked],
        "commands": different(entry.rows[0].command for entry in ranking.entries)}


def _entry(entry: Entry) -> dict[str, Any]:
    return {"label": named(entry), "role": entry.role, "place": place(entry), "seeds": len(entry.rows),
            "origins": " ".join(sorted({row.hparams for row in entry.rows}))}


def _conditions(ranking: Ranking) -> list[tuple[str, str]]:
    """What the rows share (their key), then what else the numbers were made under."""
    rows = [row for entry in ranking.entries for row in entry.rows]
    days = sorted(row.when[:10] for row in rows if row.when)
    return [*ranking.key.words, *((name, value) for name, value in (
        ("settings chosen by", _several(row.choice for row in rows)),
        ("commit", _several(row.git for row in rows)),
        ("seeds", _several(str(s) for s in sorted({row.seed for row in rows}))),
        ("device", _several(_device(row) for row in rows)),
        ("threads", _several(str(row.threads) for row in rows)),
        ("torch", _several(row.torch for row in rows)),
        ("tables", _several(row.table_update for row in rows)),
        ("precision", _several(row.precision for row in rows)),
        ("date", " to ".join(dict.fromkeys((days[0], days[-1]))) if days else "")) if value)]


def _device(row: Row) -> str:
    return f"{row.device} ({row.cpu_capability})" if row.cpu_capability else row.device


def _several(values: Iterable[str]) -> str:
    return ", ".join(different(values))


def _sources(entries: Sequence[Entry]) -> list[dict[str, str]]:
    quoted = {q.source: q for entry in entries for q in entry.quoted.values()}
    return [{"model": q.model, "source": source, "note": q.note} for source, q in quoted.items()]
