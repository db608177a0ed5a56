"""NeuMF: a weighted inner product and a perceptron of the two vectors, joined (He et al., WWW 2017)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from ...batch import Pairs
from ...card import Card, Published
from ...config import Search
from ...losses import ranking
from ...nn.embedding import EmbeddingConfig
from ...nn.mlp import MLP, Width, linear
from ...registry import register
from ...schema import Schema
from ..base import ModelConfig
from ..vectors import VectorConfig, VectorModel

_BLOCK = 1 << 22  # numbers of a hidden layer at once in scoring: 16 MiB


class NeuMFConfig(ModelConfig):
    """Settings of NeuMF."""

    embedding: EmbeddingConfig = EmbeddingConfig(dim=32, init_std=0.01)
    negatives: Annotated[int, Search(low=1, high=16, log=True)] = Field(
        4, ge=1, description="negative items a pair"
    )
    hidden: Annotated[
        tuple[Width, ...], Search(choices=([64, 32, 16], [32, 16, 8], [128, 64], [64]))
    ] = Field((64, 32, 16), min_length=1, description="widths of the perceptron's layers")
    dropout: Annotated[float, Search(low=0.0, high=0.5, step=0.1)] = Field(
        0.0, ge=0, lt=1, description="rate of dropout after each hidden ReLU"
    )


@register
class NeuMF(VectorModel):
    """s_ui = h . [p_u * q_i ; MLP(p'_u ; q'_i)], with vectors of their own for the two parts."""

    card = Card(
        name="NeuMF",
        family="retrieval",
        title="Neural Collaborative Filtering",
        authors="He, Liao, Zhang, Nie, Hu, Chua",
        year=2017,
        url="https://arxiv.org/abs/1708.05031",
        equations="s_ui = h . [p_u * q_i ; z], z = MLP(p'_u ; q'_i) with ReLU (eq. 12); "
        "L = mean of -ln sigmoid(s_ui) - sum_j ln(1 - sigmoid(s_uj))",
        notes=(
            "Both parts are trained together from the start; the paper also starts from trained parts.",
            "embedding.dim is the width of each part; a row of a table holds both.",
            "Scoring runs the perceptron for every user with every item, some at a time.",
        ),
        published=(
            Published(
                board="gowalla_m1",
                metrics={"recall@20": 0.1399, "ndcg@20": 0.1212},
                source="BARS-Match, NeuMF",
            ),
            Published(
                board="yelp18_m1",
                metrics={"recall@20": 0.0451, "ndcg@20": 0.0363},
                source="BARS-Match, NeuMF",
            ),
        ),
    )
    Config = NeuMFConfig
    placed: ClassVar[None] = None  # no pair of vectors ranks by itself

    def __init__(self, cfg: NeuMFConfig | VectorConfig, schema: Schema) -> None:
        super().__init__(cfg, schema)
        dim = cfg.embedding.dim
        self.of_user = linear(dim, cfg.hidden[0])
        self.of_item = linear(dim, cfg.hidden[0], bias=False)
        self.rest = MLP(cfg.hidden[0], cfg.hidden[1:], 0, dropout=cfg.dropout)
        self.dropout = torch.nn.Dropout(cfg.dropout)
        self.head = linear(dim + cfg.hidden[-1], 1)

    def tables_of(self, cfg: NeuMFConfig | VectorConfig) -> EmbeddingConfig:
        return cfg.embedding.model_copy(update={"dim": 2 * cfg.embedding.dim})

    def _parts(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        return rows.split(self.cfg.embedding.dim, dim=-1)

    def _scores(self, product: Tensor, first: Tensor) -> Tensor:
        """Of products p_u * q_i [..., D] and what enters the first ReLU [..., H]."""
        first = self.dropout(first.relu())
        deep = self.rest(first.flatten(0, -2)).view(*first.shape[:-1], -1)
        return self.head(torch.cat([product, deep], -1)).squeeze(-1)

    def losses(self, pairs: Pairs) -> dict[str, Tensor]:
        """Cross-entropy of the positive pair and its negatives."""
        items = torch.cat([pairs.pos[:, None], pairs.neg], 1)
        p, deep_p = self._parts(self.user_rows(pairs.user)[:, None])
        q, deep_q = self._parts(self.item_rows(items))
        scores = self._scores(p * q, self.of_user(deep_p) + self.of_item(deep_q))
        return {"cross_entropy": ranking.cross_entropy_with_negatives(scores[:, 0], scores[:, 1:])}

    @torch.no_grad()
    def scoring(self) -> Callable[[Tensor], Tensor]:
        """users [B] -> scores [B, I]; the perceptron holds 16 MiB of a layer at a time."""
        users, items = self.vectors()
        (p, deep_p), (q, deep_q) = self._parts(users), self._parts(items)
        first_p, first_q = self.of_user(deep_p), self.of_item(deep_q)
        count = max(1, _BLOCK // max(self.cfg.embedding.dim, *self.cfg.hidden))

        def score(index: Tensor) -> Tensor:
            found = p.new_empty(len(index), len(q))
            for row, user in enumerate(index):
                for part in range(0, len(q), count):
                    few = slice(part, part + count)
                    found[row, few] = self._scores(p[user] * q[few], first_p[user] + first_q[few])
            return found

        return torch.no_grad()(score)
