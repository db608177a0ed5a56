"""FinalNet: factorised interactions in one block, or two that teach each other (Zhu et al., SIGIR 2023)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ...batch import Inputs
from ...card import Card, Published
from ...config import Flag, Search
from ...errors import InputError
from ...nn.activation import relu_dropout
from ...nn.embedding import Embedding
from ...nn.mlp import Rate, Width, linear
from ...nn.norm import BatchNorm, batch_norm_relu_dropout
from ...registry import register
from ...schema import Schema
from ..base import CTRModel, ModelConfig


class FinalNetConfig(ModelConfig):
    """Settings of FinalNet; `second_...` belong to the second block."""

    blocks: Annotated[Literal[1, 2], Search(choices=(1, 2))] = Field(
        2, description="blocks; two are averaged and distil themselves; FuxiCTR: 2"
    )
    hidden: Annotated[tuple[Width, ...], Search(choices=([400], [400, 400], [400, 400, 400]))] = Field(
        (400, 400), description="widths of the first block; BARS: 400, 400"
    )
    activation: Annotated[Literal["none", "relu"], Search(choices=("none", "relu"))] = Field(
        "none", description="after the batch norm of the first block; BARS: relu, FuxiCTR: none"
    )
    dropout: Rate = Field(0.0, description="rate of dropout in the first block")
    second_hidden: Annotated[
        tuple[Width, ...], Search(choices=([400], [400, 400], [400, 400, 400]), when="blocks=2")
    ] = Field(
        (400,), description="widths of the second block; BARS: 400"
    )
    second_activation: Annotated[
        Literal["none", "relu"], Search(choices=("none", "relu"), when="blocks=2")
    ] = Field(
        "none", description="activation of the second block"
    )
    second_dropout: Annotated[float, Search(low=0.0, high=0.5, step=0.1, when="blocks=2")] = Field(
        0.0, ge=0, lt=1, description="rate of dropout in the second block"
    )
    batch_norm: Flag = Field(True, description="batch normalisation after each interaction; FuxiCTR: true")
    residual: Annotated[Literal["concat", "sum"], Search(choices=("concat", "sum"))] = Field(
        "concat", description="how the linear half and the product are joined; FuxiCTR: concat"
    )
    field_gate: Flag = Field(False, description="the first block sees [E; E * (W E + b)]; FuxiCTR: false")


class FactorisedInteraction(nn.Module):
    """h = W x + b = [h_2; h_1]; [h_2; h_1 * h_2] (concat) or h_2 + h_1 * h_2 (sum), [B, width]."""

    def __init__(self, inputs: int, width: int, residual: Literal["concat", "sum"]) -> None:
        super().__init__()
        if residual == "concat" and width % 2:
            raise InputError(f"finalnet: width {width} has no halves to concatenate; choose an even number")
        self.residual = residual
        self.linear = linear(inputs, width if residual == "concat" else 2 * width)

    def forward(self, x: Tensor) -> Tensor:
        h2, h1 = self.linear(x).chunk(2, -1)
        return torch.cat([h2, h1 * h2], -1) if self.residual == "concat" else torch.addcmul(h2, h1, h2)


class FieldGate(nn.Module):
    """[E; E * (W E + b)] with W over fields: [B, F, D] -> [B, 2 F, D]; starts as [E; E]."""

    def __init__(self, fields: int) -> None:
        super().__init__()
        self.linear = nn.Linear(fields, fields)
        nn.init.zeros_(self.linear.weight)
        nn.init.ones_(self.linear.bias)

    def forward(self, e: Tensor) -> Tensor:
        return torch.cat([e, e * self.linear(e.transpose(1, 2)).transpose(1, 2)], 1)


def _block(
    inputs: int, widths: tuple[int, ...], activation: str, dropout: float, cfg: FinalNetConfig
) -> nn.Sequential:
    """Interaction -> batch norm -> activation -> dropout a layer, then a linear layer to the logit."""
    layers: list[nn.Module] = []
    for width in widths:
        layers.append(FactorisedInteraction(inputs, width, cfg.residual))
        if activation == "relu":
            layers += batch_norm_relu_dropout(width, dropout) if cfg.batch_norm else relu_dropout(dropout)
        else:
            layers += [BatchNorm(width)] * cfg.batch_norm
            layers += [nn.Dropout(dropout)] * bool(dropout)
        inputs = width
    return nn.Sequential(*layers, linear(inputs, 1))


@register
class FinalNet(CTRModel):
    """logit = mean of the blocks' logits; each layer doubles the degree; needs columns of equal width."""

    card = Card(
        name="FinalNet",
        family="ctr",
        title="FINAL: Factorized Interaction Layer for CTR Prediction",
        authors="Zhu, Jia, Cai, Dai, Li, Dong, Tang, Zhang",
        year=2023,
        url="https://doi.org/10.1145/3539618.3591988",
        equations="[h_2; h_1] = W x + b; x' = [h_2; h_1 * h_2]; two blocks: logit = (y_1 + y_2) / 2, "
        "loss = BCE(t, p) + BCE(stop(p), p_1) + BCE(stop(p), p_2)",
        notes=(
            "The terms that teach p_1 and p_2 are means over rows; row weights act on BCE(t, p) only.",
            "The field gate's W starts at 0 and its bias at 1, as in FuxiCTR.",
        ),
        published=(
            Published(
                board="frappe_x1 (one)",
                metrics={"auc": 0.985223, "logloss": 0.136554},
                source="BARS ranking/ctr/FinalNet/FinalNet_frappe_x1/FinalNet_1B_frappe_x1 (log)",
            ),
            Published(
                board="frappe_x1 (two)",
                metrics={"auc": 0.985744, "logloss": 0.131070},
                source="BARS ranking/ctr/FinalNet/FinalNet_frappe_x1/FinalNet_2B_frappe_x1 (log)",
            ),
        ),
    )
    Config = FinalNetConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = {"one": {"blocks": 1}, "two": {"blocks": 2}}

    def __init__(self, cfg: FinalNetConfig, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.embedding = Embedding(schema, cfg.embedding)
        width = self.embedding.num_fields * self.embedding.dim
        self.gate = FieldGate(self.embedding.num_fields) if cfg.field_gate else None
        self.block = _block(width * (1 + cfg.field_gate), cfg.hidden, cfg.activation, cfg.dropout, cfg)
        self.second_block = None
        if cfg.blocks == 2:
            self.second_block = _block(
                width, cfg.second_hidden, cfg.second_activation, cfg.second_dropout, cfg
            )

    def block_logits(self, x: Inputs) -> list[Tensor]:
        """Logits [B] of each block."""
        e = self.embedding(x)  # [B, F, D]
        gated = e if self.gate is None else self.gate(e)
        logits = [self.block(gated.flatten(1)).squeeze(-1)]
        if self.second_block is not None:
            logits.append(self.second_block(e.flatten(1)).squeeze(-1))
        return logits

    def forward(self, x: Inputs) -> Tensor:
        return _mean(self.block_logits(x))  # [B]

    def train_forward(self, x: Inputs) -> tuple[Tensor, dict[str, Tensor]]:
        """With two blocks, each learns the click probability of their mean, which gets no gradient here."""
        blocks = self.block_logits(x)
        logits = _mean(blocks)
        if len(blocks) == 1:
            return logits, {}
        p = logits.detach().float().sigmoid()
        losses = (F.binary_cross_entropy_with_logits(y.float(), p) for y in blocks)
        return logits, dict(zip(("first_distilled", "second_distilled"), losses, strict=True))


def _mean(logits: list[Tensor]) -> Tensor:
    return logits[0] if len(logits) == 1 else 0.5 * (logits[0] + logits[1])
