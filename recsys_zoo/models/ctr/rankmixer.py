"""RankMixer: tokens mixed by a transpose and a feed-forward network each (Zhu et al., CIKM 2025)."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ...batch import Inputs
from ...card import Card
from ...config import Search
from ...errors import InputError
from ...nn.embedding import Embedding
from ...nn.mlp import linear
from ...registry import register
from ...schema import Schema
from ..base import CTRModel, ModelConfig


class RankMixerConfig(ModelConfig):
    """Settings of RankMixer; the defaults are small, for public data."""

    tokens: Annotated[int, Search(choices=(4, 8, 16))] = Field(8, ge=1, description="T, tokens and heads")
    width: Annotated[int, Search(choices=(16, 32, 64))] = Field(
        32, ge=1, description="D, width of a token; a multiple of tokens"
    )
    layers: Annotated[int, Search(low=1, high=4)] = Field(2, ge=1, description="blocks L; paper: 2")
    ratio: Annotated[int, Search(choices=(1, 2, 4))] = Field(
        4, ge=1, description="k: hidden units of a token's network over D"
    )


class PerToken(nn.Module):
    """A linear layer of each token: [B, T, inputs] -> [B, T, outputs], Glorot normal, biases 0."""

    def __init__(self, tokens: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(tokens, inputs, outputs) * (2 / (inputs + outputs)) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(tokens, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x.transpose(0, 1), self.weight).transpose(0, 1)


def mix(x: Tensor) -> Tensor:
    """Token h of the result holds head h of all tokens; x [B, T, D], D a multiple of T = heads.

    >>> mix(torch.tensor([[[1, 2, 3, 4], [5, 6, 7, 8]]])).tolist()
    [[[1, 2, 5, 6], [3, 4, 7, 8]]]
    """
    return x.unflatten(2, (x.shape[1], -1)).transpose(1, 2).flatten(2)


class Block(nn.Module):
    """S = LN(mix(X) + X); LN(FFN(S) + S), the FFN of each token GELU with hidden width k D; [B, T, D]."""

    def __init__(self, cfg: RankMixerConfig) -> None:
        super().__init__()
        self.mix_norm, self.ffn_norm = nn.LayerNorm(cfg.width), nn.LayerNorm(cfg.width)
        hidden = cfg.ratio * cfg.width
        self.ffn = nn.Sequential(
            PerToken(cfg.tokens, cfg.width, hidden), nn.GELU(), PerToken(cfg.tokens, hidden, cfg.width)
        )

    def forward(self, x: Tensor) -> Tensor:
        s = self.mix_norm(mix(x) + x)
        return self.ffn_norm(self.ffn(s) + s)


@register
class RankMixer(CTRModel):
    """logit = w^T mean_t X_L + b; the tokens are equal parts of [e_1; ...; e_F], so widths may differ."""

    card = Card(
        name="RankMixer",
        family="ctr",
        title="RankMixer: Scaling Up Ranking Models in Industrial Recommenders",
        authors="Zhu, Fan, Zhu, Jiang, Wang, Han, Ding, Wang, Zhao, Gong, Yang, Chai, Chen, Zheng, Chen, "
        "Zhang, Zhou, Xu, Yang, Wu, Liu",
        year=2025,
        url="https://arxiv.org/abs/2507.15551",
        equations="x_t = W_t part_t([e_1; ...; e_F]) + b_t; S = LN(mix(X) + X); X' = LN(PFFN(S) + S), "
        "PFFN_t(s) = W_t^2 GELU(W_t^1 s + b_t^1) + b_t^2; logit = w^T mean_t x_t + b",
        notes=(
            "Tokens are equal parts of the columns in schema order, the last filled up with zeros; the paper "
            "groups fields by meaning first. Put related columns side by side.",
            "Heads equal tokens, so that mixing needs no padding; the sparse mixture of experts is not here.",
            "One linear layer on the mean token; the paper has a tower for each task.",
            "Its authors give no number on public data.",
        ),
    )
    Config = RankMixerConfig

    def __init__(self, cfg: RankMixerConfig, schema: Schema) -> None:
        super().__init__(cfg, schema)
        if cfg.width % cfg.tokens:
            raise InputError(
                f"rankmixer: width={cfg.width} is not divisible by tokens={cfg.tokens}; "
                f"choose a multiple of {cfg.tokens}"
            )
        self.embedding = Embedding(schema, cfg.embedding)
        size = -(-self.embedding.flat_dim // cfg.tokens)
        self.padding = size * cfg.tokens - self.embedding.flat_dim
        self.tokenise = PerToken(cfg.tokens, size, cfg.width)
        self.blocks = nn.Sequential(*(Block(cfg) for _ in range(cfg.layers)))
        self.out = linear(cfg.width, 1)

    def forward(self, x: Inputs) -> Tensor:
        flat = F.pad(self.embedding.flat(x), (0, self.padding))
        tokens = self.tokenise(flat.unflatten(1, (self.cfg.tokens, -1)))  # [B, T, D]
        return self.out(self.blocks(tokens).mean(1)).squeeze(-1)  # [B]
