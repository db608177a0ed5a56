"""GF-CF: a linear and an ideal low-pass filter on the graph of items (Shen et al., CIKM 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field
from torch import Tensor

from ...card import Card, Published
from ...config import Frozen, Search
from ...itemlists import ItemLists
from ...nn.sparse import SparseMatrix, scipy_csr
from ...registry import register
from ...schema import Schema
from ..base import Scorer

if TYPE_CHECKING:
    from numpy import ndarray
    from scipy.sparse import csr_matrix


_DENSE = 1 << 25  # numbers of a matrix that is decomposed as it is
_AT_ONCE = 1 << 23  # numbers of all users for some of them, which the first product makes: 32 MiB


class GFCFConfig(Frozen):
    """Settings of GF-CF; the defaults are those of the authors' code."""

    alpha: Annotated[float, Search(low=0.05, high=1, log=True, zero=True)] = Field(
        0.3, ge=0, description="weight of the ideal low-pass filter; authors: 0.3, 0 on Amazon-Book"
    )
    vectors: Annotated[int, Search(choices=(64, 128, 256, 512))] = Field(
        256, ge=1, description="singular vectors that the ideal filter lets pass; authors: 256"
    )


class ItemFilters(Scorer):
    """Base of scorers by filters on the graph of items: N = D_U^-1/2 R D_I^-1/2, V its top singular vectors.

    A column of [I, B] holds what is filtered of a user, at first R_u. As many users are filtered at once as
    make 32 MiB of numbers of all users. A subclass fills in `_filtered`.
    """

    folds = True

    def __init__(self, cfg: Frozen, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.by_user = SparseMatrix(self.num_items)  # N [U, I]
        self.by_item = SparseMatrix(self.num_users)  # N transposed: products with rows in order are faster
        self.register_buffer("inner", torch.zeros(self.num_items, 0))  # D_I^-1/2 V
        self.register_buffer("outer", torch.zeros(0, self.num_items))  # weight V^T D_I^1/2

    def _fit_filters(self, train: ItemLists, vectors: int, weight: float) -> None:
        """Both filters; weight: of the ideal one, 0 leaves it out."""
        import numpy as np
        from scipy.sparse import diags

        counts = scipy_csr(train, self.num_items)
        of_user, of_item = (np.asarray(counts.sum(axis)).ravel() for axis in (1, 0))
        inverse = [np.divide(1, np.sqrt(d), out=np.zeros_like(d), where=d > 0) for d in (of_user, of_item)]
        graph = (diags(inverse[0]) @ counts @ diags(inverse[1])).tocsr().astype(np.float32)
        self.by_user.assign(graph)
        self.by_item.assign(graph.T.tocsr())
        v = _right_singular_vectors(graph, vectors if weight else 0)  # [I, vectors]
        device = train.items.device
        inner, outer = inverse[1][:, None] * v, weight * (np.sqrt(of_item)[:, None] * v).T
        self.inner, self.outer = (
            torch.as_tensor(np.ascontiguousarray(array), dtype=torch.float32, device=device)
            for array in (inner, outer)
        )

    def _own(self, lists: ItemLists) -> Tensor:
        """R_u as columns [I, B]."""
        place, item = lists.pairs()
        own = self.inner.new_zeros(self.num_items, len(lists))
        own[item, place] = 1
        return own

    def _score(self, users: Tensor) -> Tensor:
        return self._score_lists(self.by_user.lists(users))

    def _score_lists(self, lists: ItemLists) -> Tensor:
        some = torch.arange(len(lists), device=lists.items.device).split(max(1, _AT_ONCE // self.num_users))
        if len(some) <= 1:
            return self._filtered(self._own(lists))
        found = self.inner.new_empty(len(lists), self.num_items)
        for users in some:
            found[users] = self._filtered(self._own(lists.rows(users)))
        return found

    def _filtered(self, own: Tensor) -> Tensor:
        """Scores [B, I] by columns R_u [I, B]."""
        raise NotImplementedError

    def _linear(self, columns: Tensor) -> Tensor:
        """N^T N columns."""
        return self.by_item.tensor() @ (self.by_user.tensor() @ columns)


@register
class GFCF(ItemFilters):
    """s_u = R_u (N^T N + alpha D_I^-1/2 V V^T D_I^1/2), N = D_U^-1/2 R D_I^-1/2, V its top singular vectors.

    Memory: N in both orders, 24 bytes an interaction, and 4 I bytes for each vector; B users at once take
    4 B (U + 3 I) bytes more, 4 B U of them at most 32 MiB. The fit holds the Lanczos basis, 8 bytes x
    vectors x (U + I).
    """

    card = Card(
        name="GF-CF",
        family="retrieval",
        title="How Powerful is Graph Convolution for Recommendation?",
        authors="Shen, Wu, Zhang, Shan, Zhang, Letaief, Li",
        year=2021,
        url="https://arxiv.org/abs/2108.07567",
        equations="N = D_U^-1/2 R D_I^-1/2; V: right singular vectors of N with the largest singular values; "
        "s_u = R_u (N^T N + alpha D_I^-1/2 V V^T D_I^1/2)",
        notes=(
            "Items without users score 0; the authors' code divides by 0 there.",
            "Vectors of singular values of 0, which are any, are left out.",
        ),
        published=(
            Published(
                board="gowalla_m1",
                metrics={"recall@20": 0.1849, "ndcg@20": 0.1518},
                source="reczoo/BARS@5b5e61f docs/Matching/leaderboard/gowalla_m1.csv (the authors' numbers)",
            ),
            Published(
                board="yelp18_m1",
                metrics={"recall@20": 0.0697, "ndcg@20": 0.0571},
                source="reczoo/BARS@5b5e61f docs/Matching/leaderboard/yelp18_m1.csv (the authors' numbers)",
            ),
            Published(
                board="amazonbooks_m1",
                metrics={"recall@20": 0.0710, "ndcg@20": 0.0584},
                source="reczoo/BARS@5b5e61f docs/Matching/leaderboard/amazonbooks_m1.csv (the authors' "
                "numbers; alpha = 0)",
            ),
        ),
    )
    Config = GFCFConfig

    def _fit(self, train: ItemLists) -> None:
        self._fit_filters(train, self.cfg.vectors, self.cfg.alpha)

    def _filtered(self, own: Tensor) -> Tensor:
        linear = self._linear(own).T
        if not self.outer.numel():
            return linear.contiguous()
        return torch.addmm(linear, own.T @ self.inner, self.outer)


def _by_smaller_side(matrix: csr_matrix) -> tuple[ndarray, ndarray]:
    """Singular values, falling, and right vectors [n, columns], n the smaller side, of no dense matrix."""
    import numpy as np

    wide = matrix.shape[1] > matrix.shape[0]
    exact = matrix.astype(np.float64)
    squares, found = np.linalg.eigh((exact @ exact.T if wide else exact.T @ exact).toarray())
    values, found = np.sqrt(squares[::-1].clip(min=0)), found[:, ::-1].T
    if wide:
        found = (found @ exact) / np.where(values > 0, values, 1)[:, None]
    return values.astype(matrix.dtype), found.astype(matrix.dtype)


def _right_singular_vectors(matrix: csr_matrix, count: int) -> ndarray:
    """Of the `count` largest singular values above 0: [columns, at most count], by Lanczos iterations."""
    import numpy as np
    from scipy.sparse.linalg import svds

    if not count or not matrix.nnz:
        return np.zeros((matrix.shape[1], 0), np.float32)
    if count >= min(matrix.shape) - 1:  # beyond what the iterations find: one side is small enough for all
        if matrix.shape[0] * matrix.shape[1] <= _DENSE:
            values, v = np.linalg.svd(matrix.toarray(), full_matrices=False)[1:]
        else:
            values, v = _by_smaller_side(matrix)
        values, v = values[:count], v[:count]
    else:
        start = np.random.default_rng(0).standard_normal(min(matrix.shape)).astype(matrix.dtype)
        _, values, v = svds(matrix, count, v0=start)
    return v[values > 1e-5 * values.max(initial=0)].T
