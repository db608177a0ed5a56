"""FwFM: a factorisation machine with one weight for each pair of fields (Pan et al., WWW 2018)."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ...batch import Inputs
from ...card import Card, Published
from ...config import Search
from ...nn.embedding import Embedding, FirstOrder
from ...nn.interaction import pair_places, pair_products
from ...nn.mlp import linear
from ...registry import register
from ...schema import Schema
from ..base import CTRModel, ModelConfig


@register
class FwFM(CTRModel):
    """logit = b + linear part + sum_{i<j} r_ij <e_i, e_j>; needs columns of equal width."""

    card = Card(
        name="FwFM",
        family="ctr",
        title="Field-weighted Factorization Machines for Click-Through Rate Prediction in Display "
        "Advertising",
        authors="Pan, Xu, Ruiz, Zhao, Pan, Sun, Lu",
        year=2018,
        url="https://arxiv.org/abs/1806.03514",
        equations="logit = b + s + sum_{i<j} r_ij <e_i, e_j>; LW: s = sum_i w_{x_i}; "
        "FeLV: s = sum_i <e_i, w_{x_i}>; FiLV: s = sum_i <e_i, w_i>, one vector w_i a field",
        notes=(
            "The r_ij start as FuxiCTR's output layer over the pairs: normal with variance 2 / (P + 1), P "
            "pairs.",
            "Pairs are counted row by row in the upper triangle: (0, 1), (0, 2), ...",
            "FeLV multiplies two looked-up vectors, so that a numeric column enters with its square there, "
            "as in FuxiCTR.",
            "FuxiCTR regularises FwFM with one weight on all parameters: table_l2 = net_l2.",
        ),
        published=(
            Published(
                board="frappe_x1",
                metrics={"auc": 0.9776, "logloss": 0.2030},
                source="BARS docs/CTR/leaderboard/frappe_x1.csv",
            ),
            Published(
                board="criteo_x1",
                metrics={"auc": 0.8063, "logloss": 0.4454},
                source="BARS docs/CTR/leaderboard/criteo_x1.csv",
            ),
        ),
    )

    class Config(ModelConfig):
        """Settings of FwFM."""

        linear_type: Annotated[Literal["LW", "FeLV", "FiLV"], Search(choices=("LW", "FeLV", "FiLV"))] = Field(
            "FiLV",
            description="linear part: a weight a value (LW), a vector a value (FeLV) or a vector a field "
            "(FiLV); paper: FiLV",
        )

    def __init__(self, cfg: Config, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.embedding = Embedding(schema, cfg.embedding)
        fields, width = self.embedding.num_fields, self.embedding.dim
        places = pair_places(fields)
        self.register_buffer("places", places, persistent=False)
        self.bias = nn.Parameter(torch.zeros(1))
        self.pair_weights = nn.Parameter(torch.randn(len(places)) * (2 / (len(places) + 1)) ** 0.5)  # r_ij
        self.linear: FirstOrder | Embedding | nn.Linear
        if cfg.linear_type == "LW":
            self.linear = FirstOrder(schema, cfg.embedding, bias=False)
        elif cfg.linear_type == "FeLV":
            self.linear = Embedding(schema, cfg.embedding)
        else:
            self.linear = linear(fields * width, 1, bias=False)

    def forward(self, x: Inputs) -> Tensor:
        e = self.embedding(x)  # [B, F, D]
        products = pair_products(e, self.places)  # [B, P]
        return products @ self.pair_weights + self._linear(x, e) + self.bias  # [B]

    def _linear(self, x: Inputs, e: Tensor) -> Tensor:
        if isinstance(self.linear, FirstOrder):
            return self.linear(x)
        if isinstance(self.linear, Embedding):
            return (e * self.linear(x)).sum((1, 2))
        return self.linear(e.flatten(1)).squeeze(1)
