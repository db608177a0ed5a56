"""From rows to a ranking: seeds joined, ties called ties, quoted numbers beside ours and never among them.

Rows of one (model, presets, settings digest) are one entry; its value is the mean over seeds. Only rows that
are done and carry settings digest, data digest and commit are ranked, and only rows of one key (`key.py`).
An entry's rank is 1 + the number of entries that are better than it by more than chance (`ties.py`). Where
the epoch was picked on test, as papers do, entries stand in the order of their values, without ranks.
"""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from ..errors import InputError, unknown_name
from .draws import Bank
from .key import RANKING, Key, one_key
from .rows import Row, config_digest
from .ties import places

LOWER_IS_BETTER = ("logloss", "calibration_error")


class Quoted(NamedTuple):
    """Numbers printed elsewhere for a model: by another board, or in a paper."""

    model: str
    kind: str
    metrics: dict[str, float]
    source: str
    note: str
    by_valid: float = math.nan  # test AUC of the trial that was best on valid, where all trials are public


@dataclass(frozen=True)
class Entry:
    """One model with one setting: its rows that count, a row a seed, and what is said of them."""

    label: str
    rows: tuple[Row, ...]
    metric: str
    lost: tuple[Row, ...] = ()  # rows of the same settings that are dead or failed
    rank: int = 0  # 0: a reference, and where the epoch was picked on test
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
        """Mean ends of the seeds' bootstrap intervals of the ranked metric, where all rows have one.

        They say how much the value would move with other test `unit`s; other seeds are in `std`.
        """
        low, high = self.values(f"{self.metric}_low"), self.values(f"{self.metric}_high")
        if not len(low) == len(high) == len(self.rows):
            return None
        return statistics.fmean(low), statistics.fmean(high)


    @property
    def unit(self) -> str:
        """What the intervals resample: users where the data have them, else rows."""
        return "users" if self.values("test.gauc") else "rows"


@dataclass(frozen=True)
class Ranking:
    """A board: entries from the best to the worst, reference entries, and rows that do not count with why."""

    key: Key
    metric: str
    entries: tuple[Entry, ...]
    references: tuple[Entry, ...]
    unranked: tuple[tuple[Row, str], ...]
    tie_rules: tuple[str, ...]
    warnings: tuple[str, ...] | None = None  # of the audit of the data; None: not audited

    def below(self, entry: Entry) -> str:
        """The best floor when an entry's mean does not clear it, else "". Its own model may equal it."""
        floors = [e for e in self.references if e.role == "floor" and not math.isnan(e.mean())]
        if not floors or entry.role != "model":
            return ""
        sign = -1 if self.lower_is_better else 1
        best = max(floors, key=lambda e: sign * e.mean())
        same = entry.rows[0].label == best.rows[0].label and entry.mean() == best.mean()
        cleared = same or sign * entry.mean() > sign * best.mean()
        return "" if cleared else best.label.replace("_", " ")

    @property
    def board(self) -> str:
        return self.key.board

    @property
    def title(self) -> str:
        """Board and origin of the settings, which tell rankings of one board apart."""
        return f"{self.board}: {self.key.origin}" if self.entries else self.board

    @property
    def protocol(self) -> str:
        return self.key.protocol

    @property
    def data_digest(self) -> str:
        return self.key.data_digest

    @property
    def lower_is_better(self) -> bool:
        return lower_is_better(self.metric)

    @property
    def notes(self) -> tuple[str, ...]:
        """What must stand beside every number."""
        shown = (*self.entries, *self.references)
        notes = [part for entry in shown for row in entry.rows for part in row.note.split("; ") if part]
        if self.protocol == RANKING["honest"] and any("board" in entry.quoted for entry in shown):
            notes.append("the other board picked epochs and settings on test, these rows on valid: its "
                         "numbers are no measure of them")
        return tuple(dict.fromkeys(notes))


def rank(rows: Iterable[Row], metric: str = "test.auc", quoted: Sequence[Quoted] = (),
         bank: Bank | None = None) -> Ranking:
    """Rank the rows of one key by the mean of `metric`.

    bank: resampled test metrics, for paired tests. InputError when the rows that count differ in a part of
    the key (`key.by_key` takes them apart), or when none counts.
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
    key = one_key(good)
    entries = _entries(good, [row for row, _ in unranked], metric, quoted)
    models = [entry for entry in entries if entry.role == "model"]
    lower = lower_is_better(metric)
    models.sort(key=lambda e: e.mean(), reverse=not lower)
    if key.selection == "test":  # what was picked on test has values, and no champion
        ranks, tied, rules = [0] * len(models), [False] * len(models), []
    else:
        ranks, tied, rules = places([entry.rows for entry in models], metric, bank or Bank(), lower)
    ranked = [replace(e, rank=r, tied=t) for e, r, t in zip(models, ranks, tied, strict=True)]
    references = sorted((e for e in entries if e.role != "model"), key=lambda e: (e.role, -e.mean()))
    return Ranking(key, metric, tuple(ranked), tuple(references), tuple(unranked), tuple(rules))


def main_metric(rows: Iterable[Row]) -> str:
    """What the rows of a board are ranked by, unless somebody says otherwise."""
    known = {name for row in rows for name in row.metrics}
    main = ("test.ndcg@100", "test.recall@20", "test.dcg@5")  # the first of held-out users alone
    return next((name for name in main if name in known), "test.auc")


def main_pair(metric: str) -> tuple[str, str]:
    """The two metrics that stand side by side on a board that is ranked by this one."""
    if "dcg@" in metric and "ndcg@" not in metric:
        return "test.dcg@5", "test.rare_dcg@5"
    if metric == "test.ndcg@100":
        return metric, "test.recall_capped@20"
    return ("test.recall@20", "test.ndcg@20") if "@" in metric else ("test.auc", "test.logloss")


def worded_metric(metric: str) -> str:
    """ "test.auc" as "test AUC"."""
    words = {"auc": "AUC", "gauc": "gAUC", "avg_auc": "avg AUC", "auc_unseen_pairs": "AUC on unseen pairs",
             "ndcg": "NDCG", "map": "MAP", "mrr": "MRR", "dcg": "DCG", "rare_dcg": "DCG of rare items",
             "snips_dcg": "SNIPS DCG", "snips_recall": "SNIPS recall",
             "user_auc": "AUC per user", "item_auc": "AUC per item",
             "frequency_auc": "AUC of the users' frequency alone"}
    split, _, name = metric.rpartition(".")
    name, at, k = name.partition("@")
    return f"{split} {words.get(name, name.replace('_', ' '))}{at}{k}".strip()


def read_quoted(path: Path) -> list[Quoted]:
    """A table of benchmarks/published: model, kind ("board" or "paper"), metric columns, source, note."""
    with open(path, newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    found = []
    for number, line in enumerate(table, start=2):
        if None in line or None in line.values():
            raise InputError(f"{path}, line {number}: not the columns of the first line; quote texts that "
                             "hold a comma")
        if line.get("kind") not in ("board", "paper") or not line.get("source"):
            raise InputError(f"{path}, line {number}: kind must be board or paper, and a source is needed")
        metrics = {name: float(value) for name, value in line.items()
                   if (name in ("auc", "logloss", "gauc") or "@" in name) and value}
        by_valid = float(line.get("auc_by_valid") or math.nan)
        found.append(Quoted(line["model"], line["kind"], metrics, line["source"], line.get("note") or "",
                            by_valid))
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


def _entries(rows: Sequence[Row], others: Sequence[Row], metric: str,
             quoted: Sequence[Quoted]) -> list[Entry]:
    groups: dict[tuple[str, str, str], dict[int, Row]] = {}
    for row in rows:  # of a repeated seed the last row counts
        groups.setdefault((row.label, row.config_digest, row.role), {})[row.seed] = row
    labels = [(label, role) for label, _, role in groups]  # a floor may be a model with its own settings
    entries = []
    for (label, digest, role), seeds in groups.items():
        same = [row for row in others if (row.label, row.config_digest) == (label, digest)]
        lost = tuple(row for row in same if row.status != "done")
        shown = f"{label} [{digest[:6]}]" if labels.count((label, role)) > 1 else label
        kinds = ("board", "paper") if role == "model" else ()
        found = {kind: q for kind in kinds if (q := _quoted(label, kind, quoted)) is not None}
        entries.append(Entry(shown, tuple(seeds[s] for s in sorted(seeds)), metric, lost, quoted=found))
    return entries


def _quoted(label: str, kind: str, quoted: Sequence[Quoted]) -> Quoted | None:
    """The quoted row of the model that shares most presets and has none of its own."""
    model, *presets = label.split(".")
    fits = [q for q in quoted if q.kind == kind and q.model.split(".")[0] == model
            and set(q.model.split(".")[1:]) <= set(presets)]
    return max(fits, key=lambda q: q.model.count("."), default=None)


def lower_is_better(metric: str) -> bool:
    """Whether smaller values of "test.logloss" are better."""
    return metric.rpartition(".")[2] in LOWER_IS_BETTER
