"""UltraGCN: the limit of infinitely many graph layers as weights of a loss (Mao et al., CIKM 2021)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ...batch import Pairs
from ...card import Card, Published
from ...config import Search
from ...itemlists import ItemLists
from ...nn.embedding import EmbeddingConfig
from ...nn.neighbors import together
from ...registry import register
from ...schema import Schema
from ..base import ModelConfig
from ..vectors import VectorConfig, VectorModel


class UltraGCNConfig(ModelConfig):
    """Settings of UltraGCN."""

    embedding: EmbeddingConfig = EmbeddingConfig(dim=64, init_std=1e-4)
    negatives: Annotated[int, Search(choices=(50, 200, 800, 1500))] = Field(
        200, ge=1, description="negative items a pair; authors: 1500 for Gowalla, 800 for Yelp18"
    )
    own_negatives: bool = Field(False, description=(
        "negatives are drawn from all items, the user's own among them, as in the authors' code"))
    negative_weight: Annotated[float, Search(low=10.0, high=1000.0, log=True)] = Field(
        10.0, ge=0, description="weight of the mean over the negatives; authors: 300 for Gowalla and Yelp18"
    )
    w1: float = Field(1e-6, ge=0, description="weight of a positive pair")
    w2: float = Field(1.0, ge=0, description="weight of a positive pair, times beta")
    w3: float = Field(1e-6, ge=0, description="weight of a negative pair")
    w4: float = Field(1.0, ge=0, description="weight of a negative pair, times beta")
    item_weight: Annotated[float, Search(low=1e-5, high=10.0, log=True, zero=True)] = Field(
        5e-4, ge=0, description="lambda: weight of the term of items that stand together"
    )
    neighbors: Annotated[int, Search(low=5, high=20)] = Field(
        10, ge=1, description="such items of an item, K"
    )


@register
class UltraGCN(VectorModel):
    """s_ui = <p_u, q_i>; no graph is passed over, neither in training nor later."""

    card = Card(
        name="UltraGCN",
        family="retrieval",
        title="UltraGCN: Ultra Simplification of Graph Convolutional Networks for Recommendation",
        authors="Mao, Zhu, Xiao, Lu, Wang, He",
        year=2021,
        url="https://arxiv.org/abs/2110.15114",
        equations="beta_ui = 1/d_u sqrt((d_u + 1) / (d_i + 1)); G = R'R, g its sums, "
        "omega_ij = G_ij sqrt(g_i + 1) / g_i / sqrt(g_j + 1); L = sum of (w1 + w2 beta_ui) ln(1 + e^-s_ui) + "
        "negative_weight mean_j (w3 + w4 beta_uj) ln(1 + e^s_uj) + "
        "lambda sum_{j of K largest omega_ij} omega_ij ln(1 + e^-s_uj)",
        notes=(
            "The loss is a sum over the batch, as in the authors' code; gamma is train.table_l2.",
            "The diagonal of G is kept, as there: an item may be among those that stand with it.",
            "It ranks by popularity for long, on MovieLens-100K for 70 epochs of 27 steps; so it "
            "may stand still for 100 before it is stopped.",
            "Defaults of negatives and negative_weight are ours, for small data, where 300 pushes unseen "
            "items away; the recipes hold the authors'.",
            "Negatives are never items of the user; with own_negatives they are drawn from all items, as in "
            "the code.",
        ),
        published=(
            Published(
                board="gowalla_m1",
                metrics={"recall@20": 0.1862, "ndcg@20": 0.1580},
                source="BARS-Match, UltraGCN",
            ),
            Published(
                board="yelp18_m1",
                metrics={"recall@20": 0.0683, "ndcg@20": 0.0561},
                source="BARS-Match, UltraGCN",
            ),
        ),
    )
    Config = UltraGCNConfig
    bare = True
    splits = False
    whole_table = True
    train_defaults: ClassVar[dict[str, Any]] = {
        **VectorModel.train_defaults, "table_l2": 1e-4, "patience": 100}
    beta_user: Tensor  # [U]
    beta_item: Tensor  # [I]
    near: Tensor  # [I, K] items
    omega: Tensor  # [I, K]

    def __init__(self, cfg: UltraGCNConfig | VectorConfig, schema: Schema) -> None:
        super().__init__(cfg, schema)
        items = self.num_items
        for name, value in (("beta_user", torch.zeros(self.num_users)), ("beta_item", torch.zeros(items)),
                            ("near", torch.zeros(items, cfg.neighbors, dtype=torch.int64)),
                            ("omega", torch.zeros(items, cfg.neighbors))):
            self.register_buffer(name, value, persistent=False)

    def prepare(self, train: ItemLists) -> None:
        """Weights of pairs by degrees, and the items that stand together."""
        super().prepare(train)
        of_user = train.counts.double()
        of_item = torch.bincount(train.items, minlength=self.num_items).double()
        self.beta_user = ((of_user + 1).sqrt() / of_user.clamp(min=1)).to(self.beta_user)
        self.beta_item = (of_item + 1).rsqrt().to(self.beta_item)
        user, item = train.pairs()
        g = torch.zeros_like(of_item).index_add_(0, item, of_user[user])  # sums of R'R without that product
        near, counts = together(train, (g + 1).rsqrt(), self.cfg.neighbors)
        self.near = near.to(self.near)
        weight = (g + 1).sqrt() / g.clamp(min=1)
        self.omega = (counts.to(g) * weight[:, None] * (g + 1).rsqrt()[near.to(g.device)]).to(self.omega)

    def losses(self, pairs: Pairs) -> dict[str, Tensor]:
        """Terms of pairs and of items that stand together, each a sum over the batch."""
        cfg, near = self.cfg, self.near[pairs.pos]
        items = torch.cat([pairs.pos[:, None], pairs.neg, near], 1)
        scores = self.similarities(self.user_rows(pairs.user), items).float()
        good, bad, beside = scores.split([1, pairs.neg.shape[1], near.shape[1]], 1)
        beta = self.beta_user[pairs.user, None] * self.beta_item[items[:, : -near.shape[1]]]
        pos = (cfg.w1 + cfg.w2 * beta[:, :1]) * F.softplus(-good)
        neg = ((cfg.w3 + cfg.w4 * beta[:, 1:]) * F.softplus(bad)).mean(1)
        terms = {"pairs": pos.sum() + cfg.negative_weight * neg.sum()}
        if cfg.item_weight:
            terms["items"] = cfg.item_weight * (self.omega[pairs.pos] * F.softplus(-beside)).sum()
        return terms
