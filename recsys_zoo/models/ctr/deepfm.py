"""DeepFM: factorisation machine and perceptron on the same embeddings (Guo et al., IJCAI 2017)."""

from __future__ import annotations

from torch import Tensor

from ...batch import Inputs
from ...card import Card, Published
from ...nn.embedding import Embedding, FirstOrder
from ...nn.interaction import pair_sum
from ...nn.mlp import MLP, MLPSettings
from ...registry import register
from ...schema import Schema
from ..base import CTRModel, ModelConfig


@register
class DeepFM(CTRModel):
    """logit = sum_i w_{x_i} + sum_{i<j} <e_i, e_j> + MLP([e_1; ...; e_F]); needs columns of equal width."""

    card = Card(
        name="DeepFM",
        family="ctr",
        title="DeepFM: A Factorization-Machine based Neural Network for CTR Prediction",
        authors="Guo, Tang, Ye, Li, He",
        year=2017,
        url="https://arxiv.org/abs/1703.04247",
        equations="logit = sum_i w_{x_i} + sum_{i<j} <e_i, e_j> + MLP([e_1; ...; e_F])",
        notes=(
            "One bias, the MLP's, as in the FuxiCTR 1.1 of the published run; FuxiCTR 2.x has a second one "
            "in the first-order term (one parameter more, the same functions).",
        ),
        published=(
            Published(
                board="frappe_x1",
                metrics={"auc": 0.984243, "logloss": 0.148174},
                source="BARS ranking/ctr/DeepFM/DeepFM_frappe_x1 (log)",
            ),
        ),
    )

    class Config(ModelConfig, MLPSettings):
        """Settings of DeepFM."""

    def __init__(self, cfg: Config, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.linear = FirstOrder(schema, cfg.embedding, bias=False)
        self.embedding = Embedding(schema, cfg.embedding)
        width = self.embedding.num_fields * self.embedding.dim
        self.mlp = MLP(width, cfg.hidden, 1, cfg.batch_norm, cfg.dropout)

    def forward(self, x: Inputs) -> Tensor:
        e = self.embedding(x)  # [B, F, D]
        return self.linear(x) + pair_sum(e) + self.mlp(e.flatten(1)).squeeze(-1)  # [B]
