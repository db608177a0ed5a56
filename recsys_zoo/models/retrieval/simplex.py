"""SimpleX: users with the items of their history, and the cosine contrastive loss (Mao et al., CIKM 2021)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ...batch import Pairs
from ...card import Card, Published
from ...config import Search
from ...itemlists import ItemLists
from ...losses import ranking
from ...nn.embedding import EmbeddingConfig
from ...nn.lists import distinct, products_of_lists, sums_of_lists
from ...nn.sparse import HeldLists
from ...registry import register
from ...schema import FIRST, Schema
from ..base import ModelConfig
from ..vectors import VectorConfig, VectorModel

_USERS = 4096  # whose histories are gathered at once


class SimpleXConfig(ModelConfig):
    """Settings of SimpleX."""

    embedding: EmbeddingConfig = EmbeddingConfig(dim=64, init_std=0.1)
    negatives: Annotated[int, Search(choices=(50, 200, 1000, 2000))] = Field(
        200, ge=1, description="negative items a pair; authors: 800 to 2000"
    )
    own_negatives: bool = Field(False, description=(
        "negatives are drawn from all items, the user's own among them, as in the authors' code"))
    margin: Annotated[float, Search(low=0.0, high=0.95)] = Field(
        0.9, description="a negative whose cosine is below it costs nothing"
    )
    negative_weight: Annotated[float, Search(low=1.0, high=1000.0, log=True)] = Field(
        10.0, ge=0, description="weight of the negatives together; authors: 2 to 300 by data set"
    )
    own: Annotated[float, Search(low=0.0, high=1.0)] = Field(
        0.5, ge=0, le=1, description="g, share of the user's own vector; 1: no history, MF with this loss"
    )
    pooling: Annotated[
        Literal["mean", "user_attention", "self_attention"],
        Search(choices=("mean", "user_attention", "self_attention")),
    ] = Field("mean", description="of the history")
    history: int = Field(500, ge=1, description="longest history; of a longer one the items of most users")
    history_vectors: Literal["items", "own"] = Field(
        "items", description="of the items of a history: those that are ranked, or a table of their own"
    )
    count_padding: bool = Field(False, description=(
        "attention: places left in a history of that length count as items of score 0 and vector 0, as in "
        "the authors' code"))
    dropout: Annotated[float, Search(low=0.0, high=0.5)] = Field(
        0.0, ge=0, lt=1, description="of the user's vector in training"
    )


@register
class SimpleX(VectorModel):
    """s_ui = cos(h_u, q_i)."""

    card = Card(
        name="SimpleX",
        family="retrieval",
        title="SimpleX: A Simple and Strong Baseline for Collaborative Filtering",
        authors="Mao, Zhu, Wang, Dai, Dong, Xiao, He",
        year=2021,
        url="https://arxiv.org/abs/2109.12613",
        equations="h_u = g p_u + (1 - g) V pool of q_j over the history; pool: mean, or softmax of "
        "<tanh(K q_j + b), p_u> (of a vector k in place of p_u: self-attention); "
        "L = mean of 1 - s_ui + w/N sum_j max(0, s_uj - m)",
        notes=(
            "In training the item of the pair is left out of the history; later the history is all of it.",
            "Negatives are never items of the user; with own_negatives they are drawn from all items, as in "
            "the code.",
            "In the authors' run on Gowalla, by its settings and its number of parameters, histories have a "
            "table of their own (history_vectors) and are not cut; on Yelp18 and AmazonBooks they share it.",
            "The authors' L2 of 1e-7 to 1e-9 over the tables is train.table_l2; their biases are not built.",
            "Vectors start from N(0, 0.1^2); the code's 1e-4 is embedding.init_std, and matters, since the "
            "gradient of a cosine grows as vectors get short.",
        ),
        published=(
            Published(
                board="gowalla_m1",
                metrics={"recall@20": 0.1872, "ndcg@20": 0.1557},
                source="BARS-Match, SimpleX",
            ),
            Published(
                board="yelp18_m1",
                metrics={"recall@20": 0.0701, "ndcg@20": 0.0575},
                source="BARS-Match, SimpleX",
            ),
        ),
    )
    Config = SimpleXConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = {"mf_ccl": {"own": 1.0}}
    whole_table = True
    cosine = True
    train_defaults: ClassVar[dict[str, Any]] = {**VectorModel.train_defaults, "batch_size": 512}

    @classmethod
    def idle(cls, cfg: SimpleXConfig) -> tuple[str, ...]:
        """Without a history in it, the recipe says that there is none."""
        history = ("model.own", "model.pooling", "train.net_l2")
        return super().idle(cfg) + history * (cfg.own == 1)

    def __init__(self, cfg: SimpleXConfig | VectorConfig, schema: Schema) -> None:
        super().__init__(cfg, schema)
        dim = cfg.embedding.dim
        self.dropout = nn.Dropout(cfg.dropout)
        if cfg.own < 1:
            self.value = nn.Linear(dim, dim, bias=False)
        if cfg.own < 1 and cfg.pooling != "mean":
            self.key = nn.Linear(dim, dim)
        if cfg.own < 1 and cfg.pooling == "self_attention":
            self.query = nn.Parameter(torch.empty(dim, 1))
            nn.init.xavier_normal_(self.query)
        for layer in (module for module in self.children() if isinstance(module, nn.Linear)):
            nn.init.xavier_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        if cfg.own < 1 and cfg.history_vectors == "own":
            self.history_table = self.table_of(cfg, "item")
        self.histories = HeldLists(self.num_users)

    def prepare(self, train: ItemLists) -> None:
        """The histories; of those that are longer than `history`, the items of most users come first."""
        super().prepare(train)
        user, item = train.pairs()
        long = (train.counts > self.cfg.history)[user]
        if bool(long.any()):
            users_of = torch.bincount(item, minlength=self.num_items)[item]
            order = torch.argsort(torch.where(long, -users_of, 0), stable=True)
            order = order[torch.argsort(user[order], stable=True)]
            train = ItemLists(train.offsets, item[order])
        self.histories.hold(train)

    def history_rows(self, items: Tensor) -> Tensor:
        """Vectors [..., D] of items as parts of a history."""
        if self.cfg.history_vectors == "items":
            return self.item_rows(items)
        return self.history_table.rows(self.schema.item, items + FIRST)

    def of_users(self, users: Tensor, without: Tensor | None = None) -> Tensor:
        """h_u [B, D] of users [B], one item [B] left out of each history if it is there."""
        own, cfg = self.user_rows(users), self.cfg
        if cfg.own == 1:
            return own
        place, item = self.histories.of_users(users)
        if without is not None:
            kept = item != without[place]
            place, item = place[kept], item[kept]
        counts = torch.bincount(place, minlength=len(users))
        first = counts.cumsum(0) - counts
        kept = torch.arange(len(place), device=place.device) - first[place] < cfg.history
        place, item, counts = place[kept], item[kept], counts.clamp(max=cfg.history)
        ids, slot = distinct(item, self.num_items)
        vectors, at = self.history_rows(ids), slot[item]
        weight = self._weights(vectors, own, at, place, counts)
        return cfg.own * own + (1 - cfg.own) * self.value(sums_of_lists(vectors, at, counts, weight))

    def _weights(self, vectors: Tensor, own: Tensor, at: Tensor, place: Tensor, counts: Tensor) -> Tensor:
        """Of each entry of the histories, [n]: its item has the vector `at`, its user the place `place`."""
        if self.cfg.pooling == "mean":
            return 1 / counts[place].to(vectors.dtype)
        keys = torch.tanh(self.key(vectors)).float()
        if self.cfg.pooling == "self_attention":
            logits = (keys @ self.query).squeeze(1).float()[at]
        else:
            logits = products_of_lists(own, keys, at, counts)
        padding = (self.cfg.history - counts) * self.cfg.count_padding
        zero = logits.new_zeros(len(counts))
        top = zero.scatter_reduce(0, place, logits.detach(), "amax", include_self=self.cfg.count_padding)
        share = (logits - top[place]).exp()
        total = (padding * (-top).exp()).index_add(0, place, share)
        return share / total[place]

    def losses(self, pairs: Pairs) -> dict[str, Tensor]:
        """The cosine contrastive loss."""
        user = self.compared(self.of_users(pairs.user, pairs.pos))
        scores = self.similarities(self.dropout(user), torch.cat([pairs.pos[:, None], pairs.neg], 1))
        good, bad, cfg = scores[:, 0], scores[:, 1:], self.cfg
        return {"cosine_contrastive": ranking.cosine_contrastive(good, bad, cfg.margin, cfg.negative_weight)}

    def vectors(self) -> tuple[Tensor, Tensor]:
        """h_u of all users [U, D], and the items' vectors [I, D]."""
        _, items = super().vectors()
        numbers = torch.arange(self.num_users, device=items.device)
        return torch.cat([self.of_users(part) for part in numbers.split(_USERS)]), items
