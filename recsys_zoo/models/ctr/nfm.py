"""NFM: a perceptron on the pooled pairwise products of a factorisation machine (He and Chua, SIGIR 2017)."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from ...batch import Inputs
from ...card import Card, Published
from ...config import Flag
from ...nn.embedding import Embedding, FirstOrder
from ...nn.mlp import MLP, MLPSettings, Rate
from ...nn.norm import BatchNorm
from ...registry import register
from ...schema import Schema
from ..base import CTRModel, ModelConfig


@register
class NFM(CTRModel):
    """logit = sum_i w_{x_i} + MLP(sum_{i<j} e_i * e_j); needs columns of equal width."""

    card = Card(
        name="NFM",
        family="ctr",
        title="Neural Factorization Machines for Sparse Predictive Analytics",
        authors="He, Chua",
        year=2017,
        url="https://arxiv.org/abs/1708.05027",
        equations="z = sum_{i<j} e_i * e_j = 1/2 ((sum_i e_i)^2 - sum_i e_i^2); "
        "logit = sum_i w_{x_i} + MLP(z)",
        notes=(
            "One bias, the MLP's, as in FuxiCTR.",
            "pooling_batch_norm and pooling_dropout act on z as in the paper; FuxiCTR has neither.",
        ),
        published=(
            Published(
                board="frappe_x1",
                metrics={"auc": 0.9804, "logloss": 0.2058},
                source="BARS docs/CTR/leaderboard/frappe_x1.csv",
            ),
            Published(
                board="criteo_x1",
                metrics={"auc": 0.8053, "logloss": 0.4459},
                source="BARS docs/CTR/leaderboard/criteo_x1.csv",
            ),
        ),
    )

    class Config(ModelConfig, MLPSettings):
        """Settings of NFM."""

        pooling_batch_norm: Flag = Field(False, description="batch normalisation of z; the paper has it")
        pooling_dropout: Rate = Field(0.0, description="rate of dropout on z; the paper has it")

    def __init__(self, cfg: Config, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.linear = FirstOrder(schema, cfg.embedding, bias=False)
        self.embedding = Embedding(schema, cfg.embedding)
        width = self.embedding.dim
        self.norm = BatchNorm(width) if cfg.pooling_batch_norm else nn.Identity()
        self.dropout = nn.Dropout(cfg.pooling_dropout)
        self.mlp = MLP(width, cfg.hidden, 1, cfg.batch_norm, cfg.dropout)

    def forward(self, x: Inputs) -> Tensor:
        e = self.embedding(x)  # [B, F, D]
        z = 0.5 * (e.sum(1).square() - e.square().sum(1))  # [B, D]
        return self.linear(x) + self.mlp(self.dropout(self.norm(z))).squeeze(1)  # [B]
