"""Rankings apart for users of short and long histories, and for cold, rare and other items.

They stand in a row beside the metrics of all, as METRIC|SLICE: `test.recall@20|history<=5` is the mean over
the users with at most five items in what the model was fitted on (or what was given of them, where users were
held out); `test.recall@20|item_users=0` that over the users with a relevant item that nobody has there
(cold), whose other items are left out of |T|. `users|SLICE` counts the users of each mean. Slices without
users are left out. METRIC|ties=worst and METRIC|ties=best are means over all, with equal scores in the order
that is worst or best for each user in place of a random one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..itemlists import ItemLists
from ..metrics.beyond import evaluate_lists
from ..metrics.ranking import Ranks, ndcg, recall
from .full_rank import FullRanking, Scorer, top_items

METRICS = {"recall": recall, "ndcg": ndcg}
# the least and the most items of a user, and users of an item, in training; None: no limit
USERS: dict[str, tuple[int, int | None]] = {
    "history<=5": (0, 5), "history=6-20": (6, 20), "history>20": (21, None)}
ITEMS: dict[str, tuple[int, int | None]] = {
    "item_users=0": (0, 0), "item_users=1-5": (1, 5), "item_users>5": (6, None)}


def further(score: Scorer, found: FullRanking, seen: ItemLists, learnt: ItemLists, items: int,
            ks: tuple[int, ...]) -> dict[str, float]:
    """What a full ranking by these scores is worth by slices and orders of equal scores, at the first k, and
    what its lists hold.

    seen: what was known of the users who are ranked for, and is no candidate; learnt: what the model was
    fitted on (the same, unless users were held out). Lists are those of the users of the ranking; they are
    left out where the candidates were others than all items that were not seen.
    """
    metrics = by_ties(found.ranks, ks[0]) | by_slice(found, seen, learnt, items, ks[0])
    candidates = (items - seen.counts[found.users]).to(found.ranks.candidates)
    if torch.equal(candidates, found.ranks.candidates):
        lists = top_items(score, found.users, seen, items, min(max(ks), items))[0].cpu()
        counts = torch.bincount(learnt.items, minlength=items)
        metrics |= evaluate_lists(lists, counts, int((learnt.counts > 0).sum()), ks)
    return metrics


def by_ties(ranks: Ranks, k: int) -> dict[str, float]:
    """Means with equal scores in the order that is worst for each user, and in the best one."""
    return _means("ties=worst", ranks.resolved("pessimistic"), k) | _means(
        "ties=best", ranks.resolved("optimistic"), k)


def by_slice(found: FullRanking, seen: ItemLists, learnt: ItemLists, items: int, k: int) -> dict[str, float]:
    """Means over the users of each slice."""
    history = seen.counts[found.users]
    popularity = torch.bincount(learnt.items, minlength=items)[found.items]
    metrics: dict[str, float] = {}
    for name, span in USERS.items():
        metrics |= _means(name, _among(found.ranks, _inside(history, span)[found.ranks.user]), k)
    for name, span in ITEMS.items():
        metrics |= _means(name, _among(found.ranks, _inside(popularity, span)), k)
    return metrics


def _means(name: str, ranks: Ranks, k: int) -> dict[str, float]:
    if not len(ranks.user):
        return {}
    means = {f"{m}@{k}|{name}": float(metric(ranks, k).mean()) for m, metric in METRICS.items()}
    return {**means, f"users|{name}": float(len(ranks.candidates))}


def _inside(values: Tensor, span: tuple[int, int | None]) -> Tensor:
    least, most = span
    return (values >= least) & (values <= (torch.inf if most is None else most))


def _among(ranks: Ranks, kept: Tensor) -> Ranks:
    """The ranks of some of the relevant items, bool [N], and of the users who have one of them.

    Places stay those among all candidates, the other relevant items too.
    """
    users, user = torch.unique_consecutive(ranks.user[kept], return_inverse=True)
    return Ranks(user, ranks.above[kept], ranks.tied[kept], ranks.candidates[users])
