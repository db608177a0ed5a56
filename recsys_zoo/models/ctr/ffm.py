"""FFM: each value has a vector for each other field (Juan et al., RecSys 2016)."""

from __future__ import annotations

import torch
from torch import Tensor

from ...batch import Inputs
from ...card import Card, Published
from ...nn.embedding import Embedding, EmbeddingConfig, FirstOrder
from ...registry import register
from ...schema import Schema
from ..base import CTRModel, ModelConfig


@register
class FFM(CTRModel):
    """logit = b + sum_i w_{x_i} + sum_{i<j} <v_{i,j}, v_{j,i}>; needs columns of equal width.

    v_{i,j} of width embedding.dim is the vector of field i's value towards field j; a table row holds the
    F - 1 vectors of a value one after the other, by rising j without i.
    """

    card = Card(
        name="FFM",
        family="ctr",
        title="Field-aware Factorization Machines for CTR Prediction",
        authors="Juan, Zhuang, Chin, Lin",
        year=2016,
        url="https://doi.org/10.1145/2959100.2959134",
        equations="logit = b + sum_i w_{x_i} + sum_{i<j} <v_{i,j}, v_{j,i}>",
        notes=(
            "embedding.dim is the width of one v_{i,j}: n (F - 1) dim numbers in all, so it is small "
            "(FuxiCTR: 2) where F is large.",
            "First-order term, bias and initial vectors as in FuxiCTR; so are F - 1 vectors a value: the one "
            "towards the own field is never read.",
            "A field is a column: ids of one bag are averaged and do not interact with each other.",
            "FuxiCTR regularises FFM with one weight on all parameters: table_l2 = net_l2.",
        ),
        published=(
            Published(
                board="frappe_x1",
                metrics={"auc": 0.9786, "logloss": 0.1860},
                source="BARS docs/CTR/leaderboard/frappe_x1.csv",
            ),
            Published(
                board="criteo_x1",
                metrics={"auc": 0.8060, "logloss": 0.4456},
                source="BARS docs/CTR/leaderboard/criteo_x1.csv",
            ),
        ),
    )

    def __init__(self, cfg: ModelConfig, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.linear = FirstOrder(schema, cfg.embedding)
        fields = self.linear.embedding.num_fields
        self.embedding = None
        if fields > 1:
            self.embedding = Embedding(schema, _widened(cfg.embedding, fields - 1))
            _ = self.embedding.dim  # InputError when widths differ
        i, j = torch.triu_indices(fields, fields, 1)
        places = torch.stack([i * (fields - 1) + j - 1, j * (fields - 1) + i])  # of v_{i,j} and v_{j,i}
        self.register_buffer("places", places.flatten(), persistent=False)

    def forward(self, x: Inputs) -> Tensor:
        if self.embedding is None:  # one field
            return self.linear(x)
        v = self.embedding(x).unflatten(2, (-1, self.cfg.embedding.dim)).flatten(1, 2)  # [B, F (F - 1), D]
        left, right = v.index_select(1, self.places).chunk(2, 1)  # [B, P, D] each
        return self.linear(x) + (left * right).sum((1, 2))  # [B]


def _widened(cfg: EmbeddingConfig, vectors: int) -> EmbeddingConfig:
    widths = {column: vectors * width for column, width in cfg.widths.items()}
    return cfg.model_copy(update={"dim": vectors * cfg.dim, "widths": widths})
