"""MF: the inner product of a user's and an item's vector, with the losses of the literature as presets."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from ...batch import Pairs
from ...card import Card, Published
from ...nn.pairs import chosen_products, takes_rows
from ...nn.rowpairs import Rows, score_rows, takes_pairs
from ...registry import register
from ...schema import FIRST
from ..vectors import VectorModel

MANY = 8  # negatives a pair, from which on each item's row is read from one place
_COSINE = {"similarity": "cosine", "l2": 0.0}


@register
class MF(VectorModel):
    """s_ui = <p_u, q_i>, or the cosine."""

    card = Card(
        name="MF",
        family="retrieval",
        title="BPR: Bayesian Personalized Ranking from Implicit Feedback",
        authors="Rendle, Freudenthaler, Gantner, Schmidt-Thieme",
        year=2009,
        url="https://arxiv.org/abs/1205.2618",
        equations="s_ui = <p_u, q_i>; "
        "L = mean ln(1 + e^(s_uj - s_ui)) + l2/2 mean(|p_u|^2 + |q_i|^2 + |q_j|^2)",
        notes=(
            "There are no biases; vectors are drawn from N(0, 0.1^2).",
            "Preset ccl: MF-CCL, SimpleX without a history (Mao et al., CIKM 2021); softmax: sampled softmax "
            "of cosines; in_batch: over the positive items of the batch that the user has not; dns: the "
            "best scored of some negatives (Zhang et al., SIGIR 2013); directau: alignment and uniformity "
            "(Wang et al., KDD 2022), ranked by cosines as learnt, where the authors' code ranks by inner "
            "products. Dense data, such as MovieLens-100K, want a uniformity below 1, the default.",
        ),
        published=(
            Published(
                board="gowalla_m1",
                metrics={"recall@20": 0.1627, "ndcg@20": 0.1378},
                source="BARS-Match, MF-BPR",
            ),
            Published(
                board="yelp18_m1",
                metrics={"recall@20": 0.0576, "ndcg@20": 0.0468},
                source="BARS-Match, MF-BPR",
            ),
            Published(
                board="gowalla_m1 (ccl)",
                metrics={"recall@20": 0.1837, "ndcg@20": 0.1493},
                source="BARS-Match, MF-CCL",
            ),
            Published(
                board="yelp18_m1 (ccl)",
                metrics={"recall@20": 0.0698, "ndcg@20": 0.0572},
                source="BARS-Match, MF-CCL",
            ),
        ),
    )
    bare = True
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "ccl": {**_COSINE, "loss": "cosine_contrastive", "negatives": 1000},
        "softmax": {**_COSINE, "loss": "sampled_softmax", "negatives": 256, "temperature": 0.1},
        "in_batch": {**_COSINE, "loss": "in_batch_softmax", "negatives": 0, "temperature": 0.1},
        "dns": {"sampler": "hard"},
        "directau": {**_COSINE, "loss": "alignment_uniformity", "negatives": 0},
    }

    def losses(self, pairs: Pairs) -> dict[str, Tensor]:
        """As every model of vectors; by kernels many negatives are read from one place each, the rows of few
        where they stand."""
        pairs = self.chosen(pairs)
        if pairs.neg.shape[1] < MANY:
            found = self._of_rows(pairs)
            return self.terms(pairs, self.of_pairs(pairs)) if found is None else found
        if not takes_rows(next(self.parameters())):
            return self.terms(pairs, self.of_pairs(pairs))
        user, pos = self.user_rows(pairs.user), self.item_rows(pairs.pos)
        rows, places = self.distinct_rows(pairs.neg)
        compared = self.compared(user)
        good = (compared * self.compared(pos)).sum(1)
        bad = chosen_products(compared, rows, places, self.cosine)
        squares = None
        if self.cfg.l2:
            counts = torch.bincount(places.flatten(), minlength=len(rows))
            squares = user.square().sum() + pos.square().sum() + (counts * rows.square().sum(1)).sum()
        return self._of_scores(pairs, good, bad, squares)

    def _of_rows(self, pairs: Pairs) -> dict[str, Tensor] | None:
        """The terms without a copy of the rows; None where vectors are needed."""
        if self.cosine or not pairs.neg.shape[1]:
            return None
        users = self.user_table.recording(self.schema.user)
        items = self.item_table.recording(self.schema.item)
        if users is None or items is None or not takes_pairs(users.table):
            return None
        tables = (Rows(x.table, x.behind + FIRST) for x in (users, items))
        found = score_rows(*tables, pairs.user, pairs.pos, pairs.neg, squares=self.cfg.l2 > 0)
        squares = None if found.squares is None else found.squares.sum()
        return self._of_scores(pairs, found.good, found.bad, squares)

    def _of_scores(
        self, pairs: Pairs, good: Tensor, bad: Tensor, squares: Tensor | None
    ) -> dict[str, Tensor]:
        """The terms by scores and the squared norm of all vectors of the batch, None without L2."""
        terms = {self.cfg.loss: self.loss_of_scores(pairs, good, bad)}
        if squares is not None:
            terms["l2"] = self.cfg.l2 / 2 * squares / len(pairs)
        return terms
