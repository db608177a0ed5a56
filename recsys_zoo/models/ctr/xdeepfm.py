"""xDeepFM: a compressed interaction network, a perceptron and a linear term (Lian et al., KDD 2018)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from ...batch import Inputs
from ...card import Card, Published
from ...config import Search
from ...nn.embedding import Embedding, FirstOrder
from ...nn.mlp import HIDDEN, MLP, MLPSettings, Width, linear
from ...nn.outer import project_outer
from ...registry import register
from ...schema import Schema
from ..base import CTRModel, ModelConfig


class CIN(nn.Module):
    """Pooled feature maps of all layers, [B, F, D] -> [B, sum of widths].

    Row h of layer k is sum_{i,j} W_h[i, j] X^{k-1}_i * X^0_j + c_h; row h of a layer's weight is the W_h
    written by rows.
    """

    def __init__(self, fields: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        before = (fields, *widths)
        self.layers = nn.ModuleList(
            linear(rows * fields, width) for rows, width in zip(before, widths, strict=False)
        )

    def forward(self, e: Tensor) -> Tensor:
        x = x0 = e.transpose(1, 2)  # [B, D, F]
        pooled = []
        for layer in self.layers:
            x = project_outer(x, x0, layer.weight, layer.bias)  # [B, D, width]
            pooled.append(x.sum(1))
        return torch.cat(pooled, 1)


@register
class XDeepFM(CTRModel):
    """logit = sum_i w_{x_i} + w^T CIN(E) + b [+ MLP([e_1; ...; e_F])]; needs columns of equal width."""

    card = Card(
        name="xDeepFM",
        family="ctr",
        title="xDeepFM: Combining Explicit and Implicit Feature Interactions for Recommender Systems",
        authors="Lian, Zhou, Zhang, Chen, Xie, Sun",
        year=2018,
        url="https://arxiv.org/abs/1803.05170",
        equations="X^k_h = sum_{i,j} W^{k,h}_ij X^{k-1}_i * X^0_j + c^k_h; p^k_h = sum over places of X^k_h; "
        "logit = sum_i w_{x_i} + w^T [p^1; ...; p^L] + b + MLP([e_1; ...; e_F]); preset cin: no MLP",
        notes=(
            "As in FuxiCTR the maps have a bias c, no activation, and go whole into the sum and the next "
            "layer; the authors' code can split them in halves.",
            "Preset cin keeps the first-order term, as the BARS runs of CIN do.",
            "A layer has B x D x rows x F products, 250 MB in fp32 for 4096 rows, 39 fields, D = 10 and 39 "
            "rows: on a CPU they are made some at a time and not kept, on a GPU they are.",
        ),
        published=(
            Published(
                board="frappe_x1",
                metrics={"auc": 0.984507, "logloss": 0.146604},
                source="BARS ranking/ctr/xDeepFM/xDeepFM_frappe_x1 (log)",
            ),
            Published(
                board="frappe_x1 (cin)",
                metrics={"auc": 0.978241, "logloss": 0.235220},
                source="BARS ranking/ctr/xDeepFM/CIN_frappe_x1 (log)",
            ),
        ),
    )

    class Config(ModelConfig, MLPSettings):
        """Settings of xDeepFM."""

        cin: Annotated[
            tuple[Width, ...], Field(min_length=1),
            Search(choices=([16, 16], [16, 16, 16], [32], [32, 32], [64], [64, 64])),
        ] = Field(
            (16, 16, 16), description="feature maps H_k of each CIN layer; FuxiCTR: 16, 16, 16"
        )
        hidden: Annotated[tuple[Width, ...], HIDDEN] = Field(
            (400, 400, 400),
            description="widths of the hidden layers, empty: no MLP; BARS runs on x1 data sets: 3 x 400",
        )

    presets: ClassVar[dict[str, dict[str, Any]]] = {"cin": {"hidden": []}}

    def __init__(self, cfg: Config, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.linear = FirstOrder(schema, cfg.embedding, bias=False)
        self.embedding = Embedding(schema, cfg.embedding)
        fields, width = self.embedding.num_fields, self.embedding.dim
        self.cin = CIN(fields, cfg.cin)
        self.out = linear(sum(cfg.cin), 1)
        self.mlp = MLP(fields * width, cfg.hidden, 1, cfg.batch_norm, cfg.dropout) if cfg.hidden else None

    def forward(self, x: Inputs) -> Tensor:
        e = self.embedding(x)  # [B, F, D]
        logit = self.linear(x) + self.out(self.cin(e)).squeeze(1)
        return logit if self.mlp is None else logit + self.mlp(e.flatten(1)).squeeze(1)  # [B]
