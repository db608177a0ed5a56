"""FinalMLP: two perceptrons on gated inputs, joined by a bilinear form (Mao et al., AAAI 2023)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from ...batch import Inputs
from ...card import Card, Published
from ...config import Flag, Search
from ...errors import InputError
from ...nn.embedding import Embedding, EmbeddingConfig
from ...nn.mlp import MLP, MLPSettings, Width, linear
from ...registry import register
from ...schema import Schema
from ..base import CTRModel, ModelConfig


class FinalMLPConfig(ModelConfig, MLPSettings):
    """Settings of FinalMLP; hidden, batch_norm and dropout belong to the first stream."""

    second_hidden: Annotated[
        tuple[Width, ...], Search(choices=([100], [400], [400, 400], [400, 400, 400], [800]))
    ] = Field(
        (400, 400, 400), description="hidden widths of the second stream; BARS runs tune it apart"
    )
    second_batch_norm: Annotated[bool, Search(choices=(False, True), when="second_hidden")] = Field(
        False, description="batch normalisation in the second stream"
    )
    second_dropout: Annotated[float, Search(low=0.0, high=0.5, step=0.1, when="second_hidden")] = Field(
        0.0, ge=0, lt=1, description="rate of dropout in the second stream"
    )
    heads: Annotated[int, Search(choices=(1, 2, 5, 10))] = Field(
        1, ge=1, description="blocks of the bilinear form; FuxiCTR: 1, BARS: 5 on Frappe_x1"
    )
    gates: Flag = Field(True, description="feature selection; without it both streams see x_0")
    gate_hidden: Annotated[tuple[Width, ...], Search(choices=([64], [400], [800]), when="gates")] = Field(
        (64,), description="hidden widths of both gates; FuxiCTR: 64"
    )
    context: tuple[str, ...] = Field((), description="columns the first gate sees; none: a learnt vector")
    second_context: tuple[str, ...] = Field(
        (), description="columns the second gate sees; none: a learnt vector"
    )


class Gate(nn.Module):
    """2 sigmoid(MLP(context)) [B or 1, width]; the context has embeddings of its own."""

    def __init__(
        self,
        schema: Schema,
        cfg: EmbeddingConfig,
        columns: tuple[str, ...],
        hidden: tuple[int, ...],
        width: int,
    ) -> None:
        super().__init__()
        if columns:
            self.embedding = Embedding(schema, cfg, columns=columns)
            inputs = self.embedding.flat_dim
        else:
            self.embedding, inputs = None, cfg.dim
            self.vector = nn.Parameter(0.01 * torch.randn(1, inputs))
        self.mlp = MLP(inputs, hidden, width)

    def forward(self, x: Inputs) -> Tensor:
        context = self.vector if self.embedding is None else self.embedding.flat(x)
        return 2 * self.mlp(context).sigmoid()


class Fusion(nn.Module):
    """b + w_1 o_1 + w_2 o_2 + sum_h o_{1h}^T W_h o_{2h}: [B, first], [B, second] -> [B]."""

    def __init__(self, first: int, second: int, heads: int) -> None:
        super().__init__()
        for name, width in (("hidden", first), ("second_hidden", second)):
            if width % heads:
                raise InputError(
                    f"finalmlp: the last of {name}, {width}, is not divisible by heads={heads}; "
                    f"choose a multiple of {heads}"
                )
        self.heads = heads
        self.first, self.second = linear(first, 1), linear(second, 1)
        self.weight = nn.Parameter(torch.empty(heads, first // heads, second // heads))
        nn.init.normal_(self.weight, std=(2 / (self.weight.numel() + 1)) ** 0.5)  # Glorot of n weights to one

    def forward(self, o1: Tensor, o2: Tensor) -> Tensor:
        left = o1.unflatten(1, (self.heads, -1)).transpose(0, 1)  # [heads, B, first / heads]
        right = o2.unflatten(1, (self.heads, -1)).transpose(0, 1)
        pairs = (torch.bmm(left, self.weight) * right).sum((0, 2))
        return (self.first(o1) + self.second(o2)).squeeze(-1) + pairs


@register
class FinalMLP(CTRModel):
    """Two streams MLP_k(x_0 * gate_k) with x_0 = [e_1; ...; e_F], and a bilinear form; widths may differ."""

    card = Card(
        name="FinalMLP",
        family="ctr",
        title="FinalMLP: An Enhanced Two-Stream MLP Model for CTR Prediction",
        authors="Mao, Zhu, Su, Cai, Li, Dong",
        year=2023,
        url="https://arxiv.org/abs/2304.00902",
        equations="x_k = x_0 * 2 sigmoid(MLP_gk(context_k)), o_k = MLP_k(x_k); "
        "logit = b + w_1^T o_1 + w_2^T o_2 + sum_h o_{1h}^T W_h o_{2h}",
        notes=(
            "A gate without context columns starts from N(0, 0.01^2); FuxiCTR starts from zeros, where the "
            "ReLU of the gate's hidden layer passes no gradient and only its last bias learns.",
            "Two biases in the fusion, one a stream, as in FuxiCTR; their sum is the b of the equation.",
            "gates = false is DualMLP with the bilinear fusion.",
        ),
        published=(
            Published(
                board="frappe_x1",
                metrics={"auc": 0.986072, "logloss": 0.148415},
                source="BARS ranking/ctr/FinalMLP/FinalMLP_frappe_x1 (log)",
            ),
        ),
    )
    Config = FinalMLPConfig

    def __init__(self, cfg: FinalMLPConfig, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.embedding = Embedding(schema, cfg.embedding)
        width = self.embedding.flat_dim
        self.gate = self.second_gate = None
        if cfg.gates:
            self.gate = Gate(schema, cfg.embedding, cfg.context, cfg.gate_hidden, width)
            self.second_gate = Gate(schema, cfg.embedding, cfg.second_context, cfg.gate_hidden, width)
        self.mlp = MLP(width, cfg.hidden, 0, cfg.batch_norm, cfg.dropout)
        self.second_mlp = MLP(width, cfg.second_hidden, 0, cfg.second_batch_norm, cfg.second_dropout)
        self.fusion = Fusion(self.mlp.width, self.second_mlp.width, cfg.heads)

    def forward(self, x: Inputs) -> Tensor:
        first = second = self.embedding.flat(x)  # [B, F D]
        if self.gate is not None and self.second_gate is not None:
            first, second = first * self.gate(x), second * self.second_gate(x)
        return self.fusion(self.mlp(first), self.second_mlp(second))  # [B]
