"""DCN-V2: cross layers of full or low rank, alone or with a perceptron (Wang et al., WWW 2021)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ...batch import Inputs
from ...card import Card, Published
from ...config import Search
from ...nn.embedding import Embedding
from ...nn.mlp import HIDDEN, MLP, MLPSettings, Width, linear
from ...registry import register
from ...schema import Schema
from ..base import CTRModel, ModelConfig


class CrossNet(nn.Module):
    """x_{l+1} = x_0 * (W_l x_l + b_l) + x_l, [B, width] -> [B, width], of degree layers + 1 in x_0."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(linear(width, width) for _ in range(layers))

    def forward(self, x0: Tensor) -> Tensor:
        x = x0
        for layer in self.layers:
            x = x + x0 * layer(x)  # addcmul multiplies by its factor of one in backward, twice
        return x


class CrossMixture(nn.Module):
    """x_{l+1} = x_0 * (sum_k p_k U_k tanh(C_k tanh(V_k^T x_l)) + b) + x_l with p = softmax_k(g_k . x_l).

    Eq. 3-4; [B, width] -> [B, width]. The bias stands outside the sum because the p_k sum to one.
    """

    def __init__(self, width: int, layers: int, experts: int, rank: int, share_gates: bool) -> None:
        super().__init__()
        self.experts, self.rank = experts, rank
        self.down = nn.ModuleList(linear(width, rank, False, blocks=experts) for _ in range(layers))  # V_k^T
        self.inner = nn.ParameterList(self._draw(experts, rank, rank) for _ in range(layers))  # C_k^T
        self.up = nn.ParameterList(self._draw(experts, rank, width) for _ in range(layers))  # U_k^T
        self.bias = nn.ParameterList(nn.Parameter(torch.zeros(width)) for _ in range(layers))
        self.gates = nn.ModuleList(linear(width, experts, False) for _ in range(1 if share_gates else layers))

    @staticmethod
    def _draw(experts: int, rows: int, columns: int) -> nn.Parameter:
        drawn = [nn.init.xavier_normal_(torch.empty(rows, columns)) for _ in range(experts)]
        return nn.Parameter(torch.stack(drawn))

    def forward(self, x0: Tensor) -> Tensor:
        x = x0
        for place, down in enumerate(self.down):
            gate = self.gates[place % len(self.gates)](x).softmax(1)  # [B, K]
            z = down(x).tanh().unflatten(1, (self.experts, self.rank)).transpose(0, 1)  # [K, B, r]
            z = torch.bmm(z, self.inner[place]).tanh().transpose(0, 1) * gate.unsqueeze(2)  # [B, K, r]
            mixed = torch.addmm(self.bias[place], z.flatten(1), self.up[place].flatten(0, 1))
            x = x + x0 * mixed
        return x


@register
class DCNv2(CTRModel):
    """Crosses of x_0 = [e_1; ...; e_F] and up to two MLPs, joined by one linear layer; widths may differ."""

    card = Card(
        name="DCN-V2",
        family="ctr",
        title="DCN V2: Improved Deep & Cross Network and Practical Lessons for Web-scale Learning to Rank "
        "Systems",
        authors="Wang, Shivanna, Cheng, Jain, Lin, Hong, Chi",
        year=2021,
        url="https://arxiv.org/abs/2008.13535",
        equations="x_{l+1} = x_0 * (W_l x_l + b_l) + x_l; parallel: logit = w^T [x_L; MLP(x_0)] + b; "
        "stacked: w^T MLP(x_L) + b; stacked_parallel: w^T [MLP(x_L); MLP'(x_0)] + b; "
        "crossnet_only: w^T x_L + b",
        notes=(
            "Preset mixture: low-rank experts (eq. 3-4), 4 of rank 32 and one gate for all layers, as in "
            "FuxiCTR; share_gates=false gives each layer its own, as the paper writes. Each matrix is drawn "
            "by Xavier for itself; FuxiCTR's draw takes the experts for a dimension of one tensor.",
            "The MLPs end with their last hidden layer (activation and dropout included), as in FuxiCTR.",
        ),
        published=(
            Published(
                board="frappe_x1",
                metrics={"auc": 0.984478, "logloss": 0.149149},
                source="BARS ranking/ctr/DCNv2/DCNv2_frappe_x1 (log)",
            ),
            Published(
                board="frappe_x1 (crossnet)",
                metrics={"auc": 0.972914, "logloss": 0.221563},
                source="BARS ranking/ctr/DCNv2/CrossNetv2_frappe_x1 (log)",
            ),
        ),
    )

    class Config(ModelConfig, MLPSettings):
        """Settings of DCN-V2; batch_norm and dropout are those of both MLPs."""

        structure: Annotated[
            Literal["crossnet_only", "stacked", "parallel", "stacked_parallel"],
            Search(choices=("parallel", "stacked")),
        ] = Field(
            "parallel", description="how cross layers and MLPs are joined; FuxiCTR: parallel"
        )
        hidden: Annotated[
            tuple[Width, ...], Search(choices=HIDDEN.choices, when="structure=parallel|stacked_parallel")
        ] = Field(
            (400, 400, 400), description="hidden widths of the MLP beside the cross layers"
        )
        batch_norm: Annotated[
            bool, Search(choices=(False, True), when="structure=parallel|stacked|stacked_parallel")
        ] = Field(
            False, description="batch normalisation between each hidden layer and its ReLU"
        )
        dropout: Annotated[
            float, Search(low=0.0, high=0.5, step=0.1, when="structure=parallel|stacked|stacked_parallel")
        ] = Field(
            0.0, ge=0, lt=1, description="rate of dropout after each hidden ReLU"
        )
        layers: Annotated[int, Search(low=1, high=6)] = Field(3, ge=1, description="cross layers; FuxiCTR: 3")
        experts: Annotated[int, Search(choices=(2, 4, 8), when="experts")] = Field(
            0, ge=0, description="low-rank experts K of a cross layer; 0: one full matrix"
        )
        rank: Annotated[int, Search(choices=(16, 32, 64), when="experts")] = Field(
            32, ge=1, description="rank r of an expert; FuxiCTR: 32"
        )
        share_gates: Annotated[bool, Search(choices=(False, True), when="experts")] = Field(
            True, description="one gate for all layers (FuxiCTR); false: one a layer (paper)"
        )
        stacked_hidden: Annotated[
            tuple[Width, ...], Search(choices=HIDDEN.choices, when="structure=stacked|stacked_parallel")
        ] = Field(
            (400, 400, 400), description="hidden widths of the MLP on the cross layers (stacked structures)"
        )

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "crossnet": {"structure": "crossnet_only"},
        "mixture": {"experts": 4},
    }

    def __init__(self, cfg: Config, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.embedding = Embedding(schema, cfg.embedding)
        width = self.embedding.flat_dim
        self.cross = (
            CrossMixture(width, cfg.layers, cfg.experts, cfg.rank, cfg.share_gates)
            if cfg.experts
            else CrossNet(width, cfg.layers)
        )
        stacked = cfg.stacked_hidden if cfg.structure.startswith("stacked") else ()
        self.stacked = MLP(width, stacked, 0, cfg.batch_norm, cfg.dropout)
        total = self.stacked.width
        self.parallel = None
        if cfg.structure.endswith("parallel"):
            self.parallel = MLP(width, cfg.hidden, 0, cfg.batch_norm, cfg.dropout)
            total += self.parallel.width
        self.out = linear(total, 1)

    def forward(self, x: Inputs) -> Tensor:
        x0 = self.embedding.flat(x)  # [B, F D]
        h = self.stacked(self.cross(x0))  # no MLP: the crosses themselves
        if self.parallel is not None:
            h = torch.cat([h, self.parallel(x0)], 1)
        return self.out(h).squeeze(-1)  # [B]
