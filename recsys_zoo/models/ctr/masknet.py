"""MaskNet: layers with inputs multiplied by masks from the embeddings (Wang et al., DLP-KDD 2021)."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ...batch import Inputs
from ...card import Card, Published
from ...config import Flag, Search
from ...nn.activation import relu_dropout
from ...nn.embedding import Embedding
from ...nn.mlp import MLP, Rate, Width, linear
from ...registry import register
from ...schema import Schema
from ..base import CTRModel, ModelConfig


class MaskNetConfig(ModelConfig):
    """Settings of MaskNet; `hidden` is the chain of blocks (serial) or the MLP on the blocks (parallel)."""

    hidden: Annotated[
        tuple[Width, ...], Search(choices=([400], [400, 400], [400, 400, 400], [800, 800]))
    ] = Field(
        (400, 400, 400), description="serial: width of each block; parallel: MLP; BARS: 400, 400, 400"
    )
    dropout: Rate = Field(0.0, description="rate of dropout after each ReLU, blocks included")
    structure: Annotated[Literal["serial", "parallel"], Search(choices=("serial", "parallel"))] = Field(
        "serial", description="blocks chained or side by side"
    )
    num_blocks: Annotated[int, Search(low=1, high=8, when="structure=parallel")] = Field(
        3, ge=1, description="blocks of the parallel form; BARS: 3, FuxiCTR: 1"
    )
    block_width: Annotated[Width, Search(choices=(50, 64, 100, 200), when="structure=parallel")] = Field(
        64, description="width of a block of the parallel form; FuxiCTR: 64"
    )
    reduction: Annotated[float, Search(choices=(0.5, 1.0, 2.0, 4.0))] = Field(
        1.0, gt=0, description="r: aggregation width over the width that is masked; FuxiCTR: 1, BARS: 2"
    )
    mask_start: float = Field(1.0, description="initial b_d; 1: plain layers first; FuxiCTR: 0")
    embedding_norm: Flag = Field(True, description="layer norm of each field's vector before it is masked")
    layer_norm: Flag = Field(True, description="layer norm between each block's product and its ReLU")


class FieldNorm(nn.Module):
    """Layer norm of each field's vector with scale and shift of its own, [B, F, D] -> [B, F, D]."""

    def __init__(self, fields: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(fields, width))
        self.bias = nn.Parameter(torch.zeros(fields, width))

    def forward(self, e: Tensor) -> Tensor:
        return torch.addcmul(self.bias, F.layer_norm(e, e.shape[2:]), self.weight)


class MaskBlock(nn.Module):
    """ReLU(LN(W (mask * h))), mask = W_d ReLU(W_a v + b_a) + b_d: v [B, inputs], h [B, masked]."""

    def __init__(self, inputs: int, masked: int, width: int, cfg: MaskNetConfig) -> None:
        super().__init__()
        aggregated = max(1, int(masked * cfg.reduction))
        self.mask = nn.Sequential(linear(inputs, aggregated), nn.ReLU(), linear(aggregated, masked))
        nn.init.constant_(self.mask[-1].bias, cfg.mask_start)
        layers: list[nn.Module] = [linear(masked, width, bias=False)]
        if cfg.layer_norm:
            layers.append(nn.LayerNorm(width))
        self.hidden = nn.Sequential(*layers, *relu_dropout(cfg.dropout))

    def forward(self, v: Tensor, h: Tensor) -> Tensor:
        return self.hidden(self.mask(v) * h)


@register
class MaskNet(CTRModel):
    """Mask blocks on v = [e_1; ...; e_F] and its normed form, chained or in parallel; needs equal widths."""

    card = Card(
        name="MaskNet",
        family="ctr",
        title="MaskNet: Introducing Feature-Wise Multiplication to CTR Ranking Models by Instance-Guided "
        "Mask",
        authors="Wang, She, Zhang",
        year=2021,
        url="https://arxiv.org/abs/2102.07619",
        equations="mask = W_d ReLU(W_a v + b_a) + b_d; block(v, h) = ReLU(LN(W (mask * h))); "
        "h_0 = LN(e_i) per field; serial: h_l = block_l(v, h_{l-1}), logit = w^T h_L + b; parallel: "
        "logit = MLP([block_k(v, h_0)])",
        notes=(
            "W has no bias and the mask no sigmoid, as in FuxiCTR.",
            "b_d starts at mask_start = 1; with FuxiCTR's 0 a chain of three blocks on vectors of 1e-4 "
            "starts with logits below 1e-7.",
            "The masks read the raw embeddings v, the blocks the normed ones.",
        ),
        published=(
            Published(
                board="frappe_x1 (parallel)",
                metrics={"auc": 0.983683, "logloss": 0.169580},
                source="BARS ranking/ctr/MaskNet/MaskNet_frappe_x1 (log)",
            ),
        ),
    )
    Config = MaskNetConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "serial": {"structure": "serial"},
        "parallel": {"structure": "parallel"},
    }

    def __init__(self, cfg: MaskNetConfig, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.embedding = Embedding(schema, cfg.embedding)
        fields, dim = self.embedding.num_fields, self.embedding.dim
        self.norm = FieldNorm(fields, dim) if cfg.embedding_norm else nn.Identity()
        width = fields * dim
        if cfg.structure == "serial":
            widths = [width, *cfg.hidden]
            shapes = list(pairwise(widths))
            self.out = MLP(widths[-1], (), 1)
        else:
            shapes = [(width, cfg.block_width)] * cfg.num_blocks
            self.out = MLP(cfg.block_width * cfg.num_blocks, cfg.hidden, 1, dropout=cfg.dropout)
        self.blocks = nn.ModuleList(MaskBlock(width, masked, size, cfg) for masked, size in shapes)

    def forward(self, x: Inputs) -> Tensor:
        e = self.embedding(x)  # [B, F, D]
        v, h = e.flatten(1), self.norm(e).flatten(1)
        if self.cfg.structure == "parallel":
            h = torch.cat([block(v, h) for block in self.blocks], 1)
        else:
            for block in self.blocks:
                h = block(v, h)
        return self.out(h).squeeze(-1)  # [B]
