"""DCN: cross layers with a vector of weights, alone or beside a perceptron (Wang et al., ADKDD 2017)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from ...batch import Inputs
from ...card import Card, Published
from ...config import Search
from ...nn.embedding import Embedding
from ...nn.mlp import HIDDEN, MLP, MLPSettings, Width, linear
from ...registry import register
from ...schema import Schema
from ..base import CTRModel, ModelConfig


class CrossLayer(nn.Module):
    """x_{l+1} = x_0 (w^T x_l) + b + x_l, [B, width] -> [B, width]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = linear(width, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x0: Tensor, x: Tensor) -> Tensor:
        return x + self.bias + x0 * self.weight(x)


@register
class DCN(CTRModel):
    """logit = w^T [x_L; MLP(x_0)] + b with crosses x_l of x_0 = [e_1; ...; e_F]; widths may differ."""

    card = Card(
        name="DCN",
        family="ctr",
        title="Deep & Cross Network for Ad Click Predictions",
        authors="Wang, Fu, Fu, Wang",
        year=2017,
        url="https://arxiv.org/abs/1708.05123",
        equations="x_{l+1} = x_0 (w_l^T x_l) + b_l + x_l; logit = w^T [x_L; MLP(x_0)] + b; "
        "preset crossnet: w^T x_L + b",
        notes=(
            "Numeric columns are vectors times their value, as in FuxiCTR; the paper puts the numbers "
            "themselves into x_0.",
            "The MLP ends with its last hidden layer (activation and dropout included), as in FuxiCTR.",
        ),
        published=(
            Published(
                board="frappe_x1",
                metrics={"auc": 0.983907, "logloss": 0.152660},
                source="BARS ranking/ctr/DCN/DCN_frappe_x1 (log)",
            ),
            Published(
                board="frappe_x1 (crossnet)",
                metrics={"auc": 0.959427, "logloss": 0.271483},
                source="BARS ranking/ctr/DCN/CrossNet_frappe_x1 (log)",
            ),
        ),
    )

    class Config(ModelConfig, MLPSettings):
        """Settings of DCN."""

        layers: Annotated[int, Search(low=1, high=8)] = Field(
            3, ge=1, description="cross layers L; FuxiCTR: 3"
        )
        hidden: Annotated[tuple[Width, ...], HIDDEN] = Field(
            (400, 400, 400),
            description="widths of the hidden layers, empty: crosses alone; BARS runs on x1 data: 3 x 400",
        )

    presets: ClassVar[dict[str, dict[str, Any]]] = {"crossnet": {"hidden": []}}

    def __init__(self, cfg: Config, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.embedding = Embedding(schema, cfg.embedding)
        width = self.embedding.flat_dim
        self.cross = nn.ModuleList(CrossLayer(width) for _ in range(cfg.layers))
        self.mlp = MLP(width, cfg.hidden, 0, cfg.batch_norm, cfg.dropout) if cfg.hidden else None
        self.out = linear(width + sum(cfg.hidden[-1:]), 1)

    def forward(self, x: Inputs) -> Tensor:
        x0 = h = self.embedding.flat(x)  # [B, F D]
        for layer in self.cross:
            h = layer(x0, h)
        if self.mlp is not None:
            h = torch.cat([h, self.mlp(x0)], 1)
        return self.out(h).squeeze(1)  # [B]
