"""Models that give every user and item a vector: learnt from pairs, ranked by similarity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, ClassVar, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from ..batch import DrawnFrom, Pairs
from ..config import Search
from ..errors import InputError, unknown_name
from ..itemlists import ItemLists
from ..losses import ranking
from ..nn.embedding import Embedding, EmbeddingConfig
from ..nn.lists import distinct
from ..nn.pairs import chosen_distances, chosen_products, pair_scores, takes_rows
from ..nn.products import Distances, Products
from ..nn.sparse import HeldLists
from ..schema import FIRST, Schema
from .base import ModelConfig, RankingModel
from .histories import UsersOfBatch

LossName = Literal[
    "bpr",
    "cross_entropy",
    "cosine_contrastive",
    "sampled_softmax",
    "in_batch_softmax",
    "alignment_uniformity",
]

Metric = Literal["dot", "l2"]

IN_BATCH = ("in_batch_softmax", "alignment_uniformity")  # losses that draw no negatives
_DRAWING = "|".join(name for name in get_args(LossName) if name not in IN_BATCH)
_SOFTMAX = "sampled_softmax|in_batch_softmax"
# Without a kernel, gathering a vector and moving its row costs about as much as the products with so many
GATHER_COST = 64


class Placed(NamedTuple):
    """Vectors that rank items for users by themselves: users [U, D], items [I, D], float32.

    metric: scores are inner products (dot), or minus squared distances (l2).
    """

    users: Tensor
    items: Tensor
    metric: Metric

    def scorer(self) -> Products:
        """users [B] -> scores [B, I]."""
        return (Distances if self.metric == "l2" else Products)(self.users, self.items)


class VectorConfig(ModelConfig):
    """Settings of every model of vectors; a loss uses those that its formula has."""

    newer: ClassVar[tuple[str, ...]] = ("sampler", "popularity_power", "candidates")  # see `ModelConfig`
    embedding: EmbeddingConfig = EmbeddingConfig(dim=64, init_std=0.1)
    loss: LossName = Field("bpr", description="see losses/ranking.py")
    negatives: Annotated[int, Search(choices=(1, 4, 16, 64, 256), when=f"loss={_DRAWING}")] = Field(
        1, ge=0, description="negative items a pair; 0 for the losses that take the others of the batch"
    )
    sampler: Literal["uniform", "popularity", "hard"] = Field("uniform", description=(
        "negatives: all items alike; by their users to some power; or the best scored of some drawn alike"))
    popularity_power: float = Field(0.75, ge=0, le=1, description="of the number of an item's users")
    candidates: int = Field(8, ge=2, description="of which the hard sampler takes one, for each negative")
    similarity: Literal["dot", "cosine"] = Field("dot", description="of the vectors of user and item")
    temperature: Annotated[float, Search(low=0.05, high=1.0, log=True, when=f"loss={_SOFTMAX}")] = Field(
        1.0, gt=0, description="of both softmaxes: scores are divided by it"
    )
    margin: Annotated[float, Search(low=0.0, high=0.95, when="loss=cosine_contrastive")] = Field(
        0.9, description="cosine_contrastive: a negative below it costs nothing"
    )
    negative_weight: Annotated[
        float, Search(low=1.0, high=1000.0, log=True, when="loss=cosine_contrastive")
    ] = Field(150.0, ge=0, description="cosine_contrastive: weight of the negatives together")
    uniformity: Annotated[
        float, Search(low=0.1, high=10.0, log=True, when="loss=alignment_uniformity")
    ] = Field(1.0, ge=0, description="alignment_uniformity: weight of the uniformity")
    l2: Annotated[float, Search(low=1e-8, high=1e-2, log=True)] = Field(
        1e-4, ge=0, description="adds l2/2 times the mean over the batch of the squared norms of its vectors"
    )

    @model_validator(mode="after")
    def _consistent(self) -> VectorConfig:
        if not self.negatives and self.loss not in IN_BATCH:
            raise ValueError(f"loss={self.loss!r} needs negatives: set one at least")
        if self.sampler != "uniform" and self.loss in IN_BATCH:
            raise ValueError(f"sampler={self.sampler!r}: loss={self.loss!r} draws no negatives; leave it out")
        return self


class VectorModel(RankingModel):
    """Tables of users and items; a subclass may make other vectors of them (`vectors`, `of_pairs`)."""

    Config = VectorConfig
    def __init__(self, cfg: VectorConfig, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.splits = type(self).splits and getattr(cfg, "loss", "") not in IN_BATCH
        self.register_buffer("log_q", torch.zeros(self.num_items), persistent=False)
        if getattr(cfg, "loss", "") == "in_batch_softmax":
            self.own_items = HeldLists(self.num_users, persistent=False)
            self.fixed_shapes = False
        self.make_tables(cfg)

    def make_tables(self, cfg: VectorConfig) -> None:
        """The tables of users and items; InputError for settings of columns that have none."""
        own = (self.schema.user, self.schema.item)
        for name in cfg.embedding.frozen:
            if name not in own:
                raise unknown_name("column with vectors here", name, own)
        if cfg.embedding.widths:
            raise InputError("embedding.widths: users and items have vectors of one width; set embedding.dim")
        self.user_table, self.item_table = self.table_of(cfg, "user"), self.table_of(cfg, "item")

    def table_of(self, cfg: VectorConfig, side: Literal["user", "item"]) -> Embedding:
        """A table of all users, or of all items."""
        schema = self.schema.of_side(side)
        column = schema.user if side == "user" else schema.item
        tables = self.tables_of(cfg)
        frozen = tuple(name for name in tables.frozen if name == column)
        return Embedding(schema, tables.model_copy(update={"frozen": frozen}), columns=(column,))

    def tables_of(self, cfg: VectorConfig) -> EmbeddingConfig:
        """Settings of both tables."""
        return cfg.embedding

    @property
    def negatives(self) -> int:
        """How many negatives are drawn for a pair."""
        if getattr(self.cfg, "loss", "") in IN_BATCH:
            return 0
        return self.cfg.negatives * (self.cfg.candidates if self.sampler == "hard" else 1)

    @property
    def sampler(self) -> str:
        """How negatives are drawn, by its name in the settings."""
        return getattr(self.cfg, "sampler", "uniform")

    @property
    def negatives_from(self) -> DrawnFrom:
        """What negatives are drawn from (see `RankingTask`)."""
        return "items" if getattr(self.cfg, "own_negatives", False) else "user"

    def negatives_by(self, train: ItemLists) -> Tensor | None:
        """Weights [I] by which negatives are drawn; None: all alike."""
        if self.sampler != "popularity":
            return None
        counts = torch.bincount(train.items, minlength=self.num_items)
        return counts.double() ** self.cfg.popularity_power * (counts > 0)

    def prepare(self, train: ItemLists) -> None:
        """Take from the training lists what the model needs beside its tables: how often an item stands in a
        batch, and the items of users for a softmax over the batch."""
        weight = self.negatives_by(train)
        if weight is None:
            weight = torch.bincount(train.items, minlength=self.num_items).clamp(min=1)
        self.log_q = (weight / weight.sum()).log().to(self.log_q)
        if hasattr(self, "own_items"):
            self.own_items.hold(train)

    def user_rows(self, users: Tensor) -> Tensor:
        """Rows [..., D] of the users' table, users numbered from 0."""
        return self.user_table.rows(self.schema.user, users + FIRST)

    def item_rows(self, items: Tensor) -> Tensor:
        """Rows [..., D] of the items' table, items numbered from 0."""
        return self.item_table.rows(self.schema.item, items + FIRST)

    def of_pairs(self, pairs: Pairs) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors of user [B, D], positive [B, D] and negatives [B, N, D]."""
        return self.user_rows(pairs.user), self.item_rows(pairs.pos), self.item_rows(pairs.neg)

    def distances(self, users: Tensor, items: Tensor) -> Tensor:
        """Squared distances of vectors [B, D] from some items [B, N] of each: [B, N].

        The kernel reads each of the items' rows from one place, so that there are no B x N x D numbers.
        """
        if not takes_rows(users):
            return (users[:, None] - self.item_rows(items)).square().sum(2)
        return chosen_distances(users, *self.distinct_rows(items))

    def distinct_rows(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """Rows [n, D] of the items' table for the different ones of some items, and the place of each there.

        On a CPU: elsewhere their number would have to be waited for.
        """
        ids, slot = distinct(items, self.num_items)
        return self.item_rows(ids), slot[items]

    def similarities(self, users: Tensor, items: Tensor) -> Tensor:
        """Inner products of vectors [B, D], as they are compared, with some items [B, N] of each: [B, N].

        The kernel reads rows where they stand: in the table, or of few items in a copy. Without it many items
        are scored by a product with the whole table, of B x I numbers.
        """
        by_kernel = takes_rows(users)
        if by_kernel and items.numel() < self.num_items:
            return chosen_products(users, *self.distinct_rows(items), self.cosine)
        if not by_kernel and items.shape[1] * GATHER_COST < self.num_items:
            return torch.einsum("bd,bnd->bn", users, self.compared(self.item_rows(items)))
        table, behind = self.item_table.table_of(self.schema.item)
        return chosen_products(users, table, items + (FIRST + behind), self.cosine)

    def compared(self, vectors: Tensor) -> Tensor:
        """Vectors [..., D] whose inner products are the scores."""
        return F.normalize(vectors, dim=-1) if self.cosine else vectors

    def vectors(self) -> tuple[Tensor, Tensor]:
        """Vectors of all users [U, D] and items [I, D]."""
        device = next(self.parameters()).device
        return (self.user_rows(torch.arange(self.num_users, device=device)),
                self.item_rows(torch.arange(self.num_items, device=device)))

    def decayed(self, pairs: Pairs, vectors: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, ...]:
        """What the L2 term of a batch is taken of."""
        return vectors

    def candidate_scores(self, pairs: Pairs) -> Tensor:
        """Scores of the items drawn for each user, [B, N]."""
        return self.similarities(self.compared(self.user_rows(pairs.user)), pairs.neg)

    @torch.no_grad()
    def chosen(self, pairs: Pairs) -> Pairs:
        """The pairs with the negatives that are learnt from: all that were drawn, or by the hard sampler the
        best scored of each few (Zhang et al., SIGIR 2013)."""
        if self.sampler != "hard":
            return pairs
        few = (len(pairs), self.cfg.negatives, self.cfg.candidates)
        best = self.candidate_scores(pairs).view(few).argmax(2, keepdim=True)
        return replace(pairs, neg=pairs.neg.view(few).gather(2, best).squeeze(2))

    def losses(self, pairs: Pairs) -> dict[str, Tensor]:
        """The loss of a batch by name, and its L2 term."""
        pairs = self.chosen(pairs)
        return self.terms(pairs, self.of_pairs(pairs))

    def terms(self, pairs: Pairs, vectors: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
        """The same by the vectors of user [B, D], positive [B, D] and negatives [B, N, D]."""
        terms = {self.cfg.loss: self._loss(pairs, *vectors)}
        if self.cfg.l2:
            squares = sum(v.square().sum() for v in self.decayed(pairs, vectors))
            terms["l2"] = self.cfg.l2 / 2 * squares / len(pairs)
        return terms

    def _loss(self, pairs: Pairs, user: Tensor, pos: Tensor, neg: Tensor) -> Tensor:
        cfg = self.cfg
        user, pos, neg = (self.compared(v) for v in (user, pos, neg))
        if cfg.loss == "alignment_uniformity":
            uniform = ranking.uniformity(user) + ranking.uniformity(pos)
            return ranking.alignment(user, pos) + cfg.uniformity * uniform / 2
        if cfg.loss == "in_batch_softmax":
            batch = UsersOfBatch(self.own_items, pairs)
            scores = batch.masked(user @ pos.t(), self.num_items) / cfg.temperature
            return ranking.in_batch_softmax(scores, pairs.pos, self.log_q[pairs.pos])
        return self.loss_of_scores(pairs, *pair_scores(user, pos, neg))

    def loss_of_scores(self, pairs: Pairs, good: Tensor, bad: Tensor) -> Tensor:
        """The loss of a batch by the scores of positives [B] and negatives [B, N]."""
        cfg = self.cfg
        if cfg.loss == "cosine_contrastive":
            return ranking.cosine_contrastive(good, bad, cfg.margin, cfg.negative_weight)
        if cfg.loss == "sampled_softmax":
            rates = [self.log_q[items] for items in (pairs.pos, pairs.neg) if self.sampler == "popularity"]
            return ranking.sampled_softmax(good / cfg.temperature, bad / cfg.temperature, *rates)
        if cfg.loss == "cross_entropy":
            return ranking.cross_entropy_with_negatives(good, bad)
        return ranking.bpr(good, bad)

    @property
    def cosine(self) -> bool:
        """Whether vectors are compared by their directions alone."""
        named = (getattr(self.cfg, name, "") for name in ("similarity", "loss"))
        return any(value in ("cosine", "alignment_uniformity") for value in named)

    @torch.no_grad()
    def placed(self) -> Placed:
        """The vectors that `scoring` compares, by the weights as they are now."""
        return Placed(*(self.compared(v) for v in self.vectors()), "dot")

    @torch.no_grad()
    def scoring(self) -> Callable[[Tensor], Tensor]:
        """users [B] -> scores [B, I] by the weights as they are now."""
        return self.placed().scorer()
