"""Feature interactions without parameters of their own."""

from __future__ import annotations

from torch import Tensor


def pair_sum(e: Tensor) -> Tensor:
    """Sum over all pairs i < j of <e_i, e_j>, in O(F D) by half of (sum e)^2 - sum e^2 (Rendle, ICDM 2010).

    e [B, F, D] -> [B].

    >>> import torch
    >>> pair_sum(torch.tensor([[[1., 2.], [3., -1.], [0., 1.]]]))
    tensor([2.])
    """
    return 0.5 * (e.sum(1).square() - e.square().sum(1)).sum(1)
