"""SLIM: sparse item-to-item weights, one elastic net an item (Ning and Karypis, ICDM 2011)."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Annotated

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
    from scipy.sparse import csc_matrix

_SWEEPS, _TOLERANCE = 10_000, 1e-8  # to convergence: at most a few hundred sweeps in practice


class SLIMConfig(Frozen):
    """Settings of SLIM, scaled like scikit-learn's ElasticNet; the defaults are the board's on gowalla_m1."""

    alpha: Annotated[float, Search(low=1e-4, high=0.1, log=True)] = Field(
        0.005, gt=0, description="a: weight of both penalties, for a squared error in the mean over users"
    )
    l1_ratio: Annotated[float, Search(low=1e-6, high=0.1, log=True)] = Field(
        1e-6, ge=0, le=1, description="r: share of the L1 penalty"
    )
    positive: bool = Field(True, description="weights at least 0, as in the paper")


@register
class SLIM(Scorer):
    """s_u = R_u W; column i of W is the elastic net that predicts item i by the others.

    Memory: 12 bytes for each weight that is not 0 and for the interactions.
    """

    card = Card(
        name="SLIM",
        family="retrieval",
        title="SLIM: Sparse Linear Methods for Top-N Recommender Systems",
        authors="Ning, Karypis",
        year=2011,
        url="https://doi.org/10.1109/ICDM.2011.134",
        equations="w_i = argmin |R_i - R w|^2 / 2U + a r |w|_1 + a (1 - r) |w|^2 / 2, w >= 0, w_ii = 0; "
        "s_u = R_u W",
        notes=(
            "The paper's beta and lambda are U a (1 - r) and U a r.",
            "Items that share too few users with item i for any weight (at most U a r) are left out of its "
            "problem: with weights >= 0 the solution is the same, on sparse data several times sooner.",
            "Solved to convergence; the board's runs stop after 100 sweeps in a random order and drop the "
            "smallest weight of each item.",
        ),
        published=(
            Published(
                board="gowalla_m1",
                metrics={"recall@20": 0.1699, "ndcg@20": 0.1382},
                source="reczoo/BARS@5b5e61f docs/Matching/leaderboard/gowalla_m1.csv (a = 0.005, r = 1e-6)",
            ),
            Published(
                board="yelp18_m1",
                metrics={"recall@20": 0.0646, "ndcg@20": 0.0541},
                source="reczoo/BARS@5b5e61f docs/Matching/leaderboard/yelp18_m1.csv (a = 0.01, r = 1e-4)",
            ),
            Published(
                board="amazonbooks_m1",
                metrics={"recall@20": 0.0755, "ndcg@20": 0.0602},
                source="reczoo/BARS@5b5e61f docs/Matching/leaderboard/amazonbooks_m1.csv (a = 0.001, "
                "r = 1e-3)",
            ),
        ),
    )
    Config = SLIMConfig
    folds = True

    def __init__(self, cfg: SLIMConfig, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.history = SparseMatrix(self.num_items)  # R [U, I]
        self.weight = SparseMatrix(self.num_items)  # W [I, I]

    def _fit(self, train: ItemLists) -> None:
        import numpy as np
        from scipy.sparse import csr_matrix

        items = self.num_items
        history = scipy_csr(train, items, "float64").tocsc()
        open_items, values, found = [np.empty(0, np.int64)], [np.empty(0)], [0]
        unfinished = 0
        for item in range(items):
            others, weights, converged = self._elastic_net(history, item)
            open_items.append(others)
            values.append(weights)
            found.append(len(others))
            unfinished += not converged
        if unfinished:
            warnings.warn(
                f"slim: the weights of {unfinished} of {items} items still moved after {_SWEEPS} sweeps; "
                "a larger alpha converges sooner",
                stacklevel=2,
            )
        by_target = np.concatenate(values), np.concatenate(open_items), np.cumsum(found)
        self.history.assign(history.tocsr())
        self.weight.assign(csr_matrix(by_target, shape=(items, items)).T.tocsr())

    def _elastic_net(self, history: csc_matrix, item: int) -> tuple[ndarray, ndarray, bool]:
        """The items with a weight for `item`, the weights, and whether they converged."""
        import numpy as np
        from sklearn.linear_model import ElasticNet

        cfg, users = self.cfg, history.shape[0]
        own = history[:, [item]]
        common = (history.T @ own).toarray().ravel()
        least = users * cfg.alpha * cfg.l1_ratio if cfg.positive else -1
        common[item] = least  # leaves out the item itself
        others = np.flatnonzero(common > least)
        if not len(others):
            return others, np.empty(0), True
        net = ElasticNet(
            alpha=cfg.alpha, l1_ratio=cfg.l1_ratio, positive=cfg.positive, fit_intercept=False,
            max_iter=_SWEEPS, tol=_TOLERANCE,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # one for all items is enough, by the caller
            net.fit(history[:, others], own.toarray().ravel())
        weights = net.coef_
        kept = weights != 0
        return others[kept], weights[kept], net.n_iter_ < _SWEEPS

    def _score(self, users: Tensor) -> Tensor:
        return self._score_lists(self.history.lists(users))

    def _score_lists(self, lists: ItemLists) -> Tensor:
        place, item = lists.pairs()
        ones = self.weight.values.new_ones(len(item))
        return self.weight.weighted_rows(place, item, ones, len(lists))
