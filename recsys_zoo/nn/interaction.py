"""Feature interactions without parameters of their own."""

from __future__ import annotations

import torch
from torch import Tensor


def pair_sum(e: Tensor) -> Tensor:
    """Sum over all pairs i < j of <e_i, e_j>, in O(F D) by half of (sum e)^2 - sum e^2 (Rendle, ICDM 2010).

    e [B, F, D] -> [B].

    >>> pair_sum(torch.tensor([[[1., 2.], [3., -1.], [0., 1.]]]))
    tensor([2.])
    """
    return 0.5 * (e.sum(1).square() - e.square().sum(1)).sum(1)


def pair_places(fields: int) -> Tensor:
    """Places i * fields + j of the pairs i < j in a flattened [fields, fields], row by row: int64 [P]."""
    i, j = torch.triu_indices(fields, fields, 1)
    return i * fields + j


def pair_products(e: Tensor, places: Tensor) -> Tensor:
    """<e_i, e_j> of the pairs i < j at `pair_places(F)`; e [B, F, D] -> [B, F (F - 1) / 2].

    >>> pair_products(torch.tensor([[[1., 2.], [3., -1.], [0., 1.]]]), pair_places(3))
    tensor([[ 1.,  2., -1.]])
    """
    return torch.bmm(e, e.transpose(1, 2)).flatten(1).index_select(1, places)
