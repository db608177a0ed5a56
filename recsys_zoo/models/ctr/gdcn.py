"""GDCN: cross layers with an information gate, beside or under a perceptron (Wang et al., CIKM 2023)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ...batch import Inputs
from ...card import Card, Published
from ...config import Search
from ...nn.embedding import Embedding
from ...nn.mlp import MLP, MLPSettings, linear
from ...registry import register
from ...schema import Schema
from ..base import CTRModel, ModelConfig


class GatedCross(nn.Module):
    """x_0 * (W_c x + b) * sigmoid(W_g x) + x, [B, width] -> [B, width]; b starts in U(0, 1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cross, self.gate = linear(width, width), linear(width, width, bias=False)
        nn.init.uniform_(self.cross.bias)

    def forward(self, x0: Tensor, x: Tensor) -> Tensor:
        return x + x0 * self.gate(x).sigmoid() * self.cross(x)


@register
class GDCN(CTRModel):
    """Gated crosses of x_0 = [e_1; ...; e_F] with an MLP on x_0 (parallel) or on them (stacked)."""

    card = Card(
        name="GDCN",
        family="ctr",
        title="Towards Deeper, Lighter and Interpretable Cross Network for CTR Prediction",
        authors="Wang, Gu, Li, Lu, Zhang, Gu",
        year=2023,
        url="https://arxiv.org/abs/2311.04635",
        equations="x_{l+1} = x_0 * (W_c x_l + b) * sigmoid(W_g x_l) + x_l; parallel (GDCN-P): "
        "logit = w^T [x_L; MLP(x_0)] + b'; stacked (GDCN-S): logit = w^T MLP(x_L) + b'",
        notes=(
            "b starts in U(0, 1), as in the code of the authors and FuxiCTR; the gate has no bias.",
            "The MLP ends with its last hidden layer; one linear layer makes the logit, as in FuxiCTR.",
            "The authors' reduction of field widths (FDO) is not here; widths by column are in "
            "embedding.widths.",
            "stacked without hidden layers is w^T x_L + b', the gated cross network (GCN) alone.",
        ),
        published=(
            Published(
                board="criteo, authors' split",
                metrics={"auc": 0.8161, "logloss": 0.4360},
                source="paperswithcode.com/paper/towards-deeper-lighter-and-interpretable-1 (GDCN on Criteo)",
            ),
        ),
    )

    class Config(ModelConfig, MLPSettings):
        """Settings of GDCN; `hidden` is the MLP beside (parallel) or on (stacked) the crosses."""

        structure: Annotated[Literal["parallel", "stacked"], Search(choices=("parallel", "stacked"))] = Field(
            "parallel", description="how crosses and MLP are joined: GDCN-P or GDCN-S"
        )
        layers: Annotated[int, Search(low=1, high=6)] = Field(
            3, ge=1, description="gated cross layers L; authors' code and FuxiCTR: 3"
        )

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "parallel": {"structure": "parallel"},
        "stacked": {"structure": "stacked"},
    }

    def __init__(self, cfg: Config, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.embedding = Embedding(schema, cfg.embedding)
        width = self.embedding.flat_dim
        self.layers = nn.ModuleList(GatedCross(width) for _ in range(cfg.layers))
        self.mlp = MLP(width, cfg.hidden, 0, cfg.batch_norm, cfg.dropout)
        self.out = linear(self.mlp.width + width * (cfg.structure == "parallel"), 1)

    def forward(self, x: Inputs) -> Tensor:
        x0 = crossed = self.embedding.flat(x)  # [B, F D]
        for layer in self.layers:
            crossed = layer(x0, crossed)
        if self.cfg.structure == "stacked":
            return self.out(self.mlp(crossed)).squeeze(-1)
        return self.out(torch.cat([crossed, self.mlp(x0)], 1)).squeeze(-1)  # [B]
