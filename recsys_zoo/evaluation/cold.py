"""Rankings of new items: of a split whose items are in no split before it, among these items alone.

For a user, the new items are ranked (`cold_ranking`); for an item, the users are (`audience`), which is the
question before a release. Scores of one user or item are compared there; `pair_metrics` compares all pairs,
and what it says of a scorer that knows only how much each user takes stands beside it, as a control.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..data.store import Prepared
from ..errors import InputError
from ..itemlists import ItemLists
from ..metrics.binary import auc, calibration_error, logloss
from ..metrics.ranking import Ranks, recall
from .full_rank import BLOCK_MIB, FullRanking, Scorer, full_ranking
from .heldout import holds_out

TIERS = ("light", "middle", "heavy")  # users by the number of their items before, in three equal parts
_PAIRS = 1 << 17
_BLOCK = BLOCK_MIB << 20
SHARES = (1, 5)  # percent of the users, of the audience of an item


def new_items(relevant: ItemLists, before: ItemLists) -> Tensor | None:
    """The items of a split [C], ascending, where none is in the lists before it; else None."""
    found = torch.unique(relevant.items)
    return None if not len(found) or bool(torch.isin(found, before.items).any()) else found


def is_cold(data: Prepared, split: str = "test") -> bool:
    """Whether no item of the split is in one before it, for users of training."""
    if split not in data.names or holds_out(data):
        return False
    return new_items(data.lists(split), _before(data, split)) is not None


def check(data: Prepared, published: bool) -> None:
    """InputError where new items would pick the epoch of their own test, and where valid asks about new items
    and test does not, or the other way round."""
    test = is_cold(data)
    if published and test:
        raise InputError(f"{data.schema.dataset}: a test of new items never picks the epoch; set "
                         "protocol=honest")
    if not published and "valid" in data.names and test != is_cold(data, "valid"):
        new, old = ("test", "valid") if test else ("valid", "test")
        raise InputError(f"{data.schema.dataset}: {new} asks about items that are in no training row, {old} "
                         "about those of training too, and what is chosen on the one is no choice for the "
                         "other; prepare again with a rule that gives both: for new items method = \"hash\" "
                         "or \"release\", by their column")


def _before(data: Prepared, split: str) -> ItemLists:
    """What models know that are asked about a split."""
    names = ("train", "valid") if split == "test" else ("train",)
    return data.lists(*(name for name in names if name in data.names))


def cold_ranking(score: Scorer, relevant: ItemLists, new: Tensor, items: int) -> FullRanking:
    """Rank the items `new` [C] for every user who has one of them; `score` as in `full_ranking`."""
    among = _among(relevant, new, items)
    found = full_ranking(lambda users: score(users)[:, new.to(users.device)], among, among.first(0), len(new),
                         made=items)
    return FullRanking(found.users, found.ranks, new.cpu()[found.items])


def auc_of(ranks: Ranks) -> Tensor:
    """Chance that a relevant candidate stands before another one, ties half, per user: float64 [U]; NaN for
    users without other candidates."""
    size = ranks.relevant.double()
    before = torch.zeros(len(ranks.candidates), dtype=torch.float64, device=size.device)
    before.index_add_(0, ranks.user, ranks.mean_rank() - 1)
    # every two relevant ones stand before each other once, or half each
    wrong, pairs = before - size * (size - 1) / 2, size * (ranks.candidates - size)
    return torch.where(pairs > 0, 1 - wrong / pairs, math.nan)


def audience(scores: Tensor, relevant: ItemLists) -> Ranks:
    """Places of the users of every new item among all users: scores [U, C], relevant [U] lists of 0..C-1."""
    user, item = relevant.pairs()
    users, count = scores.shape
    by_item = ItemLists.of(item, user, count, users)
    score = lambda block: scores[:, block].t().contiguous()  # noqa: E731
    return full_ranking(score, by_item, by_item.first(0), users).ranks


def pair_metrics(score: Scorer, relevant: ItemLists, before: ItemLists, new: Tensor, items: int,
                 probabilities: bool = False) -> dict[str, float]:
    """Metrics over the pairs of all users with the items `new` [C], relevant or not.

    Held are at most 8 bytes a pair, with probabilities 10, beside blocks of BLOCK_MIB MiB of scores.

    score: users [B] -> [B, items]; with probabilities, logits of these.
    auc: over all pairs. user_auc, item_auc: means over users and items that have one. item_recall@1%: mean
    over items of the share of its users among the best 1 % of all. frequency_auc, frequency_item_auc: of a
    scorer that gives a user's number of items before for every item. Of probabilities also logloss,
    calibration_error, and base_logloss: that of the share of pairs before, for every pair. What is not
    defined is left out: the AUC of users who have all of the items.
    """
    among = _among(relevant, new, items)
    numbers = torch.arange(len(relevant), device=new.device)
    size = max(1, _BLOCK // (4 * items))
    scores = torch.empty(len(relevant), len(new))
    for block in numbers.split(size):
        scores[block.cpu()] = score(block)[:, new].float().cpu()
    among, counts = among.to("cpu"), before.counts.cpu().float()
    user, item = among.pairs()
    by_user = full_ranking(lambda users: scores[users], among, among.first(0), len(new)).ranks
    by_item = audience(scores, among)
    found = {"auc": pairs_auc(scores, user, item), "user_auc": _mean(auc_of(by_user)),
             "item_auc": _mean(auc_of(by_item))}
    for share in SHARES:
        found[f"item_recall@{share}%"] = _mean(recall(by_item, math.ceil(share / 100 * len(scores))))
    own = among.counts.double()
    both = torch.cat([counts, counts])
    found["frequency_auc"] = auc(both, torch.arange(2).repeat_interleave(len(counts)),
                                 weight=torch.cat([len(new) - own, own]))
    found["frequency_item_auc"] = _mean(_auc_of_counts(counts, user, item))
    if probabilities:
        p = scores.sigmoid_().flatten()
        labels = torch.zeros(scores.shape, dtype=torch.uint8)
        labels[user, item] = 1
        parts = zip(p.split(_PAIRS), labels.flatten().split(_PAIRS), strict=True)  # small enough for caches
        found["logloss"] = sum(logloss(*part) * len(part[0]) for part in parts) / len(p)
        found["calibration_error"] = calibration_error(p, labels.flatten())
        base = len(before.items) / (len(before) * max(1, len(torch.unique(before.items))))
        mass = torch.tensor([len(p) - len(user), len(user)], dtype=torch.float64)
        found["base_logloss"] = logloss(torch.full((2,), base), torch.arange(2), mass)
    return {name: value for name, value in found.items() if not math.isnan(value)}


def _auc_of_counts(counts: Tensor, user: Tensor, item: Tensor) -> Tensor:
    """AUC of every item that has a user, where users [U] are ranked by one number for all items."""
    ordered = counts.sort().values
    below = torch.searchsorted(ordered, counts) + torch.searchsorted(ordered, counts, right=True)
    size = torch.bincount(item).double()
    wins = torch.bincount(item, below[user].double()) / 2 - size * size / 2  # less those among its users
    pairs = size * (len(counts) - size)
    return (wins / pairs)[size > 0]


def pairs_auc(scores: Tensor, user: Tensor, item: Tensor) -> float:
    """Chance that a pair (user [n], item [n]) has a larger score than one that is not listed, ties half.

    scores [U, C]; the pairs are different ones. NaN without others.
    """
    everything = torch.from_numpy(np.sort(scores.numpy(), axis=None))  # faster than torch's sort
    good = scores[user, item]
    below = torch.searchsorted(everything, good), torch.searchsorted(everything, good, right=True)
    count = len(good)
    # twice the pairs in order, ties once; the n^2 among the listed ones themselves are no such pairs
    doubled = int(below[0].sum()) + int(below[1].sum()) - count * count
    pairs = count * (len(everything) - count)
    return doubled / (2 * pairs) if pairs else math.nan


def by_tier(found: FullRanking, values: dict[str, Tensor], before: ItemLists) -> dict[str, float]:
    """Means of metrics [U] over thirds of the ranked users, by how many items they had before; users of one
    number stay together. Only tiers with a user who has the metric (a NaN is none); none at all where every
    user had as many."""
    counts = before.counts.cpu()[found.users]
    order = counts.sort().values
    if order[0] == order[-1]:
        return {}
    cuts = order[[len(order) // 3, 2 * len(order) // 3]]
    tier = torch.bucketize(counts, cuts, right=True)
    return {f"{name}_{metric}": _mean(value[own])
            for place, name in enumerate(TIERS)
            for metric, value in values.items() if bool((own := (tier == place) & ~value.isnan()).any())}


def _among(relevant: ItemLists, new: Tensor, items: int) -> ItemLists:
    """Lists of places in `new` in place of item numbers."""
    place = torch.full((items,), -1, device=new.device)
    place[new] = torch.arange(len(new), device=new.device)
    user, item = relevant.pairs()
    return ItemLists.of(user, place.to(item.device)[item], len(relevant), len(new))


def _mean(values: Tensor) -> float:
    """Over those that are a number; NaN where none is."""
    return float(values[~values.isnan()].mean())
