"""Paired tests of two models over training seeds, on the same test rows; Holm's correction of many of them.

The difference of two means over seeds varies because other users (or rows) could have been drawn, and
because other seeds could have been drawn. The first part is the variance of the difference over a bootstrap
whose resamples both models share (whole users where there are users, so rows of one user may depend on each
other); the second is s^2 / S of each side. The test is Welch's t-test (Biometrika 1947) of their sum: the
first part counts as known, each side's seeds have S - 1 degrees of freedom.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import InputError
from .binary import evaluate_binary
from .bootstrap import LEVEL, REPLICATES, resample


class Spread(NamedTuple):
    """Variance over training seeds and the degrees of freedom it was estimated with."""

    variance: float
    df: int


NO_SPREAD = Spread(0.0, 0)


class Comparison(NamedTuple):
    """A difference with its interval and its two-sided p-value; df is infinite where no seeds vary."""

    value: float
    low: float
    high: float
    std_error: float
    df: float
    p: float


def pooled_spread(groups: Iterable[Sequence[float]]) -> Spread:
    """The variance over seeds within groups of values (one group a model), pooled; df 0 without any."""
    total, df = 0.0, 0
    for values in groups:
        mean = math.fsum(values) / max(len(values), 1)
        total += math.fsum((value - mean) ** 2 for value in values)
        df += max(len(values) - 1, 0)
    return Spread(total / df if df else 0.0, df)


def compare(ours: Sequence[float], theirs: Sequence[float], sampling: float,
            pooled: tuple[Spread, Spread] = (NO_SPREAD, NO_SPREAD), level: float = LEVEL) -> Comparison:
    """Test mean(ours) - mean(theirs) over seeds; sampling: variance of that difference over the resamples.

    A side with one seed takes its variance of `pooled` (the other models' seeds; none where nothing is
    drawn). Without any variance there is no test: p is 1.
    """
    from scipy import special  # not stats, whose frozen distributions are slow to make for every pair
    value = math.fsum(ours) / len(ours) - math.fsum(theirs) / len(theirs)
    variance, slack = sampling, 0.0  # slack: of Welch and Satterthwaite's degrees of freedom
    for values, others in zip((ours, theirs), pooled, strict=True):
        spread = pooled_spread([values]) if len(values) > 1 else others
        part = spread.variance / len(values)
        variance += part
        slack += part**2 / spread.df if spread.df else 0.0
    std_error = math.sqrt(variance)
    df = variance**2 / slack if slack else math.inf
    finite = math.isfinite(df)
    quantile = special.stdtrit(df, (1 + level) / 2) if finite else special.ndtri((1 + level) / 2)
    reach, p = float(quantile) * std_error, 1.0  # where nothing is known to vary, nothing is tested
    if std_error > 0:
        z = -abs(value) / std_error
        p = float(2 * (special.stdtr(df, z) if finite else special.ndtr(z)))
    return Comparison(value, value - reach, value + reach, std_error, df, p)


def prediction_interval(values: Sequence[float], pooled: Spread, level: float = LEVEL) -> tuple[float, float]:
    """Where the value of one more seed falls, by the mean of these and the pooled variance over seeds.

    InputError when no two seeds were at hand to pool.
    """
    from scipy import special
    if not pooled.df:
        raise InputError("no model has two seeds, so nothing says how far seeds lie apart; run more seeds")
    mean = math.fsum(values) / len(values)
    error = math.sqrt(pooled.variance * (1 + 1 / len(values)))
    reach = float(special.stdtrit(pooled.df, (1 + level) / 2)) * error
    return mean - reach, mean + reach


def seed_draws(scores: Tensor, labels: Tensor, group: Tensor | None = None, replicates: int = REPLICATES,
               seed: int = 0) -> dict[str, tuple[list[float], Tensor]]:
    """Of score sets [S, n] each metric's S values, and the R replicates of their mean; S = 1 may be left out.

    The resamples depend on `seed` and the groups alone, so replicates of two models are paired.
    """
    sets = scores[None] if scores.dim() == 1 else scores
    values = [evaluate_binary(one, labels, group) for one in sets]
    draws = [resample(one, labels, group, replicates, seed) for one in sets]
    return {name: ([v[name] for v in values], torch.stack([d[name] for d in draws]).mean(0))
            for name in draws[0]}


def paired_test(ours: Tensor, theirs: Tensor, labels: Tensor, group: Tensor | None = None,
                replicates: int = REPLICATES, level: float = LEVEL, seed: int = 0) -> dict[str, Comparison]:
    """metric(ours) - metric(theirs), by metric (auc, logloss, gauc with groups), with interval and p-value.

    Score sets are probabilities [n], or [S, n] for S training seeds. One set on both sides says nothing
    about other seeds: the test is then of these two trained models.
    """
    one, other = (seed_draws(sets, labels, group, replicates, seed) for sets in (ours, theirs))
    return {name: compare(values, other[name][0], variance_of(draws - other[name][1]), level=level)
            for name, (values, draws) in one.items()}


def variance_of(draws: Tensor) -> float:
    """Sample variance of the replicates that have a value; InputError when hardly any has."""
    kept = draws[~draws.isnan()]
    if len(kept) < 2:
        raise InputError("bootstrap: hardly any resample has both classes; give more rows for a test")
    return kept.var().item()


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values (Scandinavian Journal of Statistics 1979), in the order given."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    adjusted, largest = [0.0] * len(p), 0.0
    for place, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - place) * p[i]))
        adjusted[i] = largest
    return adjusted
