"""Popularity: the same list for everybody, items by how many users have them."""

from __future__ import annotations

import torch
from torch import Tensor

from ...card import Card
from ...config import Frozen
from ...itemlists import ItemLists
from ...registry import register
from ...schema import Schema
from ..base import Scorer


@register
class Popularity(Scorer):
    """s_ui = |R_i|, the users of item i; a model that ranks no better has learnt nothing about users.

    Memory: 4 bytes an item.
    """

    card = Card(
        name="Popularity",
        family="retrieval",
        title="Performance of Recommender Algorithms on Top-N Recommendation Tasks",
        authors="Cremonesi, Koren, Turrin",
        year=2010,
        url="https://doi.org/10.1145/1864708.1864721",
        equations="s_ui = sum_v R_vi",
        notes=("The paper takes it as its TopPop baseline; it prints no number on a board of this zoo.",),
    )

    folds = True

    def __init__(self, cfg: Frozen, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.register_buffer("counts", torch.zeros(self.num_items))

    def _fit(self, train: ItemLists) -> None:
        self.counts = torch.bincount(train.items, minlength=self.num_items).float()

    def _score(self, users: Tensor) -> Tensor:
        return self.counts.repeat(len(users), 1)

    def _score_lists(self, lists: ItemLists) -> Tensor:
        return self.counts.repeat(len(lists), 1)
