"""Wukong: stacked factorisation machines that scale by width and depth (Zhang et al., ICML 2024)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from ...batch import Inputs
from ...card import Card
from ...config import Flag, Search
from ...nn.embedding import Embedding
from ...nn.mlp import MLP, MLPSettings, Width, linear
from ...registry import register
from ...schema import Schema
from ..base import CTRModel, ModelConfig


class WukongConfig(ModelConfig, MLPSettings):
    """Settings of Wukong; hidden and batch_norm belong to the MLP on top, dropout to all MLPs."""

    hidden: Annotated[tuple[Width, ...], Search(choices=([32, 32], [64, 64], [400, 400]))] = Field(
        (32, 32), description="widths of the MLP on top; FuxiCTR: 32, 32"
    )
    batch_norm: Flag = Field(True, description="batch normalisation in the MLP on top; FuxiCTR: true")
    layers: Annotated[int, Search(low=1, high=6)] = Field(3, ge=1, description="Wukong layers l; FuxiCTR: 3")
    fm_fields: Annotated[int, Search(choices=(16, 32, 40, 64))] = Field(
        40, ge=1, description="vectors n_F the factorisation machine makes; FuxiCTR: 40"
    )
    linear_fields: Annotated[int, Search(choices=(16, 32, 40, 64))] = Field(
        40, ge=1, description="vectors n_L the linear compression makes; FuxiCTR: 40"
    )
    rank: Annotated[int, Search(choices=(4, 8, 16))] = Field(
        8, ge=1, description="k: columns of Y in X X^T Y; FuxiCTR: 8"
    )
    fm_hidden: Annotated[tuple[Width, ...], Search(choices=([32, 32], [64, 64], [128, 128]))] = Field(
        (32, 32), description="hidden widths of the MLP in each factorisation machine; FuxiCTR: 32, 32"
    )


class FactorisationMachine(nn.Module):
    """ReLU(MLP(LN(X X^T Y))) as vectors, [B, n, D] -> [B, n_F, D], in O(n D k) by X (X^T Y)."""

    def __init__(self, fields: int, width: int, cfg: WukongConfig) -> None:
        super().__init__()
        self.shape = (cfg.fm_fields, width)
        self.y = nn.Parameter(torch.randn(fields, cfg.rank))
        self.norm = nn.LayerNorm(fields * cfg.rank)
        self.mlp = MLP(fields * cfg.rank, cfg.fm_hidden, cfg.fm_fields * width, dropout=cfg.dropout)

    def products(self, x: Tensor) -> Tensor:
        """X X^T Y, [B, n, k]."""
        return torch.bmm(x, x.transpose(1, 2) @ self.y)

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(self.norm(self.products(x).flatten(1))).relu().unflatten(1, self.shape)


class WukongLayer(nn.Module):
    """LN([FM(X); W_L X] + residual(X)), [B, n, D] -> [B, n_F + n_L, D]."""

    def __init__(self, fields: int, width: int, cfg: WukongConfig) -> None:
        super().__init__()
        total = cfg.fm_fields + cfg.linear_fields
        self.machine = FactorisationMachine(fields, width, cfg)
        self.compress = linear(fields, cfg.linear_fields, bias=False)
        self.residual = linear(fields, total) if fields != total else None
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        columns = x.transpose(1, 2)  # [B, D, n]: the linear maps act on fields
        joined = torch.cat([self.machine(x), self.compress(columns).transpose(1, 2)], 1)
        return self.norm(joined + (x if self.residual is None else self.residual(columns).transpose(1, 2)))


@register
class Wukong(CTRModel):
    """logit = MLP(flatten(X_L)) with X_0 the embeddings; needs columns of equal width."""

    card = Card(
        name="Wukong",
        family="ctr",
        title="Wukong: Towards a Scaling Law for Large-Scale Recommendation",
        authors="Zhang, Luo, Chen, Nie, Liu, Guo, Zhao, Li, Hao, Yao, Lakshminarayanan, Wen, Park, Naumov, "
        "Chen",
        year=2024,
        url="https://arxiv.org/abs/2403.02545",
        equations="X' = LN([FMB(X); W_L X] + residual(X)); FMB(X) = reshape(MLP(LN(flatten(X X^T Y)))); "
        "logit = MLP(flatten(X_L))",
        notes=(
            "The MLP of FMB ends with a ReLU and the residual is a linear map with bias over fields where "
            "their number changes, as in FuxiCTR.",
            "Y is a parameter that starts in N(0, 1), as in FuxiCTR.",
            "The default embedding.dim is the zoo's; FuxiCTR: 64.",
            "Its authors give no number on public data.",
        ),
    )
    Config = WukongConfig

    def __init__(self, cfg: WukongConfig, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.embedding = Embedding(schema, cfg.embedding)
        fields, width = self.embedding.num_fields, self.embedding.dim
        total = cfg.fm_fields + cfg.linear_fields
        sizes = [fields, *[total] * (cfg.layers - 1)]
        self.layers = nn.Sequential(*(WukongLayer(size, width, cfg) for size in sizes))
        self.mlp = MLP(total * width, cfg.hidden, 1, cfg.batch_norm, cfg.dropout)

    def forward(self, x: Inputs) -> Tensor:
        return self.mlp(self.layers(self.embedding(x)).flatten(1)).squeeze(-1)  # [B]
