"""SimGCL: LightGCN whose vectors, disturbed twice, must recognise each other (Yu et al., SIGIR 2022)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from ...batch import Pairs
from ...card import Card
from ...config import Search
from ...losses import ranking
from ...registry import register
from .lightgcn import LightGCN, LightGCNConfig


class SimGCLConfig(LightGCNConfig):
    """Settings of SimGCL."""

    layers: Annotated[int, Search(low=1, high=4)] = Field(3, ge=1, description="K, products with the graph")
    noise: Annotated[float, Search(low=0.01, high=0.5, log=True)] = Field(
        0.1, ge=0, description="epsilon, length of the random vector added to each layer"
    )
    contrast: Annotated[float, Search(low=1e-4, high=2.0, log=True)] = Field(
        0.1, ge=0, description="lambda, weight of the contrast between two disturbed views"
    )
    contrast_temperature: Annotated[float, Search(low=0.05, high=1.0, log=True)] = Field(
        0.2, gt=0, description="tau of the contrast"
    )


@register
class SimGCL(LightGCN):
    """E = mean of A^k E_0 over k = 1..K; scores <e_u, e_i>."""

    card = Card(
        name="SimGCL",
        family="retrieval",
        title="Are Graph Augmentations Necessary? Simple Graph Contrastive Learning for Recommendation",
        authors="Yu, Yin, Xia, Chen, Cui, Nguyen",
        year=2022,
        url="https://arxiv.org/abs/2112.08679",
        equations="E = 1/K sum_{k=1..K} A^k E_0; E', E'' the same with a random vector of length noise added "
        "to every row of every layer, in its orthant (eq. 7); L = BPR + contrast (InfoNCE of users' E' and "
        "E'' + that of items) + l2",
        notes=(
            "The contrast is taken over the different users and the different positive items of a batch.",
            "The L2 term is LightGCN's, of the rows of E_0 in the batch.",
            "The default weight of the contrast is for sparse graphs. On MovieLens-100K recall@20 is below "
            "popularity's after 60 epochs of it; 0.01 rises after 40, 0.001 from the first ones on.",
        ),
    )
    Config = SimGCLConfig
    splits = False  # the contrast is among the rows of a batch

    def vectors(self) -> tuple[Tensor, Tensor]:
        """Propagated vectors of all users [U, D] and items [I, D]."""
        return self.view(0.0)

    def of_pairs(self, pairs: Pairs) -> tuple[Tensor, Tensor, Tensor]:
        users, items = self.vectors()
        return users[pairs.user], items[pairs.pos], items[pairs.neg]

    def view(self, noise: float) -> tuple[Tensor, Tensor]:
        """Vectors of all users and items, disturbed by some noise."""
        return self.split(sum(self.graph_layers(noise)[1:]) / self.cfg.layers)

    def losses(self, pairs: Pairs) -> dict[str, Tensor]:
        """Terms of LightGCN and the contrast."""
        terms = super().losses(pairs)
        if self.cfg.contrast:
            terms["contrast"] = self.contrast(pairs, self.view(self.cfg.noise), self.view(self.cfg.noise))
        return terms

    def contrast(self, pairs: Pairs, one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
        """Weighted contrast between two views (users [U, D], items [I, D]) of what is in a batch."""
        temperature, total = self.cfg.contrast_temperature, 0.0
        for index, x, y in zip((pairs.user.unique(), pairs.pos.unique()), one, other, strict=True):
            total = total + ranking.info_nce(x[index], y[index], temperature)
        return self.cfg.contrast * total
