"""What lists hold beside hits: how much of the catalogue, how well known it is, how unevenly it is shown.

lists [U, K]: items 0..I-1 that users are shown, best first, -1 where a list is shorter. counts [I]: the users
of each item in training. Of equal scores the smaller item number stands in a list (`top_items`): unlike the
metrics of ranking.py these depend on a rule, since a list of expected values is no list.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

POPULAR = 0.1  # share of the catalogue that counts as popular


def coverage(lists: Tensor, counts: Tensor, users: int) -> float:
    """Share of the catalogue that is in any list."""
    return float((_shown(lists, counts) > 0).double().mean())


def novelty(lists: Tensor, counts: Tensor, users: int) -> float:
    """Mean over all places of -log2 p, in bits; p = share of the `users` of training who have the item.

    Self-information, as Zhou et al. (PNAS 2010) measure it. An item that nobody has counts as of one user.
    """
    bits = -(counts.double().clamp(min=1) / max(users, 1)).log2()
    shown = _shown(lists, counts)
    return float((bits * shown).sum() / shown.sum())


def popular_share(lists: Tensor, counts: Tensor, users: int) -> float:
    """Share of the places that hold one of the `POPULAR` most popular items of the catalogue.

    These are ceil(POPULAR I) items; items of equal counts at the end of them count in part, as if drawn.
    """
    number = -int(-POPULAR * len(counts) // 1)
    last = counts.sort(descending=True).values[number - 1]
    above, equal = counts > last, counts == last
    weight = above.double() + equal.double() * (number - above.sum()) / equal.sum()
    shown = _shown(lists, counts)
    return float((weight * shown).sum() / shown.sum())


def gini(lists: Tensor, counts: Tensor, users: int) -> float:
    """Gini index of how often each item of the catalogue is shown: 0 all alike, 1 - 1/I one item alone."""
    return inequality(_shown(lists, counts))


def inequality(values: Tensor) -> float:
    """Gini index of values [n] >= 0, of which one is not 0: mean |x_i - x_j| / (2 mean x), over all pairs."""
    ordered = values.double().sort().values
    place = torch.arange(1, len(ordered) + 1, dtype=torch.float64, device=values.device)
    return float(((2 * place - len(ordered) - 1) * ordered).sum() / (len(ordered) * ordered.sum()))


METRICS: dict[str, Callable[[Tensor, Tensor, int], float]] = {
    "coverage": coverage,
    "novelty": novelty,
    "popular_share": popular_share,
    "gini": gini,
}


def evaluate_lists(lists: Tensor, counts: Tensor, users: int, ks: tuple[int, ...]) -> dict[str, float]:
    """All of these at all k: {"coverage@20": ...}; of lists that are shorter than k, what there is.

    users: how many of them training has. Empty where no list holds an item.
    """
    if not bool((lists >= 0).any()):
        return {}
    return {f"{name}@{k}": metric(lists[:, :k], counts, users)
            for k in ks for name, metric in METRICS.items()}


def _shown(lists: Tensor, counts: Tensor) -> Tensor:
    """How many lists hold each item: [I]."""
    return torch.bincount(lists[lists >= 0], minlength=len(counts))
