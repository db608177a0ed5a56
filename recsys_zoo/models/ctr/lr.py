"""LR: logistic regression on one-hot columns, the first row of CTR boards (Richardson et al., WWW 2007)."""

from __future__ import annotations

from torch import Tensor

from ...batch import Inputs
from ...card import Card, Published
from ...nn.embedding import FirstOrder
from ...registry import register
from ...schema import Schema
from ..base import CTRModel, ModelConfig


@register
class LR(CTRModel):
    """logit = b + sum_i w_{x_i}; a numeric column contributes weight * value."""

    card = Card(
        name="LR",
        family="ctr",
        title="Predicting Clicks: Estimating the Click-Through Rate for New Ads",
        authors="Richardson, Dominowska, Ragno",
        year=2007,
        url="https://doi.org/10.1145/1242572.1242643",
        equations="logit = b + sum_i w_{x_i}",
        published=(
            Published(
                board="frappe_x1",
                metrics={"auc": 0.935584, "logloss": 0.307643},
                source="BARS ranking/ctr/LR/LR_frappe_x1 (log)",
            ),
        ),
    )

    def __init__(self, cfg: ModelConfig, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.linear = FirstOrder(schema, cfg.embedding)

    def forward(self, x: Inputs) -> Tensor:
        return self.linear(x)  # [B]
