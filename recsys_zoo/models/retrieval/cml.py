"""CML: users and items in one metric space, near where they interact (Hsieh et al., WWW 2017)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from ...batch import Pairs
from ...card import Card, Published
from ...config import Search
from ...itemlists import ItemLists
from ...losses import ranking
from ...nn.content import ContentConfig, ItemContent
from ...nn.embedding import EmbeddingConfig
from ...nn.mlp import MLP, Width
from ...registry import register
from ...schema import FIRST, Schema
from ..base import ModelConfig
from ..vectors import Placed, VectorConfig, VectorModel


class CMLConfig(ContentConfig, ModelConfig):
    """Settings of CML."""

    newer: ClassVar[tuple[str, ...]] = ("rank_weight",)
    embedding: EmbeddingConfig = EmbeddingConfig(dim=100)
    negatives: Annotated[int, Search(choices=(10, 20, 50, 100))] = Field(
        20, ge=1, description="negative items a pair, W"
    )
    margin: Annotated[float, Search(low=0.5, high=2.0)] = Field(
        1.9, gt=0, description="m, of squared distances, which are at most 4 in the ball"
    )
    ball: float = Field(1.0, gt=0, description="longest vector: longer ones are cut to it after every step")
    hinge: Literal["closest", "sum"] = Field(
        "closest", description="closest: the nearest negative alone, as the code; sum: all, as the paper"
    )
    rank_weight: bool = Field(
        True, description="w, by the estimated rank of the positive; else 1, metric learning by triplets"
    )
    covariance: Annotated[float, Search(low=1e-3, high=10.0, log=True, zero=True)] = Field(
        0.0, ge=0, description="weight of the covariance term; 0: off, as in all published runs"
    )
    signed: bool = Field(
        False, description="covariances with their sign, as the code; else their squares, as the paper means"
    )
    features: Annotated[float, Search(low=1e-3, high=10.0, log=True)] = Field(
        0.0, ge=0, description="weight of the distances to what the item's columns say; 0: no columns"
    )
    hidden: tuple[Width, ...] = Field(
        (512,), description="features: widths of the hidden layers, with ReLU; class of the authors: 128"
    )
    feature_scale: float = Field(1.0, gt=0, description="features: s, factor of the perceptron's output")


@register
class CML(VectorModel):
    """s_ui = -|p_u - q_i|^2 for vectors in a ball."""

    card = Card(
        name="CML",
        family="retrieval",
        title="Collaborative Metric Learning",
        authors="Hsieh, Yang, Cui, Lin, Belongie, Estrin",
        year=2017,
        url="https://doi.org/10.1145/3038912.3052639",
        equations="D_ui = |p_u - q_i|^2; L = sum w_ui max(0, m + D_ui - min_j D_uj), "
        "w_ui = ln(1 + I M / W), M impostors among W negatives; |p|, |q| <= 1; + lambda sum of covariances; "
        "+ features sum_i |q_i - f(x_i)|^2, f(x) = s MLP(x) cut to the ball",
        notes=(
            "The loss is a sum over the batch: with Adam its scale hardly matters, with clipping it does.",
            "Preset official: the authors' script. Preset paper: the hinge summed over all negatives, and "
            "the covariance term. All three presets have the script's Adagrad, rate and batches, and no "
            "gradient cut; CML without one is trained by Adam, its gradients cut at norm 10 at most steps.",
            "Their Adagrad is TensorFlow's, whose sums of squares begin at 0.1; here they begin at 0. They "
            "drop the last batch of an epoch where it is not full; here it is kept.",
            "The rows of BARS are means over 1,000 users drawn once, not over all test users.",
            "With features (preset features: the authors' values) q starts as f(x), the sum is over all "
            "items with a training row at every step, and q moves by its gradient, f by that of its mean; "
            "items without a training row are placed by f. The content is TF-IDF with a truncated SVD, "
            "theirs 0/1 tags; their dropout is never on in training, and left out.",
            "Rows start at N(0, 1/d), about on the ball; embedding.init_std is not used.",
        ),
        published=(
            Published(
                board="gowalla_m1",
                metrics={"recall@20": 0.1670, "ndcg@20": 0.1292},
                source="BARS-Match, CML (mean over 1,000 sampled users)",
            ),
            Published(
                board="yelp18_m1",
                metrics={"recall@20": 0.0622, "ndcg@20": 0.0536},
                source="BARS-Match, CML (mean over 1,000 sampled users)",
            ),
        ),
    )
    Config = CMLConfig
    splits = False
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "official": {"embedding": {"dim": 100}, "negatives": 20, "margin": 1.9, "ball": 1.0,
                     "hinge": "closest", "covariance": 0.0},
        "paper": {"hinge": "sum", "covariance": 0.1},
        "features": {"features": 0.1, "margin": 2.0, "ball": 1.1},
    }
    preset_training: ClassVar[dict[str, dict[str, Any]]] = {
        name: {"optimizer": "adagrad", "lr": 0.1, "batch_size": 50_000, "clip_norm": 1e9}
        for name in ("official", "paper", "features")}

    def __init__(self, cfg: CMLConfig, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.whole_table = cfg.covariance > 0 or cfg.features > 0
        if cfg.features:
            self.content = ItemContent(cfg.content, cfg.content_dim, self.num_items)
            self.projector = MLP(cfg.content_dim, cfg.hidden, cfg.embedding.dim)

    @classmethod
    def idle(cls, cfg: CMLConfig) -> tuple[str, ...]:
        columns = ("model.features", "model.content_dim", "train.net_l2")
        return ("model.embedding.init_std", *super().idle(cfg), *columns * (not cfg.features))

    def tables_of(self, cfg: CMLConfig | VectorConfig) -> EmbeddingConfig:
        return cfg.embedding.model_copy(update={"init_std": cfg.embedding.dim**-0.5})

    @torch.no_grad()
    def prepare(self, train: ItemLists) -> None:
        """With features: the content, fitted on the items of training, and f(x) as first vectors of items."""
        super().prepare(train)
        if self.cfg.features:
            self.content.fit(train)
            told = self.projected(self.content.vectors)
            rows = torch.cat([told.new_zeros(FIRST, told.shape[1]), told])
            self.item_table.load_rows(self.schema.item, rows)

    def projected(self, content: Tensor) -> Tensor:
        """f(x) [n, d] of content [n, T]."""
        found = self.cfg.feature_scale * self.projector(content)
        return found * (self.cfg.ball / found.norm(dim=1, keepdim=True).clamp(min=self.cfg.ball))

    def vectors(self) -> tuple[Tensor, Tensor]:
        """p [U, d] and q [I, d]; with features, f(x) for items without a training row."""
        users, items = super().vectors()
        if self.cfg.features:
            items = torch.where(self.content.known[:, None], items, self.projected(self.content.vectors))
        return users, items

    def losses(self, pairs: Pairs) -> dict[str, Tensor]:
        """The weighted hinge summed over the batch, the covariance term of all vectors, and that of the
        features, which counts 1 + 1/I times: once for the items, a share for the perceptron."""
        user, pos = self.user_rows(pairs.user), self.item_rows(pairs.pos)
        good = (user - pos).square().sum(1)
        bad = self.distances(user, pairs.neg)
        warp = ranking.warp if self.cfg.hinge == "closest" else ranking.warp_of_all
        items = self.num_items if self.cfg.rank_weight else None
        terms = {"warp": warp(good, bad, self.cfg.margin, items)}
        if self.cfg.covariance:
            terms["covariance"] = self.cfg.covariance * self._covariance()
        if self.cfg.features:
            known = self.content.known.nonzero().squeeze(1)
            told, own = self.projected(self.content.vectors[known]), self.item_rows(known)
            moved = (own - told.detach()).square().sum() + (own.detach() - told).square().sum() / len(known)
            terms["features"] = self.cfg.features * moved
        return terms

    def _covariance(self) -> Tensor:
        users, items = self.user_table.matrix(self.schema.user), self.item_table.matrix(self.schema.item)
        x = torch.cat([items[FIRST:], users[FIRST:]])
        x = x - x.mean(0)
        between = x.t() @ x / len(x)
        between = between if self.cfg.signed else between.square()
        return between.sum() - between.diagonal().sum()

    @torch.no_grad()
    def after_step(self) -> None:
        """Vectors longer than the ball are cut to it; frozen ones stay as they are."""
        tables = ((self.schema.user, self.user_table), (self.schema.item, self.item_table))
        for layer in (layer for column, layer in tables if column not in self.cfg.embedding.frozen):
            for table in layer.tables():
                length = table.weight.norm(dim=1, keepdim=True).clamp(min=self.cfg.ball)
                table.weight.mul_(self.cfg.ball / length)

    @torch.no_grad()
    def placed(self) -> Placed:
        """The vectors, compared by their distance."""
        return Placed(*self.vectors(), "l2")
