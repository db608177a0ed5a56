"""Models without tables: vectors of items are computed from their columns, those of users from histories."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field
from torch import Tensor

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
    fixed_shapes = False
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


def in_ball(vectors: Tensor) -> Tensor:
    """Vectors [..., d], those longer than 1 cut to it."""
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=1)
