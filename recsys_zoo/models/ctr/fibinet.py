"""FiBiNET: squeeze and excitation of fields, bilinear products of pairs (Huang et al., RecSys 2019)."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ...batch import Inputs
from ...card import Card, Published
from ...config import Flag, Search
from ...nn.embedding import Embedding, FirstOrder
from ...nn.mlp import MLP, MLPSettings, linear
from ...registry import register
from ...schema import Schema
from ..base import CTRModel, ModelConfig

Kind = Literal["all", "each", "interaction"]


class SqueezeExcitation(nn.Module):
    """A = ReLU(W_2 ReLU(W_1 z)) with z_i the mean of e_i; returns A_i e_i, [B, F, D]."""

    def __init__(self, fields: int, reduction: float) -> None:
        super().__init__()
        reduced = max(1, int(fields / reduction))
        self.down, self.up = linear(fields, reduced, bias=False), linear(reduced, fields, bias=False)

    def forward(self, e: Tensor) -> Tensor:
        weights = self.up(self.down(e.mean(2)).relu()).relu()  # [B, F]
        return e * weights.unsqueeze(2)


class Bilinear(nn.Module):
    """(e_i W) * e_j for i < j, [B, F, D] -> [B, pairs, D]; one W, one an i or one a pair."""

    left: Tensor
    right: Tensor

    def __init__(self, fields: int, width: int, kind: Kind) -> None:
        super().__init__()
        pairs = torch.triu_indices(fields, fields, 1)
        self.register_buffer("left", pairs[0].clone(), persistent=False)
        self.register_buffer("right", pairs[1].clone(), persistent=False)
        self.kind = kind
        matrices = {"all": 1, "each": fields, "interaction": pairs.shape[1]}[kind]
        self.weight = nn.Parameter(torch.randn(matrices, width, width) * width**-0.5)  # Glorot, a matrix each

    def forward(self, e: Tensor) -> Tensor:
        if self.kind == "all":
            first = (e @ self.weight[0]).index_select(1, self.left)
        elif self.kind == "each":
            first = torch.bmm(e.transpose(0, 1), self.weight).transpose(0, 1).index_select(1, self.left)
        else:
            pairs = e.transpose(0, 1).index_select(0, self.left)  # [pairs, B, D]
            first = torch.bmm(pairs, self.weight).transpose(0, 1)
        return first * e.index_select(1, self.right)


@register
class FiBiNET(CTRModel):
    """logit = sum_i w_{x_i} + MLP([bilinear(E); bilinear(SE(E))]); needs columns of equal width."""

    card = Card(
        name="FiBiNET",
        family="ctr",
        title="FiBiNET: Combining Feature Importance and Bilinear feature Interaction for Click-Through Rate "
        "Prediction",
        authors="Huang, Zhang, Zhang",
        year=2019,
        url="https://arxiv.org/abs/1905.09433",
        equations="z_i = mean(e_i); A = ReLU(W_2 ReLU(W_1 z)); v_i = A_i e_i; p_ij = (e_i W) * e_j, "
        "q_ij = (v_i W') * v_j, i < j; logit = sum_i w_{x_i} + MLP([p; q])",
        notes=(
            "shared: E and SE(E) use the same matrices (W = W'), as the parameter count of the "
            "published run shows (FuxiCTR 1.1); FuxiCTR 2.x has two sets.",
            "Each matrix W is drawn for itself (Glorot normal); FuxiCTR draws a stack of matrices with the "
            "fans of a convolution, much smaller for `interaction`.",
            "No bias in the first-order term, as in FuxiCTR.",
            "A single column has no pairs: its model is the first-order term with a bias.",
        ),
        published=(
            Published(
                board="frappe_x1",
                metrics={"auc": 0.983182, "logloss": 0.194074},
                source="BARS ranking/ctr/FiBiNET/FiBiNET_frappe_x1 (log)",
            ),
        ),
    )

    class Config(ModelConfig, MLPSettings):
        """Settings of FiBiNET."""

        reduction: Annotated[float, Search(choices=(1.0, 2.0, 3.0))] = Field(
            3.0, gt=0, description="r: fields over hidden units; FuxiCTR: 3"
        )
        bilinear: Annotated[Kind, Search(choices=("all", "each", "interaction"))] = Field(
            "interaction", description="one matrix for all, for each first field or for each pair"
        )
        shared: Flag = Field(True, description="one set of matrices for E and SE(E); FuxiCTR 2.x: false")

    def __init__(self, cfg: Config, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.embedding = Embedding(schema, cfg.embedding)
        fields, width = self.embedding.num_fields, self.embedding.dim
        self.linear = FirstOrder(schema, cfg.embedding, bias=fields == 1)
        self.mlp = self.second_bilinear = None
        if fields > 1:
            self.excitation = SqueezeExcitation(fields, cfg.reduction)
            self.bilinear = Bilinear(fields, width, cfg.bilinear)
            if not cfg.shared:
                self.second_bilinear = Bilinear(fields, width, cfg.bilinear)
            self.mlp = MLP(fields * (fields - 1) * width, cfg.hidden, 1, cfg.batch_norm, cfg.dropout)

    def forward(self, x: Inputs) -> Tensor:
        logit = self.linear(x)  # [B]
        if self.mlp is None:
            return logit
        e = self.embedding(x)  # [B, F, D]
        second = self.bilinear if self.second_bilinear is None else self.second_bilinear
        pairs = torch.cat([self.bilinear(e), second(self.excitation(e))], 1)  # [B, F (F - 1), D]
        return logit + self.mlp(pairs.flatten(1)).squeeze(-1)
