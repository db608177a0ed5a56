"""FM: factorisation machine of second order (Rendle, ICDM 2010)."""

from __future__ import annotations

from torch import Tensor

from ...batch import Inputs
from ...card import Card, Published
from ...nn.embedding import Embedding, FirstOrder
from ...nn.interaction import pair_sum
from ...registry import register
from ...schema import Schema
from ..base import CTRModel, ModelConfig


@register
class FM(CTRModel):
    """logit = b + sum_i w_{x_i} + sum_{i<j} <e_i, e_j>; needs columns of equal width."""

    card = Card(
        name="FM",
        family="ctr",
        title="Factorization Machines",
        authors="Rendle",
        year=2010,
        url="https://doi.org/10.1109/ICDM.2010.127",
        equations="logit = b + sum_i w_{x_i} + sum_{i<j} <e_i, e_j>",
        notes=(
            "A bag or sequence is one field, the mean of its vectors; the paper takes each id as a field.",
            "FuxiCTR regularises FM with one weight on all parameters, bias included: table_l2 = net_l2.",
        ),
        published=(
            Published(
                board="frappe_x1",
                metrics={"auc": 0.967108, "logloss": 0.206515},
                source="BARS ranking/ctr/FM/FM_frappe_x1 (log)",
            ),
        ),
    )

    def __init__(self, cfg: ModelConfig, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.linear = FirstOrder(schema, cfg.embedding)
        self.embedding = Embedding(schema, cfg.embedding)
        _ = self.embedding.dim  # InputError when widths differ

    def forward(self, x: Inputs) -> Tensor:
        return self.linear(x) + pair_sum(self.embedding(x))  # [B]
