"""EDCN: cross and deep towers that meet after each layer and are regulated apart (Chen et al., CIKM 2021)."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ...batch import Inputs
from ...card import Card, Published
from ...config import Flag, Search
from ...nn.embedding import Embedding
from ...nn.mlp import MLP, Rate, linear
from ...nn.norm import BatchNorm
from ...registry import register
from ...schema import Schema
from ..base import CTRModel, ModelConfig

Join = Literal["product", "sum", "concat", "attention"]


class Regulation(nn.Module):
    """softmax(theta / tau) over fields times the input, for each tower: [B, F, D] -> two of [B, F D]."""

    def __init__(self, fields: int, width: int, temperature: float, batch_norm: bool) -> None:
        super().__init__()
        self.temperature = temperature
        self.theta = nn.Parameter(torch.ones(2, fields))
        self.norms = nn.ModuleList(
            BatchNorm(fields * width) if batch_norm else nn.Identity() for _ in range(2)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        gates = (self.theta / self.temperature).softmax(1).unsqueeze(2)  # [2, F, 1]
        cross, deep = ((x * gate).flatten(1) for gate in gates)
        return self.norms[0](cross), self.norms[1](deep)


class Cross(nn.Module):
    """x_0 (w . c) + b, [B, width] -> [B, width]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = linear(width, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x0: Tensor, c: Tensor) -> Tensor:
        return self.bias + x0 * self.weight(c)


class Bridge(nn.Module):
    """Joins the towers' outputs c and h, [B, width] each, to [B, width]."""

    def __init__(self, width: int, join: Join) -> None:
        super().__init__()
        self.join = join
        self.layers = nn.ModuleList()
        if join == "concat":
            self.layers.append(MLP(2 * width, (width,), 0))
        elif join == "attention":
            self.layers.extend(
                nn.Sequential(MLP(width, (width,), 0), linear(width, width, bias=False), nn.Softmax(1))
                for _ in range(2)
            )

    def forward(self, c: Tensor, h: Tensor) -> Tensor:
        if self.join == "product":
            return c * h
        if self.join == "sum":
            return c + h
        if self.join == "concat":
            return self.layers[0](torch.cat([c, h], 1))
        return self.layers[0](c) * c + self.layers[1](h) * h


@register
class EDCN(CTRModel):
    """logit = w^T [c_L; h_L; bridge(c_L, h_L)] + b; needs columns of equal width."""

    card = Card(
        name="EDCN",
        family="ctr",
        title="Enhancing Explicit and Implicit Feature Interactions via Information Sharing for Parallel "
        "Deep CTR Models",
        authors="Chen, Wang, Liu, Tang, Guo, Zheng, Yao, Zhang, He",
        year=2021,
        url="https://doi.org/10.1145/3459637.3481915",
        equations="g = softmax(theta / tau) over fields; inputs of layer l: g^c * z, g^d * z, z = E or "
        "bridge(c_l, h_l); c_{l+1} = x_0 (w^T c) + b; h_{l+1} = ReLU(W h + b); bridge: c * h, c + h, "
        "ReLU(W [c; h] + b) or a^c * c + a^d * h",
        notes=(
            "The cross layer has no residual c_l, as in FuxiCTR; x_0 is the first regulated input.",
            "Attention has weights of its own for each tower; FuxiCTR uses those of the cross tower twice.",
            "Two layers by default: with three and the product bridge, vectors of 1e-4 start with logits "
            "below 1e-7, which float32 loses beside a label.",
            "theta starts at 1: each gate is 1 / F, so inputs shrink by F unless batch_norm follows.",
        ),
        published=(
            Published(
                board="frappe_x1",
                metrics={"auc": 0.9850, "logloss": 0.1547},
                source="BARS ranking/ctr/EDCN/EDCN_frappe_x1 (board, 4 digits)",
            ),
        ),
    )

    class Config(ModelConfig):
        """Settings of EDCN."""

        layers: Annotated[int, Search(low=1, high=4)] = Field(
            2, ge=1, description="layers L of both towers; FuxiCTR: 3"
        )
        bridge: Annotated[Join, Search(choices=("product", "sum", "concat", "attention"))] = Field(
            "product", description="how the towers are joined; FuxiCTR: product"
        )
        temperature: Annotated[float, Search(choices=(0.5, 1.0, 2.0, 5.0))] = Field(
            1.0, gt=0, description="tau of the regulation's softmax; FuxiCTR: 1"
        )
        batch_norm: Flag = Field(True, description="batch norm after each regulation; FuxiCTR: false")
        dropout: Rate = Field(0.0, description="rate of dropout in the deep tower")

    def __init__(self, cfg: Config, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.embedding = Embedding(schema, cfg.embedding)
        self.shape = (self.embedding.num_fields, self.embedding.dim)
        width, layers = self.shape[0] * self.shape[1], range(cfg.layers)
        self.regulations = nn.ModuleList(
            Regulation(*self.shape, cfg.temperature, cfg.batch_norm) for _ in layers
        )
        self.cross = nn.ModuleList(Cross(width) for _ in layers)
        self.deep = nn.ModuleList(MLP(width, (width,), 0, dropout=cfg.dropout) for _ in layers)
        self.bridges = nn.ModuleList(Bridge(width, cfg.bridge) for _ in layers)
        self.out = linear(3 * width, 1)

    def forward(self, x: Inputs) -> Tensor:
        z, x0, towers = self.embedding(x), None, []  # z [B, F, D]
        parts = zip(self.regulations, self.cross, self.deep, self.bridges, strict=True)
        for regulation, cross, deep, bridge in parts:
            c, h = regulation(z)  # [B, F D]
            x0 = c if x0 is None else x0
            c, h = cross(x0, c), deep(h)
            joined = bridge(c, h)
            towers, z = [c, h, joined], joined.unflatten(1, self.shape)
        return self.out(torch.cat(towers, 1)).squeeze(-1)  # [B]
