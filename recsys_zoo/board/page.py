"""A board as one HTML file: ranking, pictures and conditions, without scripts or anything to load."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..files import write_whole
from .plot import axis_of, best_floor, scale, strip
from .rank import Entry, Ranking, worded_metric
from .rows import Row


def write_page(path: Path, rankings: Sequence[Ranking], title: str = "") -> None:
    """Write the page of one or several boards."""
    write_whole(path, render(rankings, title))


def render(rankings: Sequence[Ranking], title: str = "") -> str:
    """The HTML text."""
    import jinja2
    template = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True,
                                     undefined=jinja2.StrictUndefined)
    boards = [_board(ranking) for ranking in rankings]
    title = title or ", ".join(ranking.board for ranking in rankings)
    return environment.from_string(template).render(title=title, boards=boards)


def _board(ranking: Ranking) -> dict[str, Any]:
    from markupsafe import Markup
    axis, floor = axis_of(ranking), best_floor(ranking)
    start = axis.low if floor is None else floor.mean()
    digits = 2 if axis.high - axis.low > 0.05 else 3 if axis.high - axis.low > 0.005 else 4
    entries = [{**_entry(entry), "below": ranking.below(entry),
                "strip": Markup(strip(entry, axis, ranking.references, start))} for entry in ranking.entries]
    return {
        "name": ranking.board, "metric": worded_metric(ranking.metric), "lower": ranking.lower_is_better,
        "protocol": ranking.protocol, "notes": ranking.notes, "tie_rules": ranking.tie_rules,
        "entries": entries, "warnings": ranking.warnings,
        "references": [{**_entry(entry), "below": ""} for entry in ranking.references],
        "scale": Markup(scale(axis, ranking.references, digits)), "columns": _columns(ranking),
        "outside": [entry.label for entry in ranking.references if not axis.holds(entry.mean())],
        "conditions": _conditions(ranking), "sources": _sources(ranking),
        "inherited": any("inherited" in entry.hparams for entry in ranking.entries),
        "unranked": [{"label": row.label, "seed": row.seed, "reason": why} for row, why in ranking.unranked],
        "commands": _different(entry.rows[0].command for entry in ranking.entries)}


def _columns(ranking: Ranking) -> dict[str, bool]:
    """Which columns have anything to say."""
    shown = [*ranking.entries, *ranking.references]

    def some(metric: str) -> bool:
        return metric != ranking.metric and any(entry.values(metric) for entry in shown)
    return {"auc": some("test.auc"), "gauc": some("test.gauc"), "logloss": some("test.logloss"),
            "unseen": some("test.auc_unseen_pairs"), "valid": some("valid.auc"),
            "interval": any(entry.interval() for entry in shown),
            "board": any("board" in entry.quoted for entry in shown),
            "paper": any("paper" in entry.quoted for entry in shown),
            "note": any(row.note for entry in shown for row in entry.rows)}


def _entry(entry: Entry) -> dict[str, Any]:
    rows, span = entry.rows, entry.interval()
    return {
        "label": entry.label if entry.role == "model" else entry.label.replace("_", " "), "role": entry.role,
        "rank": entry.rank, "tied": entry.tied, "seeds": len(rows), "lost": len(entry.lost),
        "mean": _number(entry.mean()), "std": _number(entry.std()),
        "interval": f"{span[0]:.4f} – {span[1]:.4f}" if span else "–",
        "auc": _number(entry.mean("test.auc")), "gauc": _number(entry.mean("test.gauc")),
        "logloss": _number(entry.mean("test.logloss")), "valid": _number(entry.mean("valid.auc")),
        "unseen": _number(entry.mean("test.auc_unseen_pairs"), 4),
        "board": _quoted(entry, "board"), "paper": _quoted(entry, "paper"),
        "hparams": entry.hparams, "trials": max(row.trials for row in rows),
        "on_test": any(row.selection == "test" for row in rows), "params": f"{rows[0].params:,}",
        "kept": min(row.kept for row in rows),
        "seconds": f"{sum(row.seconds for row in rows) / len(rows):,.0f}",
        "note": "; ".join(_different(row.note for row in rows))}


def _quoted(entry: Entry, kind: str) -> str:
    quoted = entry.quoted.get(kind)
    return _number(quoted.metrics.get(entry.metric.removeprefix("test."), math.nan), 4) if quoted else "–"


def _conditions(ranking: Ranking) -> list[tuple[str, str]]:
    """What the numbers were made under; several values where the rows differ."""
    rows = [row for entry in ranking.entries for row in entry.rows]
    days = sorted(row.when[:10] for row in rows if row.when)
    return [(name, value) for name, value in (
        ("protocol", ranking.protocol), ("data digest", ranking.data_digest[:16]),
        ("commit", _several(row.git for row in rows)),
        ("seeds", _several(str(s) for s in sorted({row.seed for row in rows}))),
        ("device", _several(_device(row) for row in rows)),
        ("threads", _several(str(row.threads) for row in rows)),
        ("torch", _several(row.torch for row in rows)),
        ("tables", _several(row.table_update for row in rows)),
        ("precision", _several(row.precision for row in rows)),
        ("epoch picked on", _several(row.selection for row in rows)),
        ("date", " to ".join(dict.fromkeys((days[0], days[-1]))) if days else "")) if value]


def _device(row: Row) -> str:
    return f"{row.device} ({row.cpu_capability})" if row.cpu_capability else row.device


def _several(values: Iterable[str]) -> str:
    return ", ".join(_different(values))


def _different(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(value for value in values if value))


def _sources(ranking: Ranking) -> list[dict[str, str]]:
    quoted = {q.source: (kind, q) for entry in ranking.entries for kind, q in entry.quoted.items()}
    return [{"kind": kind, "model": q.model, "source": source, "note": q.note}
            for source, (kind, q) in quoted.items()]


def _number(value: float, digits: int = 5) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"
