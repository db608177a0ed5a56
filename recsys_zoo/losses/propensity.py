"""Losses of clicks that were seen with a chance, the propensity: unbiased for relevance (Saito et al., 2020).

A click is Y = O R, exposure times relevance, with P(O) = theta and P(R) = gamma. The loss of a pair,
gamma d1 + (1 - gamma) d0, is the mean of (Y / theta) d1 + (1 - Y / theta) d0.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError

Error = Literal["squared", "log"]


def popularity_propensities(counts: Tensor, power: float = 0.5) -> Tensor:
    """(n_i / max n)^power of items with counts n [I], in (0, 1]; an item without a click counts one.

    power 0: all 1. Float64.
    """
    clicks = counts.double().clamp(min=1)
    return (clicks / clicks.max()) ** power


def check_propensities(theta: Tensor) -> None:
    """InputError unless all are in (0, 1]."""
    if not bool(((theta > 0) & (theta <= 1)).all()):
        raise InputError(f"propensities from {float(theta.min()):g} to {float(theta.max()):g}: they are "
                         "chances of exposure, above 0 and at most 1")


def errors(score: Tensor, error: Error) -> tuple[Tensor, Tensor]:
    """d1 and d0 of scores: (1 - p)^2 and p^2 of p = sigmoid(score), or -log p and -log(1 - p)."""
    if error == "log":
        return F.softplus(-score), F.softplus(score)
    p = torch.sigmoid(score)
    return (1 - p).square(), p.square()


def inverse_propensity_loss(
    score: Tensor,
    label: Tensor,
    theta: Tensor,
    clip: float = 0.0,
    unlabelled_weight: float = 1.0,
    error: Error = "squared",
    non_negative: bool = False,
) -> Tensor:
    """Of each pair: (Y / theta) d1 + w (1 - Y / theta) d0, with theta not below `clip`.

    clip 0: unbiased, with a large variance; 1: clicks as labels. Of a click with theta < 1 the second term is
    negative, and the loss has no lower bound; non_negative: it is cut at 0 (not unbiased, not of the paper).
    All tensors of one shape, labels 0 or 1.
    """
    seen = label / theta.clamp(min=clip, max=1.0)
    unseen = 1 - seen
    if non_negative:
        unseen = unseen.clamp(min=0)
    one, zero = errors(score, error)
    return seen * one + unlabelled_weight * unseen * zero
