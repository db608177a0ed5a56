"""AFM: attention chooses among the pairwise products of a factorisation machine (Xiao et al., IJCAI 2017)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from ...batch import Inputs
from ...card import Card, Published
from ...config import Search
from ...nn.embedding import Embedding, FirstOrder
from ...nn.mlp import Rate, linear
from ...registry import register
from ...schema import Schema
from ..base import CTRModel, ModelConfig


@register
class AFM(CTRModel):
    """logit = b + sum_i w_{x_i} + q^T sum_{i<j} a_ij (e_i * e_j); needs columns of equal width."""

    card = Card(
        name="AFM",
        family="ctr",
        title="Attentional Factorization Machines: Learning the Weight of Feature Interactions via "
        "Attention Networks",
        authors="Xiao, Ye, He, Zhang, Wu, Chua",
        year=2017,
        url="https://arxiv.org/abs/1708.04617",
        equations="p_ij = e_i * e_j; a_ij = softmax_{ij} h^T ReLU(W p_ij + c) over all pairs i < j; "
        "logit = b + sum_i w_{x_i} + q^T sum_{i<j} a_ij p_ij",
        notes=(
            "Dropout on the attention weights and on the pooled vector, as in FuxiCTR.",
            "The weights a_ij sum to 1, so with F fields the pairs count 2 / (F (F - 1)) of what they do in "
            "FM.",
            "The products take B x F (F - 1) / 2 x d numbers: 194 MB in fp32 for 4096 rows, 39 fields, d = "
            "16.",
        ),
        published=(
            Published(
                board="frappe_x1",
                metrics={"auc": 0.9697, "logloss": 0.2264},
                source="BARS docs/CTR/leaderboard/frappe_x1.csv",
            ),
            Published(
                board="criteo_x1",
                metrics={"auc": 0.8044, "logloss": 0.4470},
                source="BARS docs/CTR/leaderboard/criteo_x1.csv",
            ),
        ),
    )

    class Config(ModelConfig):
        """Settings of AFM."""

        attention_dim: Annotated[int, Search(choices=(4, 8, 10, 16, 32))] = Field(
            10, ge=1, description="width of the attention layer; FuxiCTR: 10"
        )
        attention_dropout: Rate = Field(0.0, description="rate of dropout on the weights a_ij")
        dropout: Rate = Field(0.0, description="rate of dropout on the pooled vector")

    def __init__(self, cfg: Config, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.linear = FirstOrder(schema, cfg.embedding)
        self.embedding = Embedding(schema, cfg.embedding)
        fields, width = self.embedding.num_fields, self.embedding.dim
        self.register_buffer("pairs", torch.triu_indices(fields, fields, 1), persistent=False)
        self.attention = linear(width, cfg.attention_dim)
        self.score = linear(cfg.attention_dim, 1, bias=False)
        self.out = linear(width, 1, bias=False)
        self.attention_dropout, self.dropout = nn.Dropout(cfg.attention_dropout), nn.Dropout(cfg.dropout)

    def forward(self, x: Inputs) -> Tensor:
        products, weights = self._weighted_pairs(x)
        pooled = (self.attention_dropout(weights).unsqueeze(1) @ products).squeeze(1)  # [B, D]
        return self.linear(x) + self.out(self.dropout(pooled)).squeeze(1)  # [B]

    def _weighted_pairs(self, x: Inputs) -> tuple[Tensor, Tensor]:
        """Products p_ij [B, P, D] by rows of the upper triangle, and their weights a_ij [B, P]."""
        e = self.embedding(x)  # [B, F, D]
        products = e.index_select(1, self.pairs[0]) * e.index_select(1, self.pairs[1])
        return products, self.score(self.attention(products).relu()).squeeze(2).softmax(1)

    @torch.no_grad()
    def explain(self, x: Inputs) -> dict[str, Tensor]:
        """attention [B, F (F - 1) / 2]: the weight of each pair, by rows of the upper triangle."""
        return {"attention": self._weighted_pairs(x)[1]}
