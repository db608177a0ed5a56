"""EASE: the item-to-item weights of a ridge regression without diagonal, in closed form (Steck, WWW 2019)."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ...card import Card, Published
from ...config import Frozen, Search
from ...errors import InputError
from ...itemlists import ItemLists
from ...machine import memory_bytes
from ...nn.inverse import negative_inverse_
from ...nn.sparse import SparseMatrix, scipy_csr
from ...registry import register
from ...schema import Schema
from ..base import Scorer

_ROWS = 1024  # handled at once where the whole matrix would need a copy


class EASEConfig(Frozen):
    """Settings of EASE."""

    l2: Annotated[float, Search(low=1, high=2000, log=True)] = Field(
        500.0, gt=0, description="lambda; paper: 500 on MovieLens-20M; board: 80 to 300"
    )


@register
class EASE(Scorer):
    """s_u = R_u B with B = argmin |R - R B|^2 + l2 |B|^2, diag B = 0.

    Memory: 4 I^2 bytes for B, in whose place the Gram matrix is inverted, and 12 KiB an item; 7.2 GB
    for 40,981 items. Time grows with I^3.
    """

    card = Card(
        name="EASE",
        family="retrieval",
        title="Embarrassingly Shallow Autoencoders for Sparse Data",
        authors="Steck",
        year=2019,
        url="https://arxiv.org/abs/1905.03375",
        equations="P = (R^T R + lambda I)^-1; B_ij = -P_ij / P_jj, B_ii = 0; s_u = R_u B",
        notes=("The Gram matrix is inverted in single precision; its counts are exact up to 2^24 users.",),
        published=(
            Published(
                board="gowalla_m1",
                metrics={"recall@20": 0.1765, "ndcg@20": 0.1467},
                source="reczoo/BARS@5b5e61f docs/Matching/leaderboard/gowalla_m1.csv (l2 = 80)",
            ),
            Published(
                board="yelp18_m1",
                metrics={"recall@20": 0.0657, "ndcg@20": 0.0552},
                source="reczoo/BARS@5b5e61f docs/Matching/leaderboard/yelp18_m1.csv (l2 = 300)",
            ),
            Published(
                board="amazonbooks_m1",
                metrics={"recall@20": 0.0710, "ndcg@20": 0.0567},
                source="reczoo/BARS@5b5e61f docs/Matching/leaderboard/amazonbooks_m1.csv (l2 = 50)",
            ),
        ),
    )
    Config = EASEConfig
    folds = True

    def __init__(self, cfg: EASEConfig, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.history = SparseMatrix(self.num_items)  # R [U, I]
        self.register_buffer("weight", torch.zeros(0, self.num_items))  # B [I, I]

    def _fit(self, train: ItemLists) -> None:
        items = self.num_items
        self._check_memory(items)
        history = scipy_csr(train, items)
        by_item, matrix = history.T.tocsr(), torch.empty(items, items)
        for start in range(0, items, _ROWS):
            rows = slice(start, start + _ROWS)
            (by_item[rows] @ history).toarray(out=matrix[rows].numpy())
        matrix.diagonal().add_(self.cfg.l2)
        if not negative_inverse_(matrix):  # its sign does not matter: it is divided by its own diagonal
            raise InputError(f"ease: l2 = {self.cfg.l2} is too small to invert these items; raise it")
        matrix.mul_(-1 / matrix.diagonal()).fill_diagonal_(0)
        self.history.assign(history)
        self.weight = matrix.to(train.items.device)

    def _score(self, users: Tensor) -> Tensor:
        return self._score_lists(self.history.lists(users))

    def _score_lists(self, lists: ItemLists) -> Tensor:
        return F.embedding_bag(lists.items, self.weight, lists.offsets[:-1], mode="sum")

    def _check_memory(self, items: int) -> None:
        needed, there = 4 * items**2 + 12 * _ROWS * items, memory_bytes()
        if needed > there:
            raise InputError(
                f"ease: {items} items need {needed / 1e9:.1f} GB, and this machine has {there / 1e9:.1f} GB; "
                "keep fewer items, or take slim or gfcf"
            )
