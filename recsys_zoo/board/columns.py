"""The columns of a board's table: what a cell shows, and the exact number by which it is sorted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

from .compare import costs
from .key import HELD_OUT, budget_of
from .plot import named
from .rank import Entry, Ranking, worded_metric


class Cell(NamedTuple):
    """`sort` is a number as text, or a text; "" stands last in any order."""

    text: str = ""
    sort: str = ""
    tag: str = ""  # before the text
    warnings: tuple[str, ...] = ()  # after it


class Column(NamedTuple):
    """`first` is the order that a first click on the header gives."""

    name: str
    title: str
    kind: Literal["number", "text"]
    first: Literal["ascending", "descending"]
    style: str  # of header and cells: "left", "text", "ours" (made by our runs)
    cells: list[Cell]  # of entries, then references


_METRICS = (("test.auc", "", 5, True), ("test.auc_unseen_pairs", "AUC, unseen pairs", 4, True),
            ("test.gauc", "gAUC", 5, True), ("test.logloss", "logloss", 5, False), ("valid.auc", "", 5, True),
            ("test.recall@20", "", 5, True), ("test.ndcg@20", "", 5, True), ("test.recall@50", "", 5, True),
            ("test.ndcg@50", "", 5, True), ("valid.recall@20", "", 5, True), ("test.rare_dcg@5", "", 5, True),
            ("test.item_auc", "", 5, True), ("test.frequency_auc", "", 5, True),
            ("test.recall@5", "", 5, True), ("test.map@5", "", 5, True), ("valid.snips_dcg@5", "", 5, True))

_OF_HELD_OUT = (("test.recall_capped@20", "", 5, True), ("test.recall_capped@50", "", 5, True),
                ("test.recall@20", "", 5, True), ("test.recall@50", "", 5, True),
                ("test.ndcg@20", "", 5, True), ("valid.ndcg@100", "", 5, True))


def columns(ranking: Ranking, rankings: Sequence[Ranking]) -> list[Column]:
    """Those with something to say; `rankings` are all of the page, for the other selection of the epoch."""
    shown, best_down = [*ranking.entries, *ranking.references], not ranking.lower_is_better

    def column(name: str, title: str, cell: Callable[[Entry], Cell], style: str = "ours", *,
               kind: Literal["number", "text"] = "number", down: bool = False) -> Column:
        first = "descending" if down else "ascending"
        return Column(name, title, kind, first, style, [cell(entry) for entry in shown])

    asked = _OF_HELD_OUT if ranking.key.protocol == HELD_OUT else _METRICS
    ranked, other = worded_metric(ranking.metric), "valid" if ranking.key.selection == "test" else "test"
    metrics = [column(name, title or worded_metric(name),
                      lambda e, name=name, digits=digits: _number(e.mean(name), digits), down=down)
               for name, title, digits, down in asked if name != ranking.metric]
    found = [
        column("rank", "#", _rank, "left"),
        column("model", "model", lambda e: Cell(named(e), named(e)), "left name", kind="text"),
        column(ranking.metric, ranked, _with_deviation, down=best_down),
        column("seeds", "seeds", _seeds, down=True),
        column("interval", "95 % interval", _interval, down=best_down),
        column("selection", f"{ranked}, epoch picked on {other}", _picked(ranking, rankings, other),
               down=best_down),
        *metrics,
        column("board", "other board", _quoted("board"), "", down=best_down),
        column("by_valid", "other board, picked on valid", _by_valid, "", down=True),
        column("paper", "paper", _quoted("paper"), "", down=best_down),
        column("settings", "settings", lambda e: _settings(e, ranking.below(e)), "left", kind="text"),
        column("parameters", "parameters", _parameters, ""),
        column("seconds", "seconds", lambda e: _cost(costs([e])[0].seconds, e), ""),
        column("memory", "peak MiB", lambda e: _cost(costs([e])[0].peak_mib, e), ""),
        column("note", "note", _note(shown), "text", kind="text")]
    return [c for c in found if any(cell.sort for cell in c.cells)]


def place(entry: Entry) -> str:
    """The rank with "=" where it is shared; "" without one."""
    return f"{entry.rank}{'=' if entry.tied else ''}" if entry.rank else ""


def different(values: Iterable[str]) -> list[str]:
    """Each value that is not "" once."""
    return list(dict.fromkeys(value for value in values if value))


def _number(value: float, digits: int = 5) -> Cell:
    return Cell() if math.isnan(value) else Cell(f"{value:.{digits}f}", repr(value))


def _rank(entry: Entry) -> Cell:
    return Cell(place(entry), str(entry.rank) if entry.rank else "")


def _with_deviation(entry: Entry) -> Cell:
    mean, deviation = _number(entry.mean()), _number(entry.std()).text
    return mean._replace(text=f"{mean.text} ± {deviation}") if deviation else mean


def _seeds(entry: Entry) -> Cell:
    if entry.role != "model":
        return Cell()
    lost = (f"{len(entry.lost)} lost",) if entry.lost else ()
    return Cell(str(len(entry.rows)), str(len(entry.rows)), warnings=lost)


def _interval(entry: Entry) -> Cell:
    span = entry.interval()
    return Cell(f"{span[0]:.4f} – {span[1]:.4f}", repr(span[0])) if span else Cell()


def _quoted(kind: str) -> Callable[[Entry], Cell]:
    def cell(entry: Entry) -> Cell:
        quoted, name = entry.quoted.get(kind), entry.metric.removeprefix("test.")
        return _number(quoted.metrics.get(name, math.nan), 4) if quoted else Cell()
    return cell


def _by_valid(entry: Entry) -> Cell:
    """Known for the test AUC alone."""
    quoted = entry.quoted.get("board")
    return _number(quoted.by_valid, 4) if quoted and entry.metric == "test.auc" else Cell()


def _picked(ranking: Ranking, rankings: Sequence[Ranking], selection: str) -> Callable[[Entry], Cell]:
    """The same model's value in a ranking whose epochs were picked on another split.

    Empty where either side has several settings of the model: which belongs to which is not known.
    """
    def all_else(other: Ranking) -> tuple[str, ...]:
        return other.board, other.key.label, other.key.protocol, other.key.hparams, other.metric
    beside = [entry for other in rankings for entry in other.entries
              if all_else(other) == all_else(ranking) and other.key.selection == selection]

    def cell(entry: Entry) -> Cell:
        here, there = ([e for e in entries if e.rows[0].label == entry.rows[0].label]
                       for entries in (ranking.entries, beside))
        known = entry.role == "model" and len(here) == len(there) == 1
        return _with_deviation(there[0]) if known else Cell()
    return cell


def _settings(entry: Entry, below: str) -> Cell:
    if entry.role != "model":
        return Cell(entry.role, entry.role)
    tried = [budget_of(row.trials, row.minutes) for row in entry.rows if row.trials > 1 or row.minutes]
    warnings = ["picked on test"] if any(row.selection == "test" for row in entry.rows) else []
    warnings += [f"below {below}"] if below else []
    return Cell(tried[0] if tried else "", entry.hparams, entry.hparams, tuple(warnings))


def _parameters(entry: Entry) -> Cell:
    count, kept = entry.rows[0].params, min(row.kept for row in entry.rows)
    pruned = f" ({100 * kept:.1f} % kept)" if kept < 1 else ""
    return Cell(f"{count:,}{pruned}", str(count)) if entry.role == "model" and count else Cell()


def _cost(value: float, entry: Entry) -> Cell:
    return Cell(f"{value:,.0f}", repr(value)) if entry.role == "model" and value > 0 else Cell()


def _note(entries: Sequence[Entry]) -> Callable[[Entry], Cell]:
    """What is noted on some rows only; notes of all rows stand above the table."""
    def parts(entry: Entry) -> list[str]:
        return different(part for row in entry.rows for part in row.note.split("; "))
    shared = set.intersection(*(set(parts(entry)) for entry in entries))

    def cell(entry: Entry) -> Cell:
        note = "; ".join(part for part in parts(entry) if part not in shared)
        return Cell(note, note)
    return cell
