"""EulerNet: products of complex vectors with learnt orders, by Euler's formula (Tian et al., SIGIR 2023)."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from ...batch import Inputs
from ...card import Card, Published
from ...config import Flag, Search
from ...nn.embedding import Embedding
from ...nn.mlp import Rate, Width, linear
from ...registry import register
from ...schema import Schema
from ..base import CTRModel, ModelConfig


class EulerNetConfig(ModelConfig):
    """Settings of EulerNet."""

    neurons: Annotated[tuple[Width, ...], Search(choices=([20], [40], [52], [40, 40]))] = Field(
        (20,), description="complex vectors m each layer makes; FuxiCTR: 20, authors on Frappe_x1: 52"
    )
    layer_norm: Flag = Field(True, description="layer norm of real and imaginary parts; FuxiCTR: true")
    explicit_dropout: Rate = Field(0.0, description="rate of dropout on log-modulus and phase")
    implicit_dropout: Rate = Field(0.0, description="rate of dropout before the implicit part")


class EulerLayer(nn.Module):
    """Real and imaginary parts [B, fields, D] of complex vectors -> those of `neurons` vectors.

    explicit: prod_j vector_j^{a_jm} by sums of log-moduli and phases; implicit: ReLU(W r + b), ReLU(W p + b).
    """

    def __init__(self, fields: int, neurons: int, width: int, cfg: EulerNetConfig) -> None:
        super().__init__()
        self.shape = (neurons, width)
        orders = torch.eye(fields)
        if fields != neurons:  # nearly one-hot: each product starts as one of its factors
            orders = (torch.randn(neurons, fields) / 0.01).softmax(1)
        self.orders = nn.Parameter(orders)  # [neurons, fields]
        self.modulus_bias = nn.Parameter(0.01 * torch.randn(neurons, width))
        self.phase_bias = nn.Parameter(0.01 * torch.randn(neurons, width))
        self.implicit = linear(fields * width, neurons * width, weight_init="xavier_uniform")
        self.explicit_drop = nn.Dropout(cfg.explicit_dropout)
        self.implicit_drop = nn.Dropout(cfg.implicit_dropout)
        norms = (nn.LayerNorm(width) if cfg.layer_norm else nn.Identity() for _ in range(2))
        self.real_norm, self.imaginary_norm = norms

    def explicit(self, r: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """lambda (cos theta, sin theta) with lambda = exp(A log|z| + b), theta = A arg z + b'."""
        log_modulus = 0.5 * (r.square() + p.square() + 1e-8).log()
        phase = torch.atan2(p, r)
        modulus = (self.orders @ self.explicit_drop(log_modulus) + self.modulus_bias).exp()  # [B, neurons, D]
        phase = self.orders @ self.explicit_drop(phase) + self.phase_bias
        return modulus * phase.cos(), modulus * phase.sin()

    def forward(self, r: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        real, imaginary = self.explicit(r, p)
        flat = self.implicit_drop(torch.stack([r, p]).flatten(2))  # [2, B, fields D]
        hidden = self.implicit(flat).relu().unflatten(2, self.shape)
        return self.real_norm(real + hidden[0]), self.imaginary_norm(imaginary + hidden[1])


@register
class EulerNet(CTRModel):
    """logit = w^T Re z_L + w^T Im z_L + 2 b; needs columns of equal width."""

    card = Card(
        name="EulerNet",
        family="ctr",
        title="EulerNet: Adaptive Feature Interaction Learning via Euler's Formula for CTR Prediction",
        authors="Tian, Bai, Zhao, Wen, Cao",
        year=2023,
        url="https://doi.org/10.1145/3539618.3591681",
        equations="z_j = mu_j e^{i e_j}; z'_m = prod_j |z_j|^{a_jm} e^{i a_jm arg z_j} (with biases) + "
        "ReLU(W Re z + b) + i ReLU(W Im z + b); logit = w^T Re z_L + w^T Im z_L + 2 b'",
        notes=(
            "One w and one W for real and imaginary parts and their dropout, as in the authors' code.",
            "Orders start as the identity, or nearly one-hot at random where the number of vectors changes.",
            "W is Glorot uniform, as in FuxiCTR; the authors' first code draws it from N(0, 0.01^2).",
            "The log of the published run counts 4 (F + 52) = 248 parameters more than its code has, the "
            "size of batch norms over the vectors of both parts.",
            "Dropout masks of the two parts are drawn together, not in two calls.",
        ),
        published=(
            Published(
                board="frappe_x1",
                metrics={"auc": 0.984775, "logloss": 0.131309},
                source="Ethan-TZ/EulerNet@d9c7f28 #Code4FuxiCTR#/Frappe/EulerNet_frappex1 (log)",
            ),
        ),
    )
    Config = EulerNetConfig

    def __init__(self, cfg: EulerNetConfig, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.embedding = Embedding(schema, cfg.embedding)
        fields, width = self.embedding.num_fields, self.embedding.dim
        self.modulus = nn.Parameter(torch.ones(fields, 1))  # mu
        sizes = [fields, *cfg.neurons]
        self.layers = nn.ModuleList(EulerLayer(n, m, width, cfg) for n, m in pairwise(sizes))
        self.out = linear(sizes[-1] * width, 1)

    def forward(self, x: Inputs) -> Tensor:
        e = self.embedding(x)  # [B, F, D]
        r, p = self.modulus * e.cos(), self.modulus * e.sin()
        for layer in self.layers:
            r, p = layer(r, p)  # [B, neurons, D]
        return (self.out(r.flatten(1)) + self.out(p.flatten(1))).squeeze(-1)  # [B]
