"""Metrics of ranked lists from the places of the relevant items; equal scores stand in a random order.

A place is a pair: how many candidates have a larger score, and how many have the same. Every metric is the
expected value over all orders of equal scores, computed in closed form, so that a constant scorer gets what
chance gives and nothing depends on how a sort or a top-k breaks ties. All values are per user: float64 [U].

Definitions for a user with relevant items T and the first k of the list (protocol of BARS-Match, 2.2):
recall hits / |T|; precision hits / k; hit_rate 1 with any hit; ndcg sum over hits of 1 / log2(rank + 1),
divided by that of min(k, |T|) hits at the top; mrr 1 / rank of the first hit, 0 without; map the mean over
min(k, |T|) of the precision at each hit; recall_capped hits / min(k, |T|) (Liang et al., WWW 2018).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..errors import InputError

Ties = Literal["expected", "pessimistic", "optimistic"]


@dataclass(frozen=True)
class Ranks:
    """Places of the relevant items of U users, user by user and from the top, int64 [N] each.

    user: 0..U-1, every one with an item. above: candidates with a larger score. tied: candidates with the
    same score, the item itself included. candidates [U]: items that a user's list is made of.
    """

    user: Tensor
    above: Tensor
    tied: Tensor
    candidates: Tensor

    @classmethod
    def of(cls, user: Tensor, above: Tensor, tied: Tensor, candidates: Tensor) -> Ranks:
        """In any order of the items; InputError for places that no list has."""
        arrays = [t.to(torch.int64) for t in (user, above, tied)]
        order = torch.argsort(arrays[0] * (int(candidates.max()) + 1) + arrays[1], stable=True)
        ranks = cls(*(t[order] for t in arrays), candidates.to(torch.int64))
        ranks._check()
        return ranks

    def _check(self) -> None:
        if len(self.relevant) != len(self.candidates) or not bool(self.relevant.all()):
            raise InputError("ranks: every user of a ranking needs a relevant item; leave out those without")
        beyond = (self.above < 0) | (self.tied < 1) | (self.above + self.tied > self.candidates[self.user])
        if bool(beyond.any()) or bool((self.tied < self._groups()[1]).any()):
            raise InputError("ranks: a place beyond the candidates; count above and tied among them alone")

    @property
    def relevant(self) -> Tensor:
        """|T| of each user, [U]."""
        return torch.bincount(self.user, minlength=len(self.candidates))

    def resolved(self, ties: Ties) -> Ranks:
        """With equal scores in the worst or the best order for the user, in place of a random one."""
        if ties == "expected":
            return self
        place, size, _ = self._groups()
        above = self.above + place + (self.tied - size) * (ties == "pessimistic")
        return Ranks(self.user, above, torch.ones_like(above), self.candidates)

    def mean_rank(self) -> Tensor:
        """Expected rank of each item, from 1: [N]."""
        return self.above + (self.tied.double() + 1) / 2

    def first(self, users: int) -> Ranks:
        """The ranks of the first users alone."""
        kept = self.user < users
        return Ranks(self.user[kept], self.above[kept], self.tied[kept], self.candidates[:users])

    def _groups(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of each item: its place among the user's items of equal score, their number, and the user's items
        with a larger score."""
        if len(self.user) == 0:
            return self.user, self.user, self.user
        new = torch.ones(len(self.user), dtype=torch.bool, device=self.user.device)
        new[1:] = (self.user[1:] != self.user[:-1]) | (self.above[1:] != self.above[:-1])
        group, index = new.cumsum(0) - 1, torch.arange(len(new), device=new.device)
        start, size = index[new][group], torch.bincount(group)[group]
        user_start = (self.relevant.cumsum(0) - self.relevant)[self.user]
        return index - start, size, start - user_start


def recall(ranks: Ranks, k: int) -> Tensor:
    """Hits / |T|."""
    return hits(ranks, k) / ranks.relevant


def recall_capped(ranks: Ranks, k: int) -> Tensor:
    """Hits / min(k, |T|)."""
    return hits(ranks, k) / ranks.relevant.clamp(max=k)


def precision(ranks: Ranks, k: int) -> Tensor:
    """Hits / k."""
    return hits(ranks, k) / k


def hit_rate(ranks: Ranks, k: int) -> Tensor:
    """Chance of any hit: of n equal scores with h relevant, m in the list, none with C(n-h, m) / C(n, m)."""
    lo, hi = _span(ranks, k)
    place = ranks._groups()[0]
    missed = (ranks.tied - (hi - lo) - place).clamp(min=0).double() / (ranks.tied - place)
    none = torch.ones(len(ranks.candidates), dtype=torch.float64, device=missed.device)
    return 1 - none.scatter_reduce(0, ranks.user, missed, "prod")


def ndcg(ranks: Ranks, k: int) -> Tensor:
    """Discounted gain of the hits / that of min(k, |T|) hits at the top."""
    gains = _sums(1 / torch.arange(2, k + 2, dtype=torch.float64, device=ranks.user.device).log2())
    lo, hi = _span(ranks, k)
    return _by_user(ranks, (gains[hi] - gains[lo]) / ranks.tied) / gains[ranks.relevant.clamp(max=k)]


def mrr(ranks: Ranks, k: int) -> Tensor:
    """1 / rank of the first hit, 0 where it is beyond k.

    The first of h relevant among n equal scores stands at place p with C(n-p, h-1) / C(n, h).
    """
    first = ranks.relevant.cumsum(0) - ranks.relevant
    size = ranks._groups()[1][first]
    above, tied = ranks.above[first], ranks.tied[first]
    chance, value = size.double() / tied, torch.zeros_like(first, dtype=torch.float64)
    for place in range(1, k + 1):
        rank = above + place
        value += torch.where(rank <= k, chance / rank, 0.0)
        chance = chance * ((tied - size - place + 1).clamp(min=0).double() / (tied - place).clamp(min=1))
    return value


def average_precision(ranks: Ranks, k: int) -> Tensor:
    """Mean over min(k, |T|) of the precision at each hit."""
    return precision_sum(ranks, k) / ranks.relevant.clamp(max=k)


def precision_sum(ranks: Ranks, k: int) -> Tensor:
    """Sum of the precision at each hit.

    At place j of n equal scores with h relevant, behind H of the user's items, a hit has H + 1 + j (h - 1) /
    (n - 1) hits up to it.
    """
    ranks_sum = _sums(1 / torch.arange(1, k + 1, dtype=torch.float64, device=ranks.user.device))
    lo, hi = _span(ranks, k)
    _, size, before = ranks._groups()
    inverse = ranks_sum[hi] - ranks_sum[lo]  # sum of 1 / rank over the places in the list
    among = (size - 1).double() / (ranks.tied - 1).clamp(min=1)
    value = (before + 1) * inverse + among * ((hi - lo) - (ranks.above + 1) * inverse)
    return _by_user(ranks, value / ranks.tied)


def dcg(ranks: Ranks, k: int) -> Tensor:
    """Sum over hits of 1 at rank 1 and 1 / log2(rank) beyond, so that rank 2 is not discounted
    (Jarvelin & Kekalainen, TOIS 2002)."""
    return _by_user(ranks, _gains(ranks, k))


def snips_dcg(ranks: Ranks, k: int, propensity: Tensor) -> Tensor:
    """`dcg` of items that were seen with chances `propensity` [N] in (0, 1], in the order of the ranks.

    Each counts by 1 / propensity, over the sum of these: self-normalised inverse propensity scores
    (Swaminathan & Joachims, NIPS 2015). Equal propensities give dcg / |T|.
    """
    return _self_normalised(ranks, _gains(ranks, k), propensity)


def snips_recall(ranks: Ranks, k: int, propensity: Tensor) -> Tensor:
    """The same of recall; equal propensities give `recall`."""
    return _self_normalised(ranks, _in_list(ranks, k), propensity)


METRICS: dict[str, Callable[[Ranks, int], Tensor]] = {
    "recall": recall,
    "ndcg": ndcg,
    "hit_rate": hit_rate,
    "precision": precision,
    "map": average_precision,
    "mrr": mrr,
    "recall_capped": recall_capped,
}
SNIPS: dict[str, Callable[[Ranks, int, Tensor], Tensor]] = {
    "snips_dcg": snips_dcg, "snips_recall": snips_recall}


def evaluate_ranking(ranks: Ranks, ks: Sequence[int], ties: Ties = "expected") -> dict[str, Tensor]:
    """All metrics at all k, per user: {"recall@20": [U], ...}."""
    for k in ks:
        if k < 1:
            raise InputError(f"k = {k}: a list has at least one place")
    resolved = ranks.resolved(ties)
    return {f"{name}@{k}": metric(resolved, k) for k in ks for name, metric in METRICS.items()}


def _span(ranks: Ranks, k: int) -> tuple[Tensor, Tensor]:
    """Places of an item's equals that are in the list: lo..hi-1."""
    return ranks.above.clamp(max=k), (ranks.above + ranks.tied).clamp(max=k)


def hits(ranks: Ranks, k: int) -> Tensor:
    """Relevant items in the list."""
    return _by_user(ranks, _in_list(ranks, k))


def _in_list(ranks: Ranks, k: int) -> Tensor:
    """The chance of each item to be in the list: [N]."""
    lo, hi = _span(ranks, k)
    return (hi - lo).double() / ranks.tied


def _self_normalised(ranks: Ranks, values: Tensor, propensity: Tensor) -> Tensor:
    weight = 1 / propensity.double()
    return _by_user(ranks, weight * values) / _by_user(ranks, weight)


def _gains(ranks: Ranks, k: int) -> Tensor:
    """What each item adds to `dcg`: [N]."""
    place = torch.arange(1, k + 1, dtype=torch.float64, device=ranks.user.device)
    gains = _sums(1 / place.log2().clamp(min=1))
    lo, hi = _span(ranks, k)
    return (gains[hi] - gains[lo]) / ranks.tied


def _by_user(ranks: Ranks, values: Tensor) -> Tensor:
    total = torch.zeros(len(ranks.candidates), dtype=torch.float64, device=values.device)
    return total.index_add(0, ranks.user, values)


def _sums(terms: Tensor) -> Tensor:
    """Cumulative sums from 0: [k + 1]."""
    return torch.cat([terms.new_zeros(1), terms.cumsum(0)])
