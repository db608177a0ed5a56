"""Two towers on the columns of items, with a corrected softmax over the batch (Yi et al., RecSys 2019)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from ...batch import Pairs
from ...card import Card
from ...config import Flag, Search
from ...losses import ranking
from ...nn.lists import sums_of_lists
from ...nn.mlp import MLP
from ...nn.sparse import HeldLists
from ...registry import register
from ...schema import FIRST, Schema
from ..histories import UsersOfBatch
from ..towers import AT_ONCE, TowerConfig, Towers
from ..vectors import VectorConfig


class TwoTowerConfig(TowerConfig):
    """Settings of the two towers."""

    temperature: Annotated[float, Search(low=0.05, high=0.5, log=True)] = Field(
        0.1, gt=0, description="cosines are divided by it"
    )
    log_q: Flag = Field(
        True, description="take off the logarithm of how often an item stands in a batch"
    )
    user_columns: Flag = Field(False, description="the user's tower reads the columns of users too")


@register
class TwoTower(Towers):
    """s_ui = cos(f(m_u), g(x_i)), f and g perceptrons, m_u the mean of x_j over the history.

    With user_columns, the mean over the values of the user's columns is added to m_u, a learnt vector each;
    their lists are put into `told`.
    """

    card = Card(
        name="Two towers",
        family="retrieval",
        title="Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations",
        authors="Yi, Yang, Hong, Cheng, Heldt, Kumthekar, Zhao, Wei, Chi",
        year=2019,
        url="https://doi.org/10.1145/3298689.3346996",
        equations="s_ui = cos(f(m_u), g(x_i)), m_u = mean of x_j over the history; L = mean of "
        "-log softmax over the batch of s_ui / T - ln q_i, q_i the share of item i among training pairs",
        notes=(
            "The item of a pair is left out of the history. Items that the user has are no negatives, "
            "where the paper leaves them in.",
            "q is counted over all training pairs; the paper estimates it from a stream.",
            "Content is TF-IDF of the item's columns and a truncated SVD of it; the towers have no ids, so "
            "that items without a training row are scored too.",
            "The paper's numbers are of its own data.",
        ),
        faithful="reconstruction",
    )
    Config = TwoTowerConfig
    splits = False
    cosine = True
    negatives = 0

    def __init__(self, cfg: TwoTowerConfig | VectorConfig, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.user_tower = MLP(cfg.content_dim, cfg.hidden, cfg.dim)
        self.item_tower = MLP(cfg.content_dim, cfg.hidden, cfg.dim)
        values = sum(column.vocab_size - FIRST for column in schema.side_values("user"))
        if cfg.user_columns and values:
            self.told = HeldLists(self.num_users)
            self.values = nn.Parameter(torch.randn(values, cfg.content_dim) / cfg.content_dim**0.5 / 10)

    def of_users(self, users: Tensor, means: Tensor) -> Tensor:
        """f of users [B] by the means [B, T] of their histories."""
        if hasattr(self, "told"):
            counts = self.told.counts[users]
            own = sums_of_lists(self.values, self.told.of_users(users)[1], counts)
            means = means + own / counts.clamp(min=1)[:, None]
        return self.user_tower(means)

    def losses(self, pairs: Pairs) -> dict[str, Tensor]:
        """The softmax of each user over the items of the batch that the user has not."""
        batch, content = UsersOfBatch(self.histories, pairs), self.content.vectors
        user = self.compared(self.of_users(pairs.user, batch.means(content, batch.item, pairs.pos)))
        item = self.compared(self.item_tower(content[pairs.pos]))
        scores = batch.masked((user @ item.t()).float(), self.num_items) / self.cfg.temperature
        log_q = self.log_q[pairs.pos] if self.cfg.log_q else None
        return {"in_batch_softmax": ranking.in_batch_softmax(scores, pairs.pos, log_q)}

    def vectors(self) -> tuple[Tensor, Tensor]:
        """Outputs of the towers for all users [U, d] and all items [I, d]."""
        content = self.content.vectors
        numbers = torch.arange(self.num_users, device=content.device)
        users = []
        for part in numbers.split(AT_ONCE):
            counts = self.histories.counts[part]
            own = sums_of_lists(content, self.histories.of_users(part)[1], counts)
            own = own / counts.clamp(min=1)[:, None]
            users.append(self.of_users(part, own))
        return torch.cat(users), self.item_tower(content)
