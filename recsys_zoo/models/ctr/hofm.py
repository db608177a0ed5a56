"""HOFM: a factorisation machine of higher order, by ANOVA kernels (Blondel et al., NIPS 2016)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from ...batch import Inputs
from ...card import Card, Published
from ...config import Flag, Search
from ...nn.embedding import Embedding, FirstOrder
from ...registry import register
from ...schema import Schema
from ..base import CTRModel, ModelConfig


def anova(e: Tensor, order: int) -> Tensor:
    """Sum over all i_1 < ... < i_order and places k of e[i_1, k] ... e[i_order, k], in O(order F D).

    e [B, F, D] -> [B]; 0 where order > F.

    >>> import torch
    >>> anova(torch.tensor([[[1.], [2.], [3.]]]), 2)
    tensor([11.])
    """
    products = e  # field i holds the sum of all products of s factors whose last one is e_i
    for s in range(1, order):
        products = e[:, s:] * products.cumsum(1)[:, :-1]  # [B, F - s, D]
    return products.sum((1, 2))


@register
class HOFM(CTRModel):
    """logit = b + sum_i w_{x_i} + sum_{t=2..order} A_t(e^t); needs columns of equal width."""

    card = Card(
        name="HOFM",
        family="ctr",
        title="Higher-Order Factorization Machines",
        authors="Blondel, Fujino, Ueda, Ishihata",
        year=2016,
        url="https://arxiv.org/abs/1607.07195",
        equations="logit = b + sum_i w_{x_i} + sum_{t=2..order} A_t(e^t); "
        "A_t(e) = sum_k sum_{i_1 < ... < i_t} e_{i_1,k} ... e_{i_t,k}; own vectors e^t for each order",
        notes=(
            "The kernel is a sum over fields that runs once an order; FuxiCTR multiplies out all "
            "combinations of fields. The same numbers.",
            "Orders above the number of fields add nothing, and their vectors stay as they are.",
            "All orders have vectors of the width embedding.dim; FuxiCTR allows a width for each order.",
            "FuxiCTR regularises HOFM with one weight on all parameters: table_l2 = net_l2.",
        ),
        published=(
            Published(
                board="frappe_x1",
                metrics={"auc": 0.9742, "logloss": 0.2073},
                source="BARS docs/CTR/leaderboard/frappe_x1.csv",
            ),
            Published(
                board="criteo_x1",
                metrics={"auc": 0.8055, "logloss": 0.4461},
                source="BARS docs/CTR/leaderboard/criteo_x1.csv",
            ),
        ),
    )

    class Config(ModelConfig):
        """Settings of HOFM."""

        order: Annotated[int, Search(choices=(3, 4))] = Field(
            3, ge=2, description="highest number of fields multiplied; 2: FM; FuxiCTR: 3"
        )
        share: Flag = Field(False, description="the same vectors for all orders (FuxiCTR: reuse_embedding)")

    def __init__(self, cfg: Config, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.linear = FirstOrder(schema, cfg.embedding)
        tables = 1 if cfg.share else cfg.order - 1
        self.embeddings = nn.ModuleList(Embedding(schema, cfg.embedding) for _ in range(tables))
        _ = self.embeddings[0].dim  # InputError when widths differ

    def forward(self, x: Inputs) -> Tensor:
        vectors = [embedding(x) for embedding in self.embeddings]  # order - 1 times (or once) [B, F, D]
        logit = self.linear(x)
        for order in range(2, self.cfg.order + 1):
            logit = logit + anova(vectors[0 if self.cfg.share else order - 2], order)
        return logit  # [B]
