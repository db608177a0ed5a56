"""Models without tables: vectors of items are computed from their columns, those of users from histories."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ..batch import Pairs
from ..config import Search
from ..itemlists import ItemLists
from ..nn.content import ContentConfig, ItemContent
from ..nn.mlp import Width
from ..nn.sparse import HeldLists
from ..schema import Schema
from .vectors import VectorConfig, VectorModel

AT_ONCE = 4096  # users whose histories are gathered together


class TowerConfig(ContentConfig):
    """Settings of both towers."""

    dim: Annotated[int, Search(choices=(32, 64, 128))] = Field(64, ge=1, description="width d of the vectors")
    hidden: Annotated[tuple[Width, ...], Search(choices=([], [64], [128], [256]))] = Field(
        (256,), description="widths of the hidden layers, with ReLU; none: a linear map"
    )


class Towers(VectorModel):
    """What such models share: the content of items, and histories with the item of the pair left out."""

    Config = TowerConfig
    train_defaults: ClassVar[dict[str, Any]] = {**VectorModel.train_defaults, "batch_size": 4096}

    def __init__(self, cfg: TowerConfig | VectorConfig, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.content = ItemContent(cfg.content, cfg.content_dim, self.num_items)
        self.histories = HeldLists(self.num_users)

    def make_tables(self, cfg: TowerConfig | VectorConfig) -> None:
        """There are none: an item that nobody has must have a vector too."""

    def prepare(self, train: ItemLists) -> None:
        """The content, fitted on the items of training, and the histories."""
        super().prepare(train)
        self.content.fit(train)
        self.histories.hold(train)


class UsersOfBatch:
    """The users of a batch of training pairs, each once, with the sums over their histories.

    place [B]: which of the users each pair has; counts [B]: items of its history without that of the pair.
    """

    def __init__(self, histories: HeldLists, pairs: Pairs) -> None:
        self.pairs = pairs
        self.users, self.place = torch.unique(pairs.user, return_inverse=True)
        self.row, self.item = histories.of_users(self.users)
        self.sizes = torch.bincount(self.row, minlength=len(self.users))
        self.counts = self.sizes[self.place] - 1

    def means(self, vectors: Tensor, item: Tensor, pos: Tensor) -> Tensor:
        """Mean vector [B, D] of the history without the pair's item, 0 where nothing is left.

        vectors [n, D] of the items of the histories (which of them: `item`, in their order) and of the pairs
        (which of them: pos [B]).
        """
        sums = sums_of(vectors, item, self.sizes)[self.place] - vectors[pos]
        return torch.where(self.counts[:, None] > 0, sums / self.counts.clamp(min=1)[:, None], 0)

    def owned(self, items: int) -> Tensor:
        """Whether the user of a pair has the item of another, or of the pair itself: bool [B, B]."""
        found, place = torch.unique(self.pairs.pos, return_inverse=True)
        slot = torch.full((items,), -1, device=found.device)
        slot[found] = torch.arange(len(found), device=found.device)
        own = torch.zeros(len(self.users), len(found), dtype=torch.bool, device=found.device)
        kept = slot[self.item] >= 0
        own[self.row[kept], slot[self.item[kept]]] = True
        return own[self.place][:, place]


def sums_of(vectors: Tensor, item: Tensor, sizes: Tensor) -> Tensor:
    """Sums [U, D] of rows of vectors [n, D]: `item` lists them user after user, sizes [U] of them each."""
    return F.embedding_bag(item, vectors.float(), sizes.cumsum(0) - sizes, mode="sum")


def in_ball(vectors: Tensor) -> Tensor:
    """Vectors [..., d], those longer than 1 cut to it."""
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=1)
