"""AutoInt: fields attend to each other (Song et al., CIKM 2019); AutoInt+ adds a multi-layer perceptron."""

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
from ...nn.attention import attend, attend_with_weights, project_and_attend
from ...nn.embedding import Embedding, FirstOrder
from ...nn.mlp import HIDDEN, MLP, BiasInit, MLPSettings, Rate, WeightInit, Width, linear
from ...registry import register
from ...schema import Schema
from ..base import CTRModel, ModelConfig

_PAPER = {
    "proj_bias": False,
    "proj_relu": False,
    "scale": False,
    "res": "always",
    "norm": "none",
    "norm_eps": 1e-5,
    "proj_init": "xavier_normal",
    "bias_init": "zero",
    "embedding": {"init_std": 1e-4},
}


class AutoIntConfig(ModelConfig, MLPSettings):
    """Settings of AutoInt and AutoInt+; hidden, batch_norm and dropout belong to the MLP of AutoInt+."""

    layers: Annotated[int, Search(low=1, high=7)] = Field(
        3, ge=0, description="interacting layers L (eq. 5-8); paper: 3"
    )
    heads: Annotated[int, Search(choices=(1, 2, 4, 8))] = Field(
        2, ge=1, description="heads H of each layer; paper: 2"
    )
    attention_dim: Annotated[int, Search(choices=(32, 64, 128))] = Field(
        64, ge=1, description="width of all heads together; paper: d' = 32 a head: 64"
    )
    proj_bias: bool = Field(False, description="bias of the projections; authors' code: true")
    proj_relu: bool = Field(False, description="ReLU on projections, residual too; authors' code: true")
    scale: Flag = Field(False, description="scores / sqrt(attention_dim / heads); authors' code: true")
    res: Literal["always", "if_needed", "none"] = Field(
        "always", description="residual W_Res e; if_needed: e itself where the width stays (FuxiCTR)"
    )
    norm: Annotated[Literal["none", "pre_relu", "post_relu"], Search(choices=("none", "pre_relu"))] = Field(
        "none", description="layer norm before (FuxiCTR, optional) or after (authors' code) the last ReLU"
    )
    norm_eps: float = Field(1e-5, gt=0, description="inside the root of the layer norm; authors' code: 1e-8")
    attention_dropout: Rate = Field(0.0, description="rate of dropout on the attention weights")
    embedding_dropout: Rate = Field(0.0, description="rate of dropout on the embeddings")
    hidden: Annotated[tuple[Width, ...], HIDDEN] = Field(
        (), description="hidden widths of the MLP; empty: no MLP, AutoInt"
    )
    wide: Flag = Field(False, description="add the first-order term sum_i w_{x_i}, without a bias")
    proj_init: WeightInit = Field("xavier_normal", description="projections; authors' code: xavier_uniform")
    bias_init: BiasInit = Field("zero", description="biases of MLP and output; authors' code: normal")


class InteractingLayer(nn.Module):
    """[B, F, inputs] -> [B, F, attention_dim] (eq. 5-8)."""

    def __init__(self, inputs: int, cfg: AutoIntConfig) -> None:
        super().__init__()
        width = cfg.attention_dim
        self.cfg = cfg
        self.factor = (width // cfg.heads) ** -0.5 if cfg.scale else 1.0
        self.project = linear(inputs, width, cfg.proj_bias, cfg.proj_init, blocks=3)  # queries, keys, values
        self.residual = None
        if cfg.res == "always" or (cfg.res == "if_needed" and inputs != width):
            self.residual = linear(inputs, width, cfg.proj_bias, cfg.proj_init)
        self.activation = nn.ReLU() if cfg.proj_relu else nn.Identity()
        self.norm = nn.Identity() if cfg.norm == "none" else nn.LayerNorm(width, cfg.norm_eps)

    def forward(self, x: Tensor, dropout: float) -> Tensor:
        early = self.cfg.norm != "pre_relu"
        own = self.residual is None and self.cfg.res != "none"  # x itself is added
        settings = {"blocks": 3 if self.residual is None else 4, "relu": early}
        if self.cfg.proj_bias or self.cfg.proj_relu:
            skip = x if own else None
            out = attend(self._project(x), self.cfg.heads, self.factor, dropout, skip=skip, **settings)
        else:
            weight, _ = self._joined()
            out = project_and_attend(
                x, weight, self.cfg.heads, self.factor, dropout, residual=own, **settings
            )
        return self.norm(out) if early else self.norm(out).relu()

    def explain(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The output and the attention weights [H, B, F keys, F queries]."""
        factors = self._project(x)[..., : 3 * self.cfg.attention_dim]
        return self(x, 0.0), attend_with_weights(factors, self.cfg.heads, self.factor)[1]

    def _project(self, x: Tensor) -> Tensor:
        """Queries, keys and values, and the projected residual where there is one, by one product."""
        return self.activation(F.linear(x, *self._joined()))

    def _joined(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of all projections together."""
        if self.residual is None:
            return self.project.weight, self.project.bias
        parts = (self.project, self.residual)
        weight = torch.cat([part.weight for part in parts])
        return weight, torch.cat([part.bias for part in parts]) if self.cfg.proj_bias else None


@register
class AutoInt(CTRModel):
    """logit = w^T flatten(Z_L) + b [+ MLP(flatten(E))] [+ sum_i w_{x_i}]; needs columns of equal width."""

    card = Card(
        name="AutoInt",
        family="ctr",
        title="AutoInt: Automatic Feature Interaction Learning via Self-Attentive Neural Networks",
        authors="Song, Shi, Xiao, Duan, Xu, Zhang, Tang",
        year=2019,
        url="https://arxiv.org/abs/1810.11921",
        equations="a_{mk} = softmax_k <W_Q e_m, W_K e_k> per head; z_m = concat_h sum_k a_{mk} W_V e_k; "
        "out_m = ReLU(z_m + W_Res e_m); logit = w^T [out_1; ...; out_F] + b",
        notes=(
            "Preset paper: the equations, which do not say how weights are drawn; here Xavier normal, tables "
            "from N(0, 1e-4^2).",
            "Preset official: the authors' TensorFlow code at e07370a. Unlike the equations it has ReLU and "
            "bias on all projections, scores / sqrt(d'), layer norm after the ReLU, other initial weights.",
            "Preset fuxi: FuxiCTR. The residual is e itself where its width is right. Its runs choose scale "
            "and layer norm before the ReLU; its net_dropout is attention_dropout and dropout together.",
            "Preset plus: the MLP of the authors' joint run (400, 400); BARS runs of AutoInt+ have 3 x 400.",
            "attention_dim counts all heads, like block_shape of the authors and attention_dim of FuxiCTR.",
        ),
        published=(
            Published(
                board="frappe_x1",
                metrics={"auc": 0.983085, "logloss": 0.163684},
                source="BARS ranking/ctr/AutoInt/AutoInt_frappe_x1 (log)",
            ),
            Published(
                board="frappe_x1 (plus)",
                metrics={"auc": 0.984812, "logloss": 0.149007},
                source="BARS ranking/ctr/AutoInt/AutoInt+_frappe_x1 (log)",
            ),
            Published(
                board="criteo, authors' split",
                metrics={"auc": 0.8088, "logloss": 0.4430},
                source="DeepGraphLearning/RecommenderSystems@e07370a featureRec/README.md",
            ),
        ),
    )
    Config = AutoIntConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": _PAPER,
        "official": {
            **_PAPER,
            "proj_bias": True,
            "proj_relu": True,
            "scale": True,
            "norm": "post_relu",
            "norm_eps": 1e-8,
            "proj_init": "xavier_uniform",
            "bias_init": "normal",
            "embedding": {"init_std": 0.01},
        },
        "fuxi": {**_PAPER, "res": "if_needed"},
        "plus": {"hidden": [400, 400]},
    }

    def __init__(self, cfg: AutoIntConfig, schema: Schema) -> None:
        super().__init__(cfg, schema)
        if cfg.attention_dim % cfg.heads:
            raise InputError(
                f"autoint: attention_dim={cfg.attention_dim} is not divisible by "
                f"heads={cfg.heads}; choose a multiple of {cfg.heads}"
            )
        self.embedding = Embedding(schema, cfg.embedding)
        fields, width = self.embedding.num_fields, self.embedding.dim
        self.dropout, self.attention_dropout = nn.Dropout(cfg.embedding_dropout), cfg.attention_dropout
        inputs = [width, *[cfg.attention_dim] * cfg.layers]
        self.layers = nn.ModuleList(InteractingLayer(size, cfg) for size in inputs[:-1])
        self.out = linear(fields * inputs[-1], 1, bias_init=cfg.bias_init)
        self.mlp = None
        if cfg.hidden:
            self.mlp = MLP(fields * width, cfg.hidden, 1, cfg.batch_norm, cfg.dropout, cfg.bias_init)
        self.linear = FirstOrder(schema, cfg.embedding, bias=False) if cfg.wide else None

    def forward(self, x: Inputs) -> Tensor:
        e = z = self.dropout(self.embedding(x))  # [B, F, D]
        rate = self.attention_dropout if self.training else 0.0
        for layer in self.layers:
            z = layer(z, rate)  # [B, F, attention_dim]
        logit = self.out(z.flatten(1))
        if self.mlp is not None:
            logit = logit + self.mlp(e.flatten(1))
        logit = logit.squeeze(-1)
        return logit if self.linear is None else logit + self.linear(x)  # [B]

    @torch.no_grad()
    def explain(self, x: Inputs) -> dict[str, Tensor]:
        """attention [layers, B, H, F, F]: how much field m (last but one) draws from field k (last)."""
        z, maps = self.embedding(x), []
        for layer in self.layers:
            z, weights = layer.explain(z)
            maps.append(weights.permute(1, 0, 3, 2))
        return {"attention": torch.stack(maps)} if maps else {}
