"""IPNN: a perceptron on embeddings and their inner products (Qu et al., ICDM 2016)."""

from __future__ import annotations

import torch
from torch import Tensor

from ...batch import Inputs
from ...card import Card, Published
from ...nn.embedding import Embedding
from ...nn.interaction import pair_places, pair_products
from ...nn.mlp import MLP, MLPSettings
from ...registry import register
from ...schema import Schema
from ..base import CTRModel, ModelConfig


@register
class IPNN(CTRModel):
    """logit = MLP([e_1; ...; e_F; <e_1, e_2>; ...; <e_{F-1}, e_F>]); needs columns of equal width."""

    card = Card(
        name="IPNN",
        family="ctr",
        title="Product-based Neural Networks for User Response Prediction",
        authors="Qu, Cai, Ren, Zhang, Yu, Wen, Wang",
        year=2016,
        url="https://arxiv.org/abs/1611.00144",
        equations="logit = MLP([e_1; ...; e_F; <e_i, e_j> for i < j])",
        notes=(
            "As in FuxiCTR the first hidden layer reads the products themselves; the paper's product layer "
            "has factorised weights for them.",
            "Products are in the order of the rows of the upper triangle: (0, 1), (0, 2), ...",
            "No first-order term. The paper's outer products (OPNN) are not here.",
        ),
        published=(
            Published(
                board="frappe_x1",
                metrics={"auc": 0.984122, "logloss": 0.154003},
                source="BARS ranking/ctr/PNN/IPNN_frappe_x1 (log)",
            ),
        ),
    )

    class Config(ModelConfig, MLPSettings):
        """Settings of IPNN."""

    def __init__(self, cfg: Config, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.embedding = Embedding(schema, cfg.embedding)
        fields = self.embedding.num_fields
        places = pair_places(fields)
        self.register_buffer("places", places, persistent=False)
        self.mlp = MLP(fields * self.embedding.dim + len(places), cfg.hidden, 1, cfg.batch_norm, cfg.dropout)

    def forward(self, x: Inputs) -> Tensor:
        e = self.embedding(x)  # [B, F, D]
        products = pair_products(e, self.places)  # [B, F (F - 1) / 2]
        return self.mlp(torch.cat([e.flatten(1), products], 1)).squeeze(1)  # [B]
