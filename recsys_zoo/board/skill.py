"""One skill a model over many boards, with its uncertainty: Bayesian updates from K-wise outcomes.

A board is one outcome, the ranks of its models (means over seeds; seeds of one board are no further
evidence). Skills are normal, theta ~ N(mu, sigma^2); an outcome moves them by the closed form of Weng and
Lin (JMLR 2011, Thurstone-Mosteller), here between neighbours of the ranking, because all K(K-1)/2 pairs are
not independent. The updates depend on the order of the boards, so they are averaged over random orders.
"""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import NormalDist
from typing import Literal, NamedTuple

from .rank import Ranking

MU, SIGMA = 25.0, 25 / 3  # prior of every model
BETA = SIGMA / 2  # deviation of a performance around the skill
DRAW = 0.10  # chance of a tie between equals
LEAST = 5  # boards
ORDERS = 200
_N = NormalDist()


class Skill(NamedTuple):
    """Mean and deviation of a skill; models are ordered by `score`, which is unlikely to flatter."""

    mu: float = MU
    sigma: float = SIGMA

    @property
    def score(self) -> float:
        return self.mu - 3 * self.sigma


class Standing(NamedTuple):
    """A model's skill and the number of boards it rests on."""

    label: str
    skill: Skill
    boards: int


def update(skills: Sequence[Skill], ranks: Sequence[int], mode: Literal["adjacent", "full"] = "adjacent",
           draw: float = DRAW) -> list[Skill]:
    """The skills after one outcome; equal ranks are ties, smaller ones are better."""
    order = sorted(range(len(skills)), key=lambda i: ranks[i])
    pairs = itertools.pairwise(order) if mode == "adjacent" else itertools.combinations(order, 2)
    shift, shrink = [0.0] * len(skills), [0.0] * len(skills)
    margin = _N.inv_cdf((draw + 1) / 2) * math.sqrt(2) * BETA if draw else 0.0
    for better, worse in pairs:
        one, other = skills[better], skills[worse]
        c = math.sqrt(one.sigma**2 + other.sigma**2 + 2 * BETA**2)
        x, e = (one.mu - other.mu) / c, margin / c
        v, w = _tie(x, e) if ranks[better] == ranks[worse] else _win(x, e)
        for i, sign in ((better, 1), (worse, -1)):
            sigma = skills[i].sigma
            shift[i] += sign * sigma**2 / c * v
            shrink[i] += (sigma / c) ** 3 * w  # gamma = sigma / c
    return [Skill(s.mu + d, s.sigma * math.sqrt(max(1 - k, 1e-4)))
            for s, d, k in zip(skills, shift, shrink, strict=True)]


def _win(x: float, e: float) -> tuple[float, float]:
    """Mean and variance corrections of a win; e: half width of a draw."""
    t = x - e
    mass = math.erfc(-t / math.sqrt(2)) / 2  # keeps its digits far below 0, where 1 + erf has none
    if mass < 1e-250:
        return -t, 1.0
    v = _N.pdf(t) / mass
    return v, v * (v + t)


def _tie(x: float, e: float) -> tuple[float, float]:
    """The same of a tie."""
    mass = _N.cdf(e - x) - _N.cdf(-e - x)
    if mass < 1e-12:  # so unlikely that only the sign of x is left
        v = -x + math.copysign(e, x)
        return v, 1.0
    v = (_N.pdf(-e - x) - _N.pdf(e - x)) / mass
    return v, v**2 + ((e - x) * _N.pdf(e - x) + (e + x) * _N.pdf(e + x)) / mass


def skills(outcomes: Sequence[Mapping[str, int]], orders: int = ORDERS, seed: int = 0) -> dict[str, Skill]:
    """Skills from outcomes (model -> rank), averaged over random orders of the outcomes."""
    names = sorted({name for outcome in outcomes for name in outcome})
    rng, found = random.Random(seed), []
    for _ in range(orders):
        current = dict.fromkeys(names, Skill())
        for outcome in rng.sample(list(outcomes), len(outcomes)):
            among = rng.sample(list(outcome), len(outcome))  # who is whose neighbour in a tie is chance
            new = update([current[name] for name in among], [outcome[name] for name in among])
            current |= dict(zip(among, new, strict=True))
        found.append(current)
    return {name: Skill(statistics.fmean(one[name].mu for one in found),
                        statistics.fmean(one[name].sigma for one in found)) for name in names}


def standings(rankings: Iterable[Ranking],
              families: Mapping[str, str]) -> dict[tuple[str, str], list[Standing]]:
    """By (family, origin of the settings) the models from the best score down; families: model -> family.

    Only families with 5 data sets or more. One outcome a data set: of several rankings of one (labels,
    budgets of tuning), that with most models. Rankings whose epoch was picked on test are left out, and so
    are models that stand in a ranking with several settings, and models of fewer than two data sets.
    """
    chosen: dict[tuple[str, str], dict[str, dict[str, int]]] = {}
    for ranking in rankings:
        if ranking.key.selection == "test":
            continue
        labels = Counter(entry.rows[0].label for entry in ranking.entries)
        by_family: dict[str, dict[str, int]] = {}
        for entry in ranking.entries:
            first = entry.rows[0]
            if labels[first.label] == 1:
                by_family.setdefault(families[first.model], {})[first.label] = entry.rank
        for family, ranks in by_family.items():
            boards = chosen.setdefault((family, ranking.key.hparams.partition(",")[0]), {})
            if len(ranks) > max(1, len(boards.get(ranking.data_digest, ()))):
                boards[ranking.data_digest] = ranks
    return {key: _standings(list(boards.values())) for key, boards in chosen.items() if len(boards) >= LEAST}


def _standings(boards: Sequence[Mapping[str, int]]) -> list[Standing]:
    counts = Counter(name for ranks in boards for name in ranks)
    outcomes = [{name: rank for name, rank in ranks.items() if counts[name] > 1} for ranks in boards]
    rated = skills([outcome for outcome in outcomes if len(outcome) > 1])
    order = sorted(rated, key=lambda name: -rated[name].score)
    return [Standing(name, rated[name], counts[name]) for name in order]
