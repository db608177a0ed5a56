"""LightGCN: vectors averaged over neighbours in the graph of users and items (He et al., SIGIR 2020)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ...batch import Pairs, Positives
from ...card import Card, Published
from ...config import Search
from ...itemlists import ItemLists
from ...nn.pairs import chosen_products
from ...nn.sparse import SparseMatrix
from ...registry import register
from ...schema import FIRST, Schema
from ..vectors import VectorConfig, VectorModel


class _Symmetric(torch.autograd.Function):
    """A x for a symmetric sparse A: the gradient is A g."""

    @staticmethod
    def forward(ctx: Any, matrix: SparseMatrix, x: Tensor) -> Tensor:
        ctx.matrix = matrix
        return matrix.product(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, ctx.matrix.product(gradient)


class _Propagated(torch.autograd.Function):
    """Rows of the mean of A^k E_0 over k = 0..K for a symmetric A. The last product is made for these rows
    alone, and the first one of the backward pass from their gradients alone: others would not be read."""

    @staticmethod
    def forward(ctx: Any, matrix: SparseMatrix, layers: int, rows: Tensor, e0: Tensor) -> Tensor:
        ctx.matrix, ctx.layers, ctx.rows = matrix, layers, rows
        found, layer = e0[rows], e0
        for _ in range(layers - 1):
            layer = matrix.product(layer)
            found += layer[rows]
        if layers:
            found += matrix.product_of(rows, layer)
        return found / (layers + 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, None, Tensor]:
        own = gradient / (ctx.layers + 1)
        total = None
        for _ in range(ctx.layers):
            first = total is None
            total = ctx.matrix.symmetric_product_from(ctx.rows, own) if first else ctx.matrix.product(total)
            total.index_add_(0, ctx.rows, own)
        if total is None:
            total = own.new_zeros(ctx.matrix.columns, own.shape[1]).index_copy_(0, ctx.rows, own)
        return None, None, None, total


def disturbed(x: Tensor, noise: float) -> Tensor:
    """Each row moved by a random vector of length `noise` in its orthant (Yu et al., SIGIR 2022, eq. 7)."""
    return x + x.sign() * F.normalize(torch.rand_like(x), dim=-1) * noise


class LightGCNConfig(VectorConfig):
    """Settings of LightGCN."""

    newer: ClassVar[tuple[str, ...]] = (*VectorConfig.newer, "positives")
    positives: Positives = Field("pairs", description=(
        "of an epoch: every pair once; users: as many draws of a user, all alike, with one of its items"))
    layers: Annotated[int, Search(low=1, high=4)] = Field(3, ge=0, description="K, products with the graph")


@register
class LightGCN(VectorModel):
    """E = mean of A^k E_0 over k = 0..K; scores <e_u, e_i>. Every step goes over the whole graph."""

    card = Card(
        name="LightGCN",
        family="retrieval",
        title="LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation",
        authors="He, Deng, Wang, Li, Zhang, Wang",
        year=2020,
        url="https://arxiv.org/abs/2002.02126",
        equations="A_ui = 1 / sqrt(d_u d_i) for an interaction, else 0; E = 1/(K+1) sum_k A^k E_0; "
        "s_ui = <e_u, e_i>; L = mean ln(1 + e^(s_uj - s_ui)) + l2/2 mean of squared norms of the E_0 rows",
        notes=(
            "The L2 term is that of the rows of E_0 in the batch, as in both of the authors' codes.",
            "In the authors' codes a user counts as much as any other (positives=users); TensorFlow's, which "
            "the published runs had, begins with Xavier's range, of deviation 0.0076 on Gowalla and Yelp18.",
            "A user or item without an interaction keeps E_0 / (K + 1).",
            "It ranks by popularity for its first hundreds of steps, on MovieLens-100K for 20 epochs; so it "
            "may stand still for 100 before it is stopped, as in the published runs.",
        ),
        published=(
            Published(
                board="gowalla_m1",
                metrics={"recall@20": 0.1820, "ndcg@20": 0.1547},
                source="BARS-Match, LightGCN",
            ),
            Published(
                board="yelp18_m1",
                metrics={"recall@20": 0.0653, "ndcg@20": 0.0532},
                source="BARS-Match, LightGCN",
            ),
        ),
    )
    Config = LightGCNConfig
    bare = True
    whole_table = True
    train_defaults: ClassVar[dict[str, Any]] = {**VectorModel.train_defaults, "patience": 100}

    def __init__(self, cfg: LightGCNConfig, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.graph = SparseMatrix(self.num_users + self.num_items)

    def prepare(self, train: ItemLists) -> None:
        """The normalised adjacency of users and items, both ways."""
        super().prepare(train)
        user, item = train.pairs()
        degrees = torch.cat([train.counts, torch.bincount(train.items, minlength=self.num_items)])
        item = item + self.num_users
        rows, columns = torch.cat([user, item]), torch.cat([item, user])
        values = (degrees[rows].double() * degrees[columns]).rsqrt().float()
        order, device = torch.argsort(rows * len(degrees) + columns), self.graph.values.device
        self.graph.crow = torch.cat([degrees.new_zeros(1), degrees.cumsum(0)]).to(device)
        self.graph.col, self.graph.values = columns[order].to(device), values[order].to(device)

    def initial(self) -> Tensor:
        """E_0, users before items, [U + I, D]."""
        users, items = self.user_table.matrix(self.schema.user), self.item_table.matrix(self.schema.item)
        return torch.cat([users[FIRST:], items[FIRST:]])

    def graph_layers(self, noise: float = 0.0) -> list[Tensor]:
        """A^k E_0 for k = 0..K, users before items, [U + I, D] each; noise: see `disturbed`."""
        found = [self.initial()]
        with torch.autocast(found[0].device.type, enabled=False):  # sparse products have no bfloat16
            for _ in range(self.cfg.layers):
                layer = _Symmetric.apply(self.graph, found[-1])
                found.append(disturbed(layer, noise) if noise else layer)
        return found

    def split(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Those of users [U, D] and of items [I, D]."""
        return vectors.split([self.num_users, self.num_items])

    def vectors(self) -> tuple[Tensor, Tensor]:
        """Propagated vectors of all users [U, D] and items [I, D]."""
        return self.split(sum(self.graph_layers()) / (self.cfg.layers + 1))

    def candidate_scores(self, pairs: Pairs) -> Tensor:
        users, items = self.vectors()
        return chosen_products(self.compared(users[pairs.user]), items, pairs.neg, self.cosine)

    def of_pairs(self, pairs: Pairs) -> tuple[Tensor, Tensor, Tensor]:
        e0 = self.initial()
        places = (pairs.user, self.num_users + pairs.pos, self.num_users + pairs.neg.flatten())
        rows, at = torch.cat(places).unique(return_inverse=True)
        with torch.autocast(e0.device.type, enabled=False):  # sparse products have no bfloat16
            found = _Propagated.apply(self.graph, self.cfg.layers, rows, e0)
        user, pos, neg = F.embedding(at, found).split([len(place) for place in places])
        return user, pos, neg.view(*pairs.neg.shape, found.shape[1])

    def decayed(self, pairs: Pairs, vectors: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, ...]:
        return super().of_pairs(pairs)
