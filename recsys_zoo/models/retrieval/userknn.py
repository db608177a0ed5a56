"""UserKNN: an item is scored by the nearest users who have it (Resnick et al., CSCW 1994)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from ...card import Card
from ...config import Frozen, Search
from ...itemlists import ItemLists
from ...nn.neighbors import Similarity, Weights, nearest, weighted
from ...nn.sparse import SparseMatrix, scipy_csr
from ...registry import register
from ...schema import Schema
from ..base import Scorer


class UserKNNConfig(Frozen):
    """Settings of UserKNN."""

    similarity: Annotated[Similarity, Search(choices=("cosine", "pearson", "jaccard"))] = Field(
        "cosine", description="of the items of two users; pearson: of rows less their means"
    )
    neighbors: Annotated[int, Search(low=5, high=1000, log=True)] = Field(
        100, ge=1, description="k nearest users kept of each user"
    )
    shrink: Annotated[float, Search(low=1, high=1000, log=True, zero=True)] = Field(
        0.0, ge=0, description="h, added below: fewer common items count less"
    )
    weights: Annotated[Weights, Search(choices=("none", "tfidf", "bm25"))] = Field(
        "none", description="weight of an item in the similarity: 1, or less for popular ones"
    )


@register
class UserKNN(Scorer):
    """s_ui = sum_{v in N_k(u)} S_uv R_vi.

    Memory: 12 bytes for each of k U similarities and of the interactions; in the fit also the similarities of
    1024 users with all others.
    """

    card = Card(
        name="UserKNN",
        family="retrieval",
        title="GroupLens: An Open Architecture for Collaborative Filtering of Netnews",
        authors="Resnick, Iacovou, Suchak, Bergstrom, Riedl",
        year=1994,
        url="https://doi.org/10.1145/192844.192905",
        equations="S_uv = <R_u, R_v> / (|R_u| |R_v| + h) for the k nearest v of u; s_ui = sum_v S_uv R_vi",
        notes=(
            "The paper predicts ratings by Pearson's correlation over common items; this is the form for "
            "implicit feedback, over all items. It prints no number on a board of this zoo.",
            "Ties at the k-th neighbour: the smaller user number is kept.",
            "Weights stand in the similarity alone, with users as documents: neighbours vote with 1.",
        ),
        faithful="reconstruction",
    )
    Config = UserKNNConfig

    def __init__(self, cfg: UserKNNConfig, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.history = SparseMatrix(self.num_items)  # R [U, I]
        self.similar = SparseMatrix(self.num_users)  # S [U, U]

    def _fit(self, train: ItemLists) -> None:
        cfg, history = self.cfg, scipy_csr(train, self.num_items)
        found = nearest(weighted(history, cfg.weights), cfg.similarity, cfg.shrink, cfg.neighbors)
        self.history.assign(history)
        self.similar.assign(found)

    def _score(self, users: Tensor) -> Tensor:
        return self.history.weighted_rows(*self.similar.rows(users), len(users))
