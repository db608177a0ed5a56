"""Content-KNN: an item is scored by how like it is to what the user has, by their columns alone."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ...card import Card
from ...config import Search
from ...itemlists import ItemLists
from ...nn.content import ContentConfig, ItemContent
from ...nn.sparse import HeldLists
from ...registry import register
from ...schema import Schema
from ..base import Scorer


class ContentKNNConfig(ContentConfig):
    """Settings of content-KNN."""

    content_dim: Annotated[int, Search(choices=(0, 64, 128, 256, 512))] = Field(
        0, ge=0, description="directions of a truncated SVD of the TF-IDF; 0: the TF-IDF itself"
    )


@register
class ContentKNN(Scorer):
    """s_ui = cos(mean of x_j over the history, x_i), 0 for a user without history.

    Memory: 4 T bytes an item, or 12 bytes a token of it; scoring adds 4 T (or 4 V, V tokens) bytes a user.
    """

    card = Card(
        name="Content-KNN",
        family="retrieval",
        title="Content-Based Recommendation Systems",
        authors="Pazzani, Billsus",
        year=2007,
        url="https://doi.org/10.1007/978-3-540-72079-9_10",
        equations="x_i = TF-IDF of the values of the item's columns, of length 1; "
        "s_ui = <m_u, x_i> / |m_u|, m_u = mean of x_j over the items of u",
        notes=(
            "The chapter surveys such systems and prints no number on a board of this zoo; this is their "
            "plainest form, without anything learnt from other users.",
            "content = random: vectors that say nothing about items, the control of a test of new items.",
        ),
    )
    Config = ContentKNNConfig
    folds = True

    def __init__(self, cfg: ContentKNNConfig, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.seeded = cfg.content == "random"
        self.content = ItemContent(cfg.content, cfg.content_dim, self.num_items)
        self.histories = HeldLists(self.num_users)

    def _fit(self, train: ItemLists) -> None:
        self.content.fit(train)
        self.histories.hold(train)

    def _score(self, users: Tensor) -> Tensor:
        return self._score_lists(ItemLists(self.histories.offsets, self.histories.items).rows(users))

    def _score_lists(self, lists: ItemLists) -> Tensor:
        if self.cfg.content_dim:
            vectors = self.content.vectors
            mean = F.embedding_bag(lists.items, vectors, lists.offsets[:-1], mode="sum")
            return F.normalize(mean, dim=1) @ vectors.t()
        rows = self.content.rows
        rows.columns = 1 + int(rows.col.max()) if len(rows.col) else 1  # of a loaded state too
        weight = torch.ones(len(lists.items), device=lists.items.device)
        mean = rows.weighted_rows(*lists.pairs(), weight, len(lists))
        return (rows.tensor() @ F.normalize(mean, dim=1).t()).t().contiguous()
