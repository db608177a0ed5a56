"""A ranking as a table on the console."""

from __future__ import annotations

import math
import sys

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .columns import place
from .rank import Entry, Ranking, main_pair, worded_metric


def print_table(ranking: Ranking, console: Console | None = None) -> None:
    """Print models from the best to the worst, then references, then what must be said beside the numbers."""
    console = console or Console(width=None if sys.stdout.isatty() else 160)
    console.print(table_of(ranking))
    for note in ranking.notes:
        console.print(f"note: {note}", style="yellow", markup=False)
    for warning in ranking.warnings or ():
        console.print(f"data: {warning}", style="yellow", markup=False)
    if ranking.warnings is None:
        hint = "" if "@" in ranking.metric else "; `recsys-zoo audit` looks at them"
        console.print(f"data: not audited{hint}", markup=False)
    if ranking.tie_rules and any(entry.tied for entry in ranking.entries):
        console.print(f"=: tied ({'; '.join(ranking.tie_rules)})", markup=False)
    for row, reason in ranking.unranked:
        console.print(f"not ranked: {row.label} seed {row.seed}: {reason}", markup=False)


def table_of(ranking: Ranking) -> Table:
    """Columns: ours, then numbers printed elsewhere in columns of their own."""
    shown = [*ranking.entries, *ranking.references]
    kinds = [kind for kind in ("board", "paper") if any(kind in entry.quoted for entry in shown)]
    pair = main_pair(ranking.metric)
    second = pair[0] if ranking.metric == pair[1] else pair[1]
    table = Table(title=f"{ranking.title}  (data {ranking.data_digest[:12]})", title_justify="left")
    for name in ("#", "model"):
        table.add_column(name, overflow="fold")
    for name in (worded_metric(ranking.metric), "95 %", worded_metric(second),
                 *({"board": "other board", "paper": "paper"}[kind] for kind in kinds), "params", "s"):
        table.add_column(name, justify="right")
    table.add_column("settings")
    for entry in ranking.entries:
        seconds = sum(row.seconds for row in entry.rows) / len(entry.rows)
        below = ranking.below(entry)
        label = escape(entry.label) + (f" [yellow](below {below})[/]" if below else "")
        table.add_row(place(entry), label, *_numbers(entry, second, kinds),
                      f"{entry.rows[0].params:,}", f"{seconds:,.0f}", entry.hparams)
    table.add_section()
    for entry in ranking.references:
        name = escape(entry.label.replace("_", " "))
        table.add_row("", name, *_numbers(entry, second, kinds), "", "", entry.role, style="dim")
    return table


def _numbers(entry: Entry, second: str, kinds: list[str]) -> list[str]:
    value = f"{entry.mean():.5f}"
    if len(entry.rows) > 1:
        value += f" ± {entry.std():.5f} ({len(entry.rows)})"
    span, other = entry.interval(), entry.mean(second)
    name = entry.metric.removeprefix("test.")
    quoted = [entry.quoted[kind].metrics.get(name) if kind in entry.quoted else None for kind in kinds]
    interval = f"{span[0]:.4f} – {span[1]:.4f}" if span else ""
    return [value, interval, "" if math.isnan(other) else f"{other:.5f}",
            *("" if number is None else f"{number:.4f}" for number in quoted)]
