"""AFN: products of learnt real powers of the fields (Cheng et al., AAAI 2020); AFN+ adds a perceptron."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from ...batch import Inputs
from ...card import Card, Published
from ...config import Flag, Search
from ...nn.embedding import Embedding
from ...nn.mlp import MLP, MLPSettings, Width, linear
from ...nn.norm import BatchNorm
from ...registry import register
from ...schema import Schema
from ..base import CTRModel, ModelConfig

SMALLEST = 1e-5  # absolute values are raised to it before the logarithm


class LogarithmicLayer(nn.Module):
    """Each neuron is a product of powers of the fields: [B, F, D] -> [B, D, neurons].

    exp(W log|e|) over fields, with batch norms after the logarithm (one a field) and the exponential (one
    a neuron). All in the vectors' precision: autocast would round the logarithms that are put into exp.
    Neurons come last because a norm over the last axis reads memory in order.
    """

    def __init__(self, fields: int, neurons: int) -> None:
        super().__init__()
        self.orders = linear(fields, neurons, bias=False)
        self.log_norm, self.exp_norm = nn.BatchNorm1d(fields), BatchNorm(neurons)

    def forward(self, e: Tensor) -> Tensor:
        with torch.autocast(e.device.type, enabled=False):
            logs = self.log_norm(e.abs().clamp(min=SMALLEST).log())  # [B, F, D]
            powers = self.orders(logs.transpose(1, 2)).exp_()  # [B, D, neurons]
            return self.exp_norm(powers.flatten(0, 1)).view_as(powers)


@register
class AFN(CTRModel):
    """logit = MLP(flatten(powers)), AFN+: w^T (MLP(flatten(powers)), MLP'(x_0')) + b; equal widths."""

    card = Card(
        name="AFN",
        family="ctr",
        title="Adaptive Factorization Network: Learning Adaptive-Order Feature Interactions",
        authors="Cheng, Shen, Huang",
        year=2020,
        url="https://arxiv.org/abs/1909.03276",
        equations="l = BN(log max(|e|, 1e-5)); c_k = BN(exp(sum_i W_ki l_i)); y = MLP([c_1; ...; c_m]); "
        "logit = y; preset plus: logit = w_1 y + w_2 MLP'([e'_1; ...; e'_F]) + b with own vectors e'",
        notes=(
            "Absolute values are raised to 1e-5, as in FuxiCTR, whose code says that the paper has 1e-7.",
            "The sign of a vector's entry is lost, and entries below 1e-5 get no gradient.",
            "The batch norms of the logarithmic layer are always there; batch_norm is that of the MLPs.",
            "Several arrays of B x neurons x D numbers: 164 MB each in fp32 for 4096 rows, 1000 neurons, D = "
            "10.",
            "BARS runs on Frappe: 1000 neurons, hidden 400, dropout 0.4; AFN+ dnn_hidden 3 x 400.",
        ),
        published=(
            Published(
                board="frappe_x1",
                metrics={"auc": 0.981099, "logloss": 0.233090},
                source="BARS ranking/ctr/AFN/AFN_frappe_x1 (log)",
            ),
            Published(
                board="frappe_x1 (plus)",
                metrics={"auc": 0.982563, "logloss": 0.213933},
                source="BARS ranking/ctr/AFN/AFN+_frappe_x1 (log)",
            ),
        ),
    )

    class Config(ModelConfig, MLPSettings):
        """Settings of AFN and AFN+; hidden and dropout are those of the MLP on the powers."""

        neurons: Annotated[int, Search(choices=(200, 400, 600, 800, 1000, 1200))] = Field(
            200, ge=1, description="logarithmic neurons m; BARS run on Frappe: 1000"
        )
        hidden: Annotated[tuple[Width, ...], Search(choices=([400], [400, 400], [400, 400, 400]))] = Field(
            (400,), description="widths of the hidden layers on the powers; BARS run on Frappe: 400"
        )
        batch_norm: Flag = Field(False, description="batch normalisation in both MLPs")
        dnn_hidden: Annotated[
            tuple[Width, ...], Search(choices=([400], [400, 400], [400, 400, 400]), when="dnn_hidden")
        ] = Field(
            (), description="widths of the hidden layers of AFN+'s own MLP; empty: no such MLP, AFN"
        )
        dnn_dropout: Annotated[float, Search(low=0.0, high=0.5, step=0.1, when="dnn_hidden")] = Field(
            0.0, ge=0, lt=1, description="rate of dropout in AFN+'s own MLP"
        )

    presets: ClassVar[dict[str, dict[str, Any]]] = {"plus": {"dnn_hidden": [400, 400, 400]}}

    def __init__(self, cfg: Config, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.embedding = Embedding(schema, cfg.embedding)
        fields, width = self.embedding.num_fields, self.embedding.dim
        self.logarithmic = LogarithmicLayer(fields, cfg.neurons)
        self.mlp = MLP(cfg.neurons * width, cfg.hidden, 1, cfg.batch_norm, cfg.dropout)
        self.dnn = None
        if cfg.dnn_hidden:
            self.dnn_embedding = Embedding(schema, cfg.embedding)
            self.dnn = MLP(fields * width, cfg.dnn_hidden, 1, cfg.batch_norm, cfg.dnn_dropout)
            self.out = linear(2, 1)

    def forward(self, x: Inputs) -> Tensor:
        powers = self.logarithmic(self.embedding(x))  # [B, D, neurons]
        logit = self.mlp(powers.flatten(1))
        if self.dnn is not None:
            logit = self.out(torch.cat([logit, self.dnn(self.dnn_embedding.flat(x))], 1))
        return logit.squeeze(1)  # [B]
