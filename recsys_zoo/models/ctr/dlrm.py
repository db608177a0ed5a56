"""DLRM: products of all pairs of vectors, one of them made from the numbers (Naumov et al., 2019)."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ...batch import Inputs
from ...card import Card, Published
from ...config import Search
from ...nn.embedding import Embedding
from ...nn.interaction import pair_places, pair_products
from ...nn.mlp import MLP, MLPSettings, Width
from ...registry import register
from ...schema import Schema
from ..base import CTRModel, ModelConfig


@register
class DLRM(CTRModel):
    """logit = MLP([<v_i, v_j>, i < j; v_numbers]), v_numbers = MLP(numbers); needs columns of equal width."""

    pairs: Tensor

    card = Card(
        name="DLRM",
        family="ctr",
        title="Deep Learning Recommendation Model for Personalization and Recommendation Systems",
        authors="Naumov, Mudigere, Shi, Huang, Sundaraman, Park, Wang, Gupta, Wu, Azzolini, Dzhulgakov, "
        "Mallevich, Cherniavskii, Lu, Krishnamoorthi, Yu, Kondratenko, Pereira, Chen, Chen, Rao, Jia, Xiong, "
        "Smelyanskiy",
        year=2019,
        url="https://arxiv.org/abs/1906.00091",
        equations="v_0 = ReLU(bottom MLP(numbers)); v_i = e_i; dot: logit = MLP([<v_i, v_j>, i < j; v_0]); "
        "cat: logit = MLP([v_1; ...; v_F; v_0])",
        notes=(
            "The numbers' vector is the last of the order of pairs; without numeric columns there is none.",
            "Its last layer is Linear and ReLU, without batch norm and dropout, as in FuxiCTR.",
            "A single vector has no pairs: the top MLP reads the vector itself.",
            "The published run is `cat` on categorical columns, a plain perceptron on the embeddings.",
        ),
        published=(
            Published(
                board="frappe_x1",
                metrics={"auc": 0.983995, "logloss": 0.144441},
                source="BARS ranking/ctr/DLRM/DLRM_frappe_x1 (log)",
            ),
        ),
    )

    class Config(ModelConfig, MLPSettings):
        """Settings of DLRM; hidden and dropout are the top MLP's, batch_norm both MLPs'."""

        interaction: Annotated[Literal["dot", "cat"], Search(choices=("dot", "cat"))] = Field(
            "dot", description="products of pairs or all vectors"
        )
        bottom_hidden: tuple[Width, ...] = Field(
            (64, 64, 64), description="hidden widths of the MLP on the numbers; FuxiCTR: 64, 64, 64"
        )
        bottom_dropout: float = Field(0.0, ge=0, lt=1, description="rate of dropout in the bottom MLP")

    def __init__(self, cfg: Config, schema: Schema) -> None:
        super().__init__(cfg, schema)
        names = [c.name for c in schema.columns if c.kind != "numeric"]
        self.embedding = Embedding(schema, cfg.embedding, columns=names) if names else None
        width = cfg.embedding.dim if self.embedding is None else self.embedding.dim
        numbers = len(schema.of("numeric"))
        self.bottom = None
        if numbers:
            hidden = MLP(numbers, cfg.bottom_hidden, 0, cfg.batch_norm, cfg.bottom_dropout)
            self.bottom = nn.Sequential(hidden, MLP(hidden.width, (width,), 0))
        vectors = len(names) + bool(numbers)
        self.register_buffer("pairs", pair_places(vectors), persistent=False)
        self.products = cfg.interaction == "dot" and vectors > 1
        total = len(self.pairs) + width * bool(numbers) if self.products else vectors * width
        self.top = MLP(total, cfg.hidden, 1, cfg.batch_norm, cfg.dropout)

    def forward(self, x: Inputs) -> Tensor:
        vectors = [] if self.embedding is None else [self.embedding(x)]  # [B, F - N, D]
        if self.bottom is not None:
            vectors.append(self.bottom(x.numeric).unsqueeze(1))
        v = torch.cat(vectors, 1)
        if not self.products:
            return self.top(v.flatten(1)).squeeze(-1)
        found = [pair_products(v, self.pairs)]
        found += [part.squeeze(1) for part in vectors[1:]]
        return self.top(torch.cat(found, 1)).squeeze(-1)  # [B]
