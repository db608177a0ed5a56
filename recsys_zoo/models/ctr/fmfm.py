"""FmFM and FvFM: a matrix or a vector of weights for each pair of fields (Sun et al., WWW 2021)."""

from __future__ import annotations

from itertools import combinations
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ...batch import Inputs
from ...card import Card, Published
from ...config import Search
from ...nn.embedding import Embedding, FirstOrder
from ...registry import register
from ...schema import Schema
from ..base import CTRModel, ModelConfig


@register
class FmFM(CTRModel):
    """logit = b + sum_i w_{x_i} + sum_{i<j} e_i^T M_ij e_j; only the vector form needs equal widths."""

    card = Card(
        name="FmFM",
        family="ctr",
        title="FM^2: Field-matrixed Factorization Machines for Recommender Systems",
        authors="Sun, Pan, Zhang, Flores",
        year=2021,
        url="https://arxiv.org/abs/2102.12994",
        equations="logit = b + sum_i w_{x_i} + sum_{i<j} e_i^T M_ij e_j; M_ij is a matrix d_i x d_j, "
        "or a diagonal (preset vector: FvFM)",
        notes=(
            "All pairs are one product with the matrix [sum of d, sum of d] whose upper blocks are the M_ij "
            "(FvFM: one [F, F] a place of the vectors), not a list of B x F (F - 1) / 2 vectors.",
            "Weights start as in FuxiCTR, Xavier normal over the whole array [P, d, d] or [P, d]: variances "
            "2 / (d^2 + P d) and 2 / (P + d), P pairs; with several widths d^2 is the mean size of a block.",
            "FuxiCTR regularises FmFM with one weight on all parameters: table_l2 = net_l2.",
        ),
        published=(
            Published(
                board="frappe_x1",
                metrics={"auc": 0.9749, "logloss": 0.2004},
                source="BARS docs/CTR/leaderboard/frappe_x1.csv",
            ),
            Published(
                board="criteo_x1",
                metrics={"auc": 0.8056, "logloss": 0.4463},
                source="BARS docs/CTR/leaderboard/criteo_x1.csv",
            ),
        ),
    )

    class Config(ModelConfig):
        """Settings of FmFM."""

        interaction: Annotated[Literal["matrix", "vector"], Search(choices=("matrix", "vector"))] = Field(
            "matrix", description="weights of a pair of fields: a matrix (FmFM) or a vector (FvFM)"
        )

    presets: ClassVar[dict[str, dict[str, Any]]] = {"vector": {"interaction": "vector"}}

    def __init__(self, cfg: Config, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.linear = FirstOrder(schema, cfg.embedding)
        self.embedding = Embedding(schema, cfg.embedding)
        fields, total = self.embedding.num_fields, self.embedding.flat_dim
        pairs = list(combinations(range(fields), 2))
        if cfg.interaction == "vector":
            width = self.embedding.dim
            cells = _diagonal_cells(pairs, fields, width)
            self.shape, variance = (width, fields, fields), 2 / (len(pairs) + width)
        else:
            cells = _block_cells(pairs, self.embedding.widths)
            size = len(cells) / max(len(pairs), 1)  # d^2
            self.shape, variance = (1, total, total), 2 / max(size + len(pairs) * size**0.5, 1)
        self.register_buffer("cells", cells, persistent=False)
        self.weight = nn.Parameter(torch.randn(len(cells)) * variance**0.5)  # M_01, M_02, ... by rows

    def forward(self, x: Inputs) -> Tensor:
        if self.cfg.interaction == "vector":
            e = self.embedding(x).permute(2, 0, 1)  # [D, B, F]
        else:
            e = self.embedding.flat(x).unsqueeze(0)  # [1, B, sum of widths]
        return self.linear(x) + ((e @ self._matrix()) * e).sum((0, 2))  # [B]

    def _matrix(self) -> Tensor:
        """The weights in their places, zero elsewhere."""
        slices, rows, columns = self.shape
        empty = self.weight.new_zeros(slices * rows * columns)
        return empty.scatter(0, self.cells, self.weight).view(self.shape)


def _block_cells(pairs: list[tuple[int, int]], widths: tuple[int, ...]) -> Tensor:
    """Places of the matrices M_ij in a flat [sum of widths, sum of widths]."""
    places = torch.arange(sum(widths)).split(widths)
    cells = [(places[i].unsqueeze(1) * sum(widths) + places[j]).flatten() for i, j in pairs]
    return torch.cat(cells) if cells else torch.zeros(0, dtype=torch.int64)


def _diagonal_cells(pairs: list[tuple[int, int]], fields: int, width: int) -> Tensor:
    """Places of the vectors m_ij in a flat [width, fields, fields]."""
    first = torch.tensor([i * fields + j for i, j in pairs], dtype=torch.int64)
    return (first.unsqueeze(1) + fields * fields * torch.arange(width)).flatten()
