"""One model against others on the same test rows: paired effects, what they cost, as text or LaTeX."""

from __future__ import annotations

import io
import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from ..card import latex
from ..errors import InputError, unknown_name
from ..metrics.paired import Comparison, holm
from .draws import Bank
from .rank import Entry, Ranking, lower_is_better, main_pair, worded_metric
from .ties import pair_test, spread_of_seeds

METRICS = ("test.auc", "test.gauc", "test.logloss", "test.recall@20", "test.ndcg@20", "test.dcg@5")


class Effect(NamedTuple):
    """metric(one) - metric(other); p_holm is corrected for all the others that `one` is compared with."""

    one: Entry
    other: Entry
    metric: str
    test: Comparison
    p_holm: float
    rule: str


def pick(rankings: Sequence[Ranking], names: Sequence[str]) -> list[tuple[Ranking, list[Entry]]]:
    """The rankings that hold entries of all the names; UnknownName where there is none.

    A name is an entry's label, or the beginning of one that only one entry of a ranking has.
    """
    found = []
    for ranking in rankings:
        entries = [_entry(ranking, name) for name in names]
        if all(entries):
            found.append((ranking, [entry for entry in entries if entry]))
    if not found:
        known = {entry.label for ranking in rankings for entry in ranking.entries}
        missing = [name for name in names if not any(_entry(ranking, name) for ranking in rankings)]
        if missing:
            raise unknown_name("entry", missing[0], known, "`recsys-zoo board show` lists them")
        titles = {name: ", ".join(r.title for r in rankings if _entry(r, name)) for name in names}
        places = "; ".join(f"{name}: {title}" for name, title in titles.items())
        raise InputError(f"{', '.join(names)} stand in no ranking together ({places}), and rows of different "
                         "rankings are not compared")
    return found


def _entry(ranking: Ranking, name: str) -> Entry | None:
    exact = [entry for entry in ranking.entries if entry.label == name]
    begin = [entry for entry in ranking.entries if entry.label.startswith(name)]
    return exact[0] if exact else begin[0] if len(begin) == 1 else None


def effects(ranking: Ranking, entries: Sequence[Entry], bank: Bank) -> list[Effect]:
    """The first entry against each of the others, by metric."""
    one, *others = entries
    found = []
    for metric in METRICS:
        beside = [other for other in others if all(metric in r.metrics for r in (*one.rows, *other.rows))]
        if not beside:
            continue
        pooled = spread_of_seeds([entry.rows for entry in ranking.entries], metric)
        tests = [pair_test(one.rows, other.rows, metric, bank, pooled) for other in beside]
        for other, (test, rule), p in zip(beside, tests, holm([t.p for t, _ in tests]), strict=True):
            found.append(Effect(one, other, metric, test, p, rule))
    return found


class Cost(NamedTuple):
    """Means over an entry's rows."""

    entry: Entry
    params: int
    seconds: float
    rows_per_s: float
    peak_mib: float


def costs(entries: Sequence[Entry]) -> list[Cost]:
    """What the entries cost, as their rows say it."""
    def mean(entry: Entry, name: str) -> float:
        return statistics.fmean(getattr(row, name) for row in entry.rows)
    return [Cost(e, e.rows[0].params, *(mean(e, name) for name in ("seconds", "rows_per_s", "peak_mib")))
            for e in entries]


def text(ranking: Ranking, found: Sequence[Effect], cost: Sequence[Cost], bibtex: Sequence[str]) -> str:
    """For the console."""
    out = io.StringIO()
    out.write(f"{ranking.title}  (data {ranking.data_digest[:12]})\n")
    for effect in found:
        out.write(f"\n{effect.one.label} against {effect.other.label}: {worded_metric(effect.metric)} "
                  f"{_with_seeds(effect.one, effect.metric)} and {_with_seeds(effect.other, effect.metric)}\n"
                  f"  difference {effect.test.value:+.6f}{_tested(effect)}\n  ({effect.rule})\n")
    out.write("\n")
    width = max(len(c.entry.label) for c in cost)
    for c in cost:
        out.write(f"{c.entry.label:<{width}}  {c.params:>12,} parameters  {c.seconds:>8,.0f} s  "
                  f"{c.rows_per_s:>10,.0f} rows/s  {c.peak_mib:>7,.0f} MiB  {c.entry.rows[0].device}, "
                  f"{c.entry.rows[0].threads} thread{'s' * (c.entry.rows[0].threads != 1)}\n")
    return out.getvalue() + "\n" + "\n".join(bibtex)


def latex_table(ranking: Ranking, found: Sequence[Effect], cost: Sequence[Cost],
                bibtex: Sequence[str]) -> str:
    """A table for a paper (booktabs), its caption with the conditions, and the bibliography as comments."""
    main, second = main_pair(ranking.metric)
    heads = [worded_metric(name).removeprefix("test ") for name in (main, second)]
    lines = [r"\begin{table}", r"\centering", r"\begin{tabular}{lrrrrr}", r"\toprule",
             rf"model & {heads[0]} & {heads[1]} & $\Delta$ {heads[0]} [95\,\%] & $p$ (Holm) & parameters \\",
             r"\midrule"]
    by_label = {e.other.label: e for e in found if e.metric == main}
    for c in cost:
        effect = by_label.get(c.entry.label)
        change = "" if effect is None or math.isinf(effect.test.std_error) else (
            f"${-effect.test.value:+.5f}$ [${-effect.test.high:+.5f}$, ${-effect.test.low:+.5f}$]")
        p = "" if not change else _p(effect.p_holm).replace("< ", "$<$ ")
        lines.append(" & ".join([latex(c.entry.label), _latex_mean(c.entry, main),
                                 _latex_mean(c.entry, second), change, p,
                                 f"{c.params:,}".replace(",", r"\,")]) + r" \\")
    first, seeds = cost[0].entry, sorted({len(c.entry.rows) for c in cost})
    rules = "; ".join(dict.fromkeys(e.rule for e in found))
    caption = (f"{ranking.title}, data {ranking.data_digest[:12]}: mean and deviation over "
               f"{' or '.join(map(str, seeds))} seeds. Differences from {first.label}: {rules}.")
    lines += [r"\bottomrule", r"\end{tabular}", rf"\caption{{{latex(caption)}}}", r"\end{table}", ""]
    return "\n".join(lines) + "".join(f"% {line}\n" for entry in bibtex for line in entry.splitlines())


def _with_seeds(entry: Entry, metric: str) -> str:
    count = len(entry.values(metric))
    spread = "" if count < 2 else f" ± {entry.std(metric):.6f}"
    return f"{entry.mean(metric):.6f}{spread} ({count} seed{'s' * (count != 1)})"


def _latex_mean(entry: Entry, metric: str) -> str:
    if math.isnan(entry.mean(metric)):
        return ""
    spread = entry.std(metric)
    return f"{entry.mean(metric):.5f}" + ("" if math.isnan(spread) else rf" $\pm$ {spread:.5f}")


def _p(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _tested(effect: Effect) -> str:
    if math.isinf(effect.test.std_error):
        return ""
    return (f", 95 % interval {effect.test.low:+.6f} to {effect.test.high:+.6f}, p {_p(effect.test.p)}, with "
            f"Holm {_p(effect.p_holm)}: {_verdict(effect)}")


def _verdict(effect: Effect) -> str:
    if effect.p_holm > 0.05:
        return "tied"
    better = effect.one if (effect.test.value > 0) != lower_is_better(effect.metric) else effect.other
    chosen_on_test = better.rows[0].selection == "test" and better.rows[0].epochs > 0
    return f"{better.label} is better" + (", by epochs that were picked on test" if chosen_on_test else "")
