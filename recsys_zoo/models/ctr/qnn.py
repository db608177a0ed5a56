"""QNN: layers that multiply their input by several of its own ReLU maps (QNN-alpha; Li et al., KDD 2025)."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ...batch import Inputs
from ...card import Card, Published
from ...config import Flag, Search
from ...errors import InputError
from ...nn.activation import ReLUDropout
from ...nn.embedding import Embedding
from ...nn.mlp import Rate, linear
from ...nn.norm import BatchNormReLUDropout
from ...registry import register
from ...schema import Schema
from ..base import CTRModel, ModelConfig


class QNNConfig(ModelConfig):
    """Settings of QNN."""

    layers: Annotated[int, Search(low=1, high=5)] = Field(
        3, ge=1, description="quadratic layers L; FuxiCTR: 3"
    )
    rows: Annotated[int, Search(low=2, high=8)] = Field(
        3, ge=1, description="maps R of a layer; FuxiCTR: 3, authors' runs: 2 to 13"
    )
    heads: Annotated[int, Search(choices=(1, 2))] = Field(
        1, ge=1, description="parts of each vector that go together; FuxiCTR: 1"
    )
    batch_norm: Flag = Field(False, description="batch normalisation before each ReLU; FuxiCTR: true")
    dropout: Rate = Field(0.0, description="rate after each ReLU and each layer; FuxiCTR: 0.1")
    self_ensemble: Flag = Field(True, description="train on the mean of two dropout masks, which it teaches")


class QuadraticLayer(nn.Module):
    """sum_r permute(x) * ReLU(W_r x + b_r) + x, [B, F D] -> [B, F D]; one head: no permutation."""

    def __init__(self, fields: int, dim: int, cfg: QNNConfig) -> None:
        super().__init__()
        width = fields * dim
        self.rows, self.fields, self.heads = cfg.rows, fields, cfg.heads
        self.linear = linear(width, cfg.rows * width)
        outputs = cfg.rows * width
        self.norm = BatchNormReLUDropout(outputs, cfg.dropout) if cfg.batch_norm else ReLUDropout(cfg.dropout)
        self.dropout = nn.Dropout(cfg.dropout)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm.after(self.linear, x)
        # with F D = heads * d: the maps of head h are rows h R to h R + R - 1 of width d
        factor = h.unflatten(1, (self.heads, self.rows, -1)).sum(2).flatten(1)
        by_head = x.unflatten(1, (self.fields, self.heads, -1)).transpose(1, 2).flatten(1)
        return self.dropout(torch.addcmul(x, by_head, factor))


@register
class QNN(CTRModel):
    """logit = w^T x_L + b of quadratic layers on x_0 = [e_1; ...; e_F]; needs columns of equal width."""

    card = Card(
        name="QNN",
        family="ctr",
        title="Revisiting Feature Interactions from the Perspective of Quadratic Neural Networks for "
        "Click-through Rate Prediction",
        authors="Li, Zhang, Zhang, Sang, Zhu",
        year=2025,
        url="https://arxiv.org/abs/2505.17999",
        equations="x_{l+1} = sum_r x_l * ReLU(W_r x_l + b_r) + x_l; logit = w^T x_L + b; training with "
        "two dropout masks, p = (p_1 + p_2) / 2: BCE(t, p) + BCE(stop(p), p_1) + BCE(stop(p), p_2)",
        notes=(
            "With several heads the first factor is in the order (head, field) and the rest in the order of "
            "the input, as in the authors' code.",
            "Without dropout both passes are equal and the second is not computed.",
            "The terms that teach p_1 and p_2 are means over rows; row weights act on BCE(t, p) only.",
            "The authors' Frappe_x1 has vectors of width 16 and drops values seen once (min count 2).",
        ),
        published=(
            Published(
                board="frappe_x1 (min count 2, width 16)",
                metrics={"auc": 0.986210, "logloss": 0.131329},
                source="salmon1802/QNN@08c5db8 checkpoints/Frappe_x1_h5/QNN_T26_Frappe_045 (log)",
            ),
            Published(
                board="criteo_x4 (min count 10, width 16)",
                metrics={"auc": 0.816305, "logloss": 0.435862},
                source="salmon1802/QNN@08c5db8 checkpoints/Criteo_x4_10_h5/QNN_T26_Criteo_001 (log)",
            ),
        ),
    )
    Config = QNNConfig

    def __init__(self, cfg: QNNConfig, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.embedding = Embedding(schema, cfg.embedding)
        fields, dim = self.embedding.num_fields, self.embedding.dim
        if dim % cfg.heads:
            raise InputError(
                f"qnn: embedding.dim={dim} is not divisible by heads={cfg.heads}; "
                f"choose a multiple of {cfg.heads}"
            )
        self.layers = nn.Sequential(*(QuadraticLayer(fields, dim, cfg) for _ in range(cfg.layers)))
        self.out = linear(fields * dim, 1)

    def _logit(self, x0: Tensor) -> Tensor:
        return self.out(self.layers(x0)).squeeze(-1)

    def forward(self, x: Inputs) -> Tensor:
        return self._logit(self.embedding(x).flatten(1))  # [B]

    def train_forward(self, x: Inputs) -> tuple[Tensor, dict[str, Tensor]]:
        """The logit of the mean probability of two passes, and what teaches it to both."""
        if not self.cfg.self_ensemble:
            return self(x), {}
        x0 = self.embedding(x).flatten(1)
        first = self._logit(x0).float()
        second = self._logit(x0).float() if self.cfg.dropout else first
        yes = torch.logaddexp(F.logsigmoid(first), F.logsigmoid(second))
        logits = yes - torch.logaddexp(F.logsigmoid(-first), F.logsigmoid(-second))
        p = logits.detach().sigmoid()
        losses = (F.binary_cross_entropy_with_logits(y, p) for y in (first, second))
        return logits, dict(zip(("first_distilled", "second_distilled"), losses, strict=True))
