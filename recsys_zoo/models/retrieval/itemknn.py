"""ItemKNN: an item is scored by the user's items among its nearest neighbours (Sarwar et al., WWW 2001)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field
from torch import Tensor

from ...card import Card, Published
from ...config import Flag, Frozen, Search
from ...itemlists import ItemLists
from ...nn.neighbors import Similarity, Weights, nearest, weighted, weights_of_lists
from ...nn.sparse import SparseMatrix, scipy_csr
from ...registry import register
from ...schema import Schema
from ..base import Scorer

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


class ItemKNNConfig(Frozen):
    """Settings of ItemKNN; the defaults are those of the board's run on gowalla_m1."""

    similarity: Annotated[Similarity, Search(choices=("cosine", "pearson", "jaccard"))] = Field(
        "cosine", description="of the users of two items; pearson: of columns less their means"
    )
    neighbors: Annotated[int, Search(low=5, high=1000, log=True)] = Field(
        100, ge=1, description="k nearest items kept of each item"
    )
    shrink: Annotated[float, Search(low=1, high=1000, log=True, zero=True)] = Field(
        0.0, ge=0, description="h, added below: fewer common users count less"
    )
    weights: Annotated[Weights, Search(choices=("none", "tfidf", "bm25"))] = Field(
        "none", description="entries of R: 1, or the weight of the user among the item's (items as documents)"
    )
    normalize: Flag = Field(True, description="similarities of an item's neighbours divided by their sum")
    item_mean: Flag = Field(True, description="rows of R less the mean of each item, which is added again")


@register
class ItemKNN(Scorer):
    """s_ui = m_i + sum_{j in N_k(i)} S_ij (R_uj - m_j), without m where item_mean is off.

    Memory: 12 bytes for each of k I similarities and of the interactions; in the fit also the similarities of
    1024 items with all others.
    """

    card = Card(
        name="ItemKNN",
        family="retrieval",
        title="Item-Based Collaborative Filtering Recommendation Algorithms",
        authors="Sarwar, Karypis, Konstan, Riedl",
        year=2001,
        url="https://doi.org/10.1145/371920.372071",
        equations="S_ij = <R_i, R_j> / (|R_i| |R_j| + h) for the k nearest j of i, rows of S divided by "
        "their sum; s_ui = m_i + sum_j S_ij (R_uj - m_j); m_i = mean_u R_ui",
        notes=(
            "The paper predicts ratings; this is the form for implicit feedback of the BARS board (ItemCF), "
            "which keeps no similarity below 0 and finds means over all users.",
            "Ties at the k-th neighbour: the smaller item number is kept; the board's code takes any.",
            "shrink is that of Bell and Koren as Ferrari Dacrema et al. (RecSys 2019) write it; weights too: "
            "R is replaced by them, in similarities and profiles. bm25 differs from tfidf by a factor an "
            "item, which cosine without shrink does not see, but profiles do.",
        ),
        published=(
            Published(
                board="gowalla_m1",
                metrics={"recall@20": 0.1570, "ndcg@20": 0.1214},
                source="reczoo/BARS@5b5e61f docs/Matching/leaderboard/gowalla_m1.csv (ItemCF; "
                "cosine, k = 100)",
            ),
            Published(
                board="yelp18_m1",
                metrics={"recall@20": 0.0639, "ndcg@20": 0.0531},
                source="reczoo/BARS@5b5e61f docs/Matching/leaderboard/yelp18_m1.csv (ItemCF; "
                "pearson, k = 150)",
            ),
            Published(
                board="amazonbooks_m1",
                metrics={"recall@20": 0.0736, "ndcg@20": 0.0606},
                source="reczoo/BARS@5b5e61f docs/Matching/leaderboard/amazonbooks_m1.csv (ItemCF; pearson, "
                "k = 10)",
            ),
        ),
        faithful="code",
    )
    Config = ItemKNNConfig
    folds = True

    def __init__(self, cfg: ItemKNNConfig, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.history = SparseMatrix(self.num_items)  # R [U, I]
        self.votes = SparseMatrix(self.num_items)  # S transposed [I, I]: whom an item of the user votes for
        self.register_buffer("bias", torch.zeros(self.num_items))

    def _fit(self, train: ItemLists) -> None:
        cfg = self.cfg
        by_item = weighted(scipy_csr(train, self.num_items).T.tocsr(), cfg.weights)  # [I, U]
        similar = nearest(by_item, cfg.similarity, cfg.shrink, cfg.neighbors)
        if cfg.normalize:
            similar = _rows_sum_to_1(similar)
        self.history.assign(by_item.T.tocsr())
        self.votes.assign(similar.T.tocsr())
        mean = torch.as_tensor(by_item.mean(1), dtype=torch.float32).flatten()
        bias = mean - torch.as_tensor(similar @ mean.numpy())
        self.bias = (bias if cfg.item_mean else torch.zeros_like(bias)).to(train.items.device)

    def _score(self, users: Tensor) -> Tensor:
        return self.votes.weighted_rows(*self.history.rows(users), len(users)) + self.bias

    def _score_lists(self, lists: ItemLists) -> Tensor:
        lengths = torch.bincount(self.history.col, minlength=self.num_items)
        weight = weights_of_lists(lists, lengths, self.cfg.weights).to(self.bias)
        return self.votes.weighted_rows(*lists.pairs(), weight, len(lists)) + self.bias


def _rows_sum_to_1(matrix: csr_matrix) -> csr_matrix:
    import numpy as np

    found = matrix.copy()
    sums = np.asarray(matrix.sum(1)).ravel()
    found.data /= np.repeat(sums, np.diff(matrix.indptr))
    return found
