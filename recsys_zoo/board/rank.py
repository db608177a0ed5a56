"""From rows to a ranking: seeds joined, ties called ties, quoted numbers beside ours and never among them.

Rows of one (model, presets, settings digest) are one entry; its value is the mean over seeds. Only rows that
are done and carry settings digest, data digest and commit are ranked. Entries share a rank with the best of
their group as long as their difference from it cannot be told from chance: by a paired bootstrap over the
per-example test scores where these are at hand, else when it is below half the width of the wider interval.
"""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import torch

from ..errors import InputError, unknown_name
from ..metrics.bootstrap import difference, seed_means
from .rows import Row, config_digest
from .scores import read_scores

REPLICATES = 500  # of the paired bootstrap
LOWER_IS_BETTER = ("logloss", "calibration_error")
PAIRED = ("auc", "logloss", "gauc")


class Quoted(NamedTuple):
    """Numbers printed elsewhere for a model: by another board, or in a paper."""

    model: str
    kind: str
    metrics: dict[str, float]
    source: str
    note: str


@dataclass(frozen=True)
class Entry:
    """One model with one setting: its rows that count, a row a seed, and what is said of them."""

    label: str
    rows: tuple[Row, ...]
    metric: str
    lost: tuple[Row, ...] = ()  # rows of the same settings that are dead or failed
    rank: int = 0  # 0: a reference
    tied: bool = False  # shares its rank with another entry
    quoted: Mapping[str, Quoted] = field(default_factory=dict)  # by kind: "board", "paper"

    @property
    def role(self) -> str:
        return self.rows[0].role

    @property
    def hparams(self) -> str:
        return ", ".join(sorted({row.hparams for row in self.rows}))

    def values(self, metric: str = "") -> list[float]:
        """The metric of each row that has it (default: the ranked one)."""
        name = metric or self.metric
        return [row.metrics[name] for row in self.rows if name in row.metrics]

    def mean(self, metric: str = "") -> float:
        """Mean over seeds; NaN where no row has the metric."""
        values = self.values(metric)
        return statistics.fmean(values) if values else math.nan

    def std(self, metric: str = "") -> float:
        """Sample standard deviation over seeds (n - 1); NaN for one seed."""
        values = self.values(metric)
        return statistics.stdev(values) if len(values) > 1 else math.nan

    def interval(self) -> tuple[float, float] | None:
        """Mean ends of the seeds' bootstrap intervals of the ranked metric, where all rows have one."""
        low, high = self.values(f"{self.metric}_low"), self.values(f"{self.metric}_high")
        if not len(low) == len(high) == len(self.rows):
            return None
        return statistics.fmean(low), statistics.fmean(high)


@dataclass(frozen=True)
class Ranking:
    """A board: entries from the best to the worst, reference entries, and rows that do not count with why."""

    board: str
    protocol: str
    data_digest: str
    metric: str
    entries: tuple[Entry, ...]
    references: tuple[Entry, ...]
    unranked: tuple[tuple[Row, str], ...]
    tie_rules: tuple[str, ...]
    warnings: tuple[str, ...] | None = None  # of the audit of the data; None: not audited

    def below(self, entry: Entry) -> str:
        """The best floor when an entry's mean does not clear it, else ""."""
        floors = [e for e in self.references if e.role == "floor" and not math.isnan(e.mean())]
        if not floors or entry.role != "model":
            return ""
        sign = -1 if self.lower_is_better else 1
        best = max(floors, key=lambda e: sign * e.mean())
        return "" if sign * entry.mean() > sign * best.mean() else best.label.replace("_", " ")

    @property
    def lower_is_better(self) -> bool:
        return _lower(self.metric)

    @property
    def notes(self) -> tuple[str, ...]:
        """What must stand beside every number."""
        rows = [row for entry in (*self.entries, *self.references) for row in entry.rows]
        return tuple(dict.fromkeys(part for row in rows for part in row.note.split("; ") if part))


def rank(rows: Iterable[Row], metric: str = "test.auc", quoted: Sequence[Quoted] = (),
         scores: Mapping[str, Path] | None = None) -> Ranking:
    """Rank the rows of one board by the mean of `metric`.

    scores: scores digest -> file, for paired ties. InputError when the rows that count differ in board,
    protocol or data, or when none counts.
    """
    rows = list(rows)
    good, unranked = [], []
    for row in rows:
        reason = _not_ranked(row, metric, rows)
        if reason:
            unranked.append((row, reason))
        else:
            good.append(row)
    if not good:
        reasons = "; ".join(sorted({reason for _, reason in unranked})) or "there are none"
        raise InputError(f"no row can be ranked: {reasons}")
    first = _one_board(good)
    entries = _entries(good, [row for row, _ in unranked], metric, quoted)
    models = [entry for entry in entries if entry.role == "model"]
    models.sort(key=lambda e: e.mean(), reverse=not _lower(metric))
    ranked, rules = _with_ranks(models, scores or {})
    references = sorted((e for e in entries if e.role != "model"), key=lambda e: (e.role, -e.mean()))
    return Ranking(first.board, first.protocol, first.data_digest, metric, tuple(ranked), tuple(references),
                   tuple(unranked), tuple(rules))


def worded_metric(metric: str) -> str:
    """ "test.auc" as "test AUC"."""
    words = {"auc": "AUC", "gauc": "gAUC", "avg_auc": "avg AUC", "auc_unseen_pairs": "AUC on unseen pairs"}
    split, _, name = metric.rpartition(".")
    return f"{split} {words.get(name, name.replace('_', ' '))}".strip()


def by_board(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """The rows of each board, in order of appearance."""
    boards: dict[str, list[Row]] = {}
    for row in rows:
        boards.setdefault(row.board, []).append(row)
    return boards


def read_quoted(path: Path) -> list[Quoted]:
    """A table of benchmarks/published: model, kind ("board" or "paper"), metric columns, source, note."""
    with open(path, newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    found = []
    for number, line in enumerate(table, start=2):
        if line.get("kind") not in ("board", "paper") or not line.get("source"):
            raise InputError(f"{path}, line {number}: kind must be board or paper, and a source is needed")
        metrics = {name: float(line[name]) for name in ("auc", "logloss", "gauc") if line.get(name)}
        found.append(Quoted(line["model"], line["kind"], metrics, line["source"], line.get("note") or ""))
    return found


def _not_ranked(row: Row, metric: str, rows: Sequence[Row]) -> str:
    """Why a row does not count, or ""."""
    if row.status != "done":
        return f"{row.status}: {row.reason}" if row.reason else row.status
    for name in ("config_digest", "data_digest", "git"):
        if not getattr(row, name):
            return f"no {name.replace('_', ' ').replace('git', 'commit')}"
    if row.config_digest != config_digest(row.config):
        return "its settings are not those of its settings digest"
    if metric not in row.metrics:
        known = {name for r in rows for name in r.metrics}
        if metric not in known:
            raise unknown_name("metric", metric, known)
        return f"no {metric}"
    return "" if math.isfinite(row.metrics[metric]) else f"{metric} is {row.metrics[metric]}"


def _one_board(rows: Sequence[Row]) -> Row:
    first = rows[0]
    for name in ("board", "protocol", "data_digest"):
        values = sorted({getattr(row, name)[:40] for row in rows})
        if len(values) > 1:
            what = name.replace("_", " ")
            raise InputError(f"rows of different {what} cannot be ranked together: {values}; keep them in "
                             "files of their own")
    return first


def _entries(rows: Sequence[Row], others: Sequence[Row], metric: str,
             quoted: Sequence[Quoted]) -> list[Entry]:
    groups: dict[tuple[str, str, str], dict[int, Row]] = {}
    for row in rows:  # of a repeated seed the last row counts
        groups.setdefault((row.label, row.config_digest, row.role), {})[row.seed] = row
    labels = [label for label, _, _ in groups]
    entries = []
    for (label, digest, _), seeds in groups.items():
        same = [row for row in others if (row.label, row.config_digest) == (label, digest)]
        lost = tuple(row for row in same if row.status != "done")
        shown = f"{label} [{digest[:6]}]" if labels.count(label) > 1 else label
        found = {kind: q for kind in ("board", "paper") if (q := _quoted(label, kind, quoted)) is not None}
        entries.append(Entry(shown, tuple(seeds[s] for s in sorted(seeds)), metric, lost, quoted=found))
    return entries


def _quoted(label: str, kind: str, quoted: Sequence[Quoted]) -> Quoted | None:
    """The quoted row of the model that shares most presets and has none of its own."""
    model, *presets = label.split(".")
    fits = [q for q in quoted if q.kind == kind and q.model.split(".")[0] == model
            and set(q.model.split(".")[1:]) <= set(presets)]
    return max(fits, key=lambda q: q.model.count("."), default=None)


def _lower(metric: str) -> bool:
    return metric.rpartition(".")[2] in LOWER_IS_BETTER


def _with_ranks(models: Sequence[Entry], scores: Mapping[str, Path]) -> tuple[list[Entry], list[str]]:
    """Ranks 1, 1, 3 ...: an entry shares the rank of its group's best while the two are tied."""
    draws = _Draws(scores)
    ranked: list[Entry] = []
    rules: set[str] = set()
    for place, entry in enumerate(models, start=1):
        best = next((e for e in ranked if e.rank == ranked[-1].rank), None) if ranked else None
        if best is not None:
            tied, rule = _tie(best, entry, draws)
            rules.add(rule)
            if tied:
                ranked = [replace(e, tied=True) if e.rank == best.rank else e for e in ranked]
                ranked.append(replace(entry, rank=best.rank, tied=True))
                continue
        ranked.append(replace(entry, rank=place))
    return ranked, sorted(rules)


def _tie(one: Entry, other: Entry, draws: _Draws) -> tuple[bool, str]:
    """Whether two entries are tied, and the rule that said so."""
    name = one.metric.removeprefix("test.")
    if name in PAIRED and one.metric == f"test.{name}" and draws.has(one, other):
        interval = difference(draws.of(one), draws.of(other))[name]
        return interval.holds_zero, f"95 % interval of a paired bootstrap over {draws.unit} and seeds holds 0"
    spans = [span for entry in (one, other) if (span := entry.interval()) is not None]
    if len(spans) < 2:
        return one.mean() == other.mean(), "no intervals: only equal means tie"
    half = max(high - low for low, high in spans) / 2
    return abs(one.mean() - other.mean()) <= half, "difference below half the width of the 95 % interval"


class _Draws:
    """Bootstrap replicates of entries from their score files, each computed once."""

    def __init__(self, scores: Mapping[str, Path]) -> None:
        self.scores = scores
        self.unit = "rows"
        self.found: dict[str, dict[str, tuple[float, torch.Tensor]]] = {}
        self.labels: torch.Tensor | None = None

    def has(self, *entries: Entry) -> bool:
        return all(row.scores_digest in self.scores for entry in entries for row in entry.rows)

    def of(self, entry: Entry) -> dict[str, tuple[float, torch.Tensor]]:
        if entry.label not in self.found:
            sets = [read_scores(self.scores[r.scores_digest], r.scores_digest) for r in entry.rows]
            if self.labels is None:
                self.labels = sets[0].label
            if any(not torch.equal(s.label, self.labels) for s in sets):
                raise InputError(f"{entry.label}: its test scores are not of the other models' test rows")
            group = sets[0].group
            self.unit = "rows" if group is None else "users"
            self.found[entry.label] = seed_means(torch.stack([s.score for s in sets]), sets[0].label, group,
                                                 REPLICATES, side=len(self.found))
        return self.found[entry.label]
