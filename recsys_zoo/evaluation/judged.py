"""Rankings of the items that were judged for a user, as on randomised tests: relevant or not, all are known.

Beside its relevant rows, in the split NAME, such data have the others in NAME_rejected. Users whose judged
items are all rejected count 0 in every mean, as in the code of Saito et al. (WSDM 2020); what a user has seen
in training is a candidate here, if it was judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..itemlists import ItemLists
from ..metrics.ranking import Ties, average_precision, dcg, hits, ndcg, precision_sum, recall
from .full_rank import FullRanking, Scorer, full_ranking

KS = (1, 3, 5)
MAIN = f"dcg@{KS[-1]}"
METRICS = {"dcg": dcg, "hits": hits, "precision_sum": precision_sum, "recall": recall,
           "map": average_precision, "ndcg": ndcg}


@dataclass(frozen=True)
class JudgedRanking:
    """found: places of the relevant items among those that were judged. users [U]: all with a judged item."""

    found: FullRanking
    users: Tensor

    def metrics(self, ks: Sequence[int] = KS, ties: Ties = "expected") -> dict[str, Tensor]:
        """Of each of the users, 0 for those without a relevant item: {"dcg@5": [U], ...}, float64.

        dcg as in metrics/ranking.py, rank 2 not discounted. hits and precision_sum are recall and map without
        their divisors |T| and min(k, |T|), as the figures of Saito et al. have them.
        """
        place, ranks = torch.searchsorted(self.users, self.found.users), self.found.ranks.resolved(ties)
        values = {}
        for k in ks:
            for name, metric in METRICS.items():
                values[f"{name}@{k}"] = torch.zeros(len(self.users), dtype=torch.float64)
                values[f"{name}@{k}"][place] = metric(ranks, k)
        return values

    def by_ties(self, k: int = KS[-1]) -> dict[str, float]:
        """Means with equal scores in the order that is worst for each user, and in the best one, as of a full
        ranking (slices.py)."""
        orders: tuple[tuple[str, Ties], ...] = (("worst", "pessimistic"), ("best", "optimistic"))
        return {f"{metric}|ties={name}": float(values.mean())
                for name, ties in orders for metric, values in self.metrics((k,), ties).items()}


def judged_ranking(score: Scorer, relevant: ItemLists, judged: ItemLists, items: int) -> JudgedRanking:
    """Rank for every user the judged items, which hold the relevant ones; `score` as in `full_ranking`."""
    found = full_ranking(score, relevant, judged.first(0), items, only=judged)
    return JudgedRanking(found, judged.counts.nonzero().squeeze(1).cpu())


def rare_items(train: ItemLists, items: int, most: int = 0) -> Tensor:
    """Items with at most so many users in training; 0: with no more than the median item has. Bool [I]."""
    counts = torch.bincount(train.items, minlength=items)
    return counts <= (most or counts.median())
