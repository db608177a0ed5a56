"""DCNv3: cross layers with self-masks, of exponential and of linear degree, averaged (Li et al., 2024)."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ...batch import Inputs
from ...card import Card, Published
from ...config import Flag, Search
from ...errors import InputError
from ...nn.embedding import Embedding
from ...nn.mlp import Rate, linear
from ...registry import register
from ...schema import Schema
from ..base import CTRModel, LossOf, ModelConfig, Term


class DCNv3Config(ModelConfig):
    """Settings of DCNv3; `deep` is the exponential network (ECN), `shallow` the linear one (LCN)."""

    deep_layers: Annotated[int, Search(low=1, high=5)] = Field(
        4, ge=1, description="layers of ECN, degree 2^L; authors' code: 4"
    )
    shallow_layers: Annotated[int, Search(low=1, high=5)] = Field(
        4, ge=1, description="layers of LCN, degree L + 1; authors' code: 4"
    )
    deep_dropout: Rate = Field(0.0, description="rate of dropout in ECN; authors' code: 0.1")
    shallow_dropout: Rate = Field(0.0, description="rate of dropout in LCN; authors' code: 0.3")
    layer_norm: Flag = Field(True, description="layer norm of H before the mask's ReLU; authors' code: true")
    batch_norm: Flag = Field(False, description="batch norm of H, a channel a head; authors' code: false")
    heads: Annotated[int, Search(choices=(1, 2))] = Field(
        1, ge=1, description="parts of each vector with logits of their own; authors' code: 1"
    )
    tri_bce: Annotated[Literal["none", "fixed", "authors"], Search(choices=("none", "fixed"))] = Field(
        "fixed", description="towers learn the labels for themselves too, by weights that are fixed in a step"
    )


class MaskedCross(nn.Module):
    """first * ([H; H * mask] + b) + x with H = W x, mask = ReLU(LN(H)): [B, heads, width] each."""

    def __init__(self, width: int, dropout: float, cfg: DCNv3Config) -> None:
        super().__init__()
        self.linear = linear(width, width // 2, bias=False)
        self.bias = nn.Parameter(torch.rand(width))
        self.batch_norm = nn.BatchNorm1d(cfg.heads) if cfg.batch_norm else nn.Identity()
        self.norm = nn.LayerNorm(width // 2) if cfg.layer_norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def forward(self, first: Tensor, x: Tensor) -> Tensor:
        h = self.batch_norm(self.linear(x))  # [B, heads, width / 2]
        masked = torch.cat([h, h * self.norm(h).relu()], -1)
        return self.dropout(torch.addcmul(x, first, masked + self.bias))


class CrossTower(nn.Module):
    """Mean over heads of w^T x_L + b, [B, heads, width] -> [B]; first factor x_l (ECN) or x_0 (LCN)."""

    def __init__(self, width: int, layers: int, dropout: float, exponential: bool, cfg: DCNv3Config) -> None:
        super().__init__()
        self.exponential = exponential
        self.layers = nn.ModuleList(MaskedCross(width, dropout, cfg) for _ in range(layers))
        self.out = linear(width, 1)

    def forward(self, x0: Tensor) -> Tensor:
        x = x0
        for layer in self.layers:
            x = layer(x if self.exponential else x0, x)
        return self.out(x).squeeze(-1).mean(1)


@register
class DCNv3(CTRModel):
    """logit = (ECN(x_0) + LCN(x_0)) / 2; needs columns of equal width."""

    card = Card(
        name="DCNv3",
        family="ctr",
        title="DCNv3: Towards Next Generation Deep Cross Network for CTR Prediction",
        authors="Li, Zhang, Zhang, Li, Sang, Zhu",
        year=2024,
        url="https://arxiv.org/abs/2407.13349",
        equations="H = W x_l; c = [H; H * ReLU(LN(H))] + b; ECN: x_{l+1} = x_l * c + x_l; "
        "LCN: x_{l+1} = x_0 * c + x_l; y_k = w_k^T x_L + b_k; logit = (y_d + y_s) / 2",
        notes=(
            "Tri-BCE: the loss is BCE(t, p) + w_d BCE(t, p_d) + w_s BCE(t, p_s) with w = max(0, BCE of the "
            "tower - BCE(t, p)). w is a number to the gradient; tri_bce=authors lets gradients pass through "
            "it, as the authors' code does: that pushes BCE(t, p) up while towers are bad; losses can leap.",
            "b starts in U(0, 1), as in the authors' code.",
            "x_0 holds the first halves of all vectors, then the second halves, which meet the masked H.",
            "embedding.dim counts all heads; the authors' embedding_dim counts one.",
        ),
        published=(
            Published(
                board="avazu_x4 (DCNv3 logs)",
                metrics={"auc": 0.797029, "logloss": 0.369527},
                source="salmon1802/DCNv3@df6da8b checkpoints/Avazu_x4_h5/DCNv3_Avazu (log), with Tri-BCE",
            ),
            Published(
                board="kdd12_x10 (DCNv3 logs)",
                metrics={"auc": 0.809823, "logloss": 0.149430},
                source="salmon1802/DCNv3@df6da8b checkpoints/KDD12_x10/DCNv3_KDD12_006 (log), with Tri-BCE",
            ),
        ),
    )
    Config = DCNv3Config

    def __init__(self, cfg: DCNv3Config, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.embedding = Embedding(schema, cfg.embedding)
        dim = self.embedding.dim
        if dim % (2 * cfg.heads):
            raise InputError(
                f"dcnv3: embedding.dim={dim} is not divisible by 2 * heads={2 * cfg.heads}; "
                f"choose a multiple of {2 * cfg.heads}"
            )
        width = self.embedding.num_fields * dim // cfg.heads
        self.deep = CrossTower(width, cfg.deep_layers, cfg.deep_dropout, True, cfg)
        self.shallow = CrossTower(width, cfg.shallow_layers, cfg.shallow_dropout, False, cfg)

    def forward(self, x: Inputs) -> Tensor:
        return self._joined(*self._towers(x))  # [B]

    def train_forward(self, x: Inputs) -> tuple[Tensor, dict[str, Term]]:
        """With Tri-BCE, a term a tower."""
        deep, shallow = self._towers(x)
        towers = {} if self.cfg.tri_bce == "none" else {"deep": deep, "shallow": shallow}
        through = self.cfg.tri_bce == "authors"
        terms = {name: partial(_tower_term, y, through) for name, y in towers.items()}
        return self._joined(deep, shallow), terms

    def _towers(self, x: Inputs) -> tuple[Tensor, Tensor]:
        e = self.embedding(x).unflatten(2, (self.cfg.heads, 2, -1))  # [B, F, heads, halves, D / 2 heads]
        x0 = e.permute(0, 2, 3, 1, 4).flatten(2)  # [B, heads, F D / heads]
        return self.deep(x0), self.shallow(x0)

    @staticmethod
    def _joined(deep: Tensor, shallow: Tensor) -> Tensor:
        return 0.5 * (deep + shallow)


def _tower_term(logits: Tensor, through: bool, loss: Tensor, loss_of: LossOf) -> Tensor:
    own = loss_of(logits)
    weight = (own - loss).clamp_min(0)
    return (weight if through else weight.detach()) * own
