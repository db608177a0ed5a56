"""Losses of one example at a time."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def binary_cross_entropy(logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean of -y log p - (1-y) log(1-p) with p = sigmoid(logit), computed from logits (no overflow).

    logits, labels, weight [B] -> scalar: sum(w * loss) / sum(w); 0 when all weights are 0. Weights of 1 give
    the plain mean.
    """
    losses = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")  # [B]
    return (losses * weight).sum() / weight.sum().clamp_min(1e-12)
