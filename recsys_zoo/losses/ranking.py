"""Losses of rankings: scores of positive items against those of negative ones, larger is better.

pos [B] and neg [B, N] are scores of one user a row. All but those of WARP are means over the rows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def bpr(pos: Tensor, neg: Tensor) -> Tensor:
    """Mean over all pairs of -log sigmoid(pos - neg) (Rendle et al., UAI 2009); ln 2 for equal scores."""
    return F.softplus(neg - pos[:, None]).mean()


def cross_entropy_with_negatives(pos: Tensor, neg: Tensor) -> Tensor:
    """Mean over rows of -log sigmoid(pos) - sum over negatives of log sigmoid(-neg) (He et al., WWW 2017)."""
    return (F.softplus(-pos) + F.softplus(neg).sum(1)).mean()


def cosine_contrastive(pos: Tensor, neg: Tensor, margin: float, negative_weight: float) -> Tensor:
    """Mean of 1 - pos + (w / N) sum max(0, neg - margin), of cosines (Mao et al., CIKM 2021, eq. 1).

    max(0, 1 - pos), as in the authors' code: with dropout of a vector of length 1 pos may be above 1.
    """
    return ((1 - pos).clamp(min=0) + negative_weight * (neg - margin).clamp(min=0).mean(1)).mean()


def warp(pos: Tensor, neg: Tensor, margin: float, items: int | None) -> Tensor:
    """Sum of w max(0, margin + pos - min neg), of squared distances (Hsieh et al., WWW 2017, eq. 1-3).

    items=None: w = 1. Else w = ln(1 + items M / N), M the negatives nearer than pos + margin: how many of all
    items stand before the positive one, by their share among the N; no gradient goes through it.
    """
    return (_rank_weight(pos, neg, margin, items) * (margin + pos - neg.amin(1)).clamp(min=0)).sum()


def warp_of_all(pos: Tensor, neg: Tensor, margin: float, items: int | None) -> Tensor:
    """`warp` with the sum over all negatives in place of the nearest one."""
    return (_rank_weight(pos, neg, margin, items) * (margin + pos[:, None] - neg).clamp(min=0).sum(1)).sum()


@torch.no_grad()
def _rank_weight(pos: Tensor, neg: Tensor, margin: float, items: int | None) -> Tensor:
    if items is None:
        return torch.ones_like(pos)
    impostors = (margin + pos[:, None] - neg > 0).sum(1)
    return torch.log1p(items * impostors.to(pos.dtype) / neg.shape[1])


def sampled_softmax(
    pos: Tensor, neg: Tensor, pos_log_q: Tensor | None = None, neg_log_q: Tensor | None = None
) -> Tensor:
    """Mean of -log (e^pos / (e^pos + sum e^neg)).

    log_q: logarithms of the rates at which the items are drawn, taken off their scores, so that the sum
    stands for that over all items (Bengio & Senecal, 2003); [B] and [B, N]. No effect when all are equal.
    """
    if pos_log_q is not None:
        pos = pos - pos_log_q
    if neg_log_q is not None:
        neg = neg - neg_log_q
    return (torch.cat([pos[:, None], neg], 1).logsumexp(1) - pos).mean()


def in_batch_softmax(scores: Tensor, items: Tensor, log_q: Tensor | None = None) -> Tensor:
    """Softmax of each user over the positive items of the batch: scores [B, B], items [B], log_q [B].

    Where another row has the same item, that is no negative. log_q as in `sampled_softmax` (Yi et al., RecSys
    2019): items stand in a batch as often as they are popular, and would be scored too low for it.
    """
    if log_q is not None:
        scores = scores - log_q
    same = (items[:, None] == items).fill_diagonal_(False)
    scores = scores.masked_fill(same, -torch.inf)
    return F.cross_entropy(scores, torch.arange(len(items), device=items.device))


def alignment(x: Tensor, y: Tensor) -> Tensor:
    """Mean of ||x - y||^2 over rows of unit length, [B, D] each (Wang & Isola, ICML 2020)."""
    return (x - y).square().sum(1).mean()


def uniformity(x: Tensor) -> Tensor:
    """log of the mean of e^(-2 ||x_i - x_j||^2) over pairs of rows of unit length, [B, D]; 0 for one row."""
    rows = len(x)
    if rows < 2:
        return x.new_zeros(())
    likeness = (4 * (x @ x.t()) - 4).exp()  # of rows of unit length; by one product, not pair by pair
    return ((likeness.sum() - likeness.diagonal().sum()) / (rows * (rows - 1))).log()


def info_nce(x: Tensor, y: Tensor, temperature: float) -> Tensor:
    """Mean over rows of -log softmax of cos(x_i, y_j) / temperature at j = i, [B, D] each: two views of equal
    things, told apart from the others (van den Oord et al., 2018)."""
    scores = F.normalize(x, dim=1) @ F.normalize(y, dim=1).t() / temperature
    return F.cross_entropy(scores, torch.arange(len(x), device=x.device))
