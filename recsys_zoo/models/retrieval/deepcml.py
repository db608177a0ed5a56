"""Deep CML for new items: distances between a history and what an item's columns say (Campo et al., 2018)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from ...batch import DrawnFrom, Pairs
from ...card import Card
from ...config import Search
from ...itemlists import ItemLists
from ...losses import ranking
from ...nn.lists import distinct, sums_of_lists
from ...nn.mlp import MLP
from ...nn.pairs import chosen_distances
from ...nn.sparse import HeldLists
from ...registry import register
from ...schema import Schema
from ..histories import UsersOfBatch
from ..towers import AT_ONCE, TowerConfig, Towers, in_ball
from ..vectors import Placed


class DeepCMLConfig(TowerConfig):
    """Settings of deep CML."""

    newer: ClassVar[tuple[str, ...]] = ("released", "window", "past", "distance")  # see `ModelConfig`
    pooling: Annotated[Literal["mean", "attention"], Search(choices=("mean", "attention"))] = Field(
        "mean", description="of the items of a history; attention: learnt weights that fall with their age"
    )
    history: int = Field(50, ge=1, description="attention: so many latest items, where there are times")
    past: bool = Field(False, description=(
        "the history of a training pair is what its user had before it, not all but its item; needs times"))
    negatives: Annotated[int, Search(choices=(5, 10, 20, 50))] = Field(
        20, ge=1, description="negative items a pair, W"
    )
    released: bool = Field(False, description=(
        "negatives are items that were in release at the moment of the pair: somebody had had them by then; "
        "for times of one clock, not places in the order of each user"))
    window: float = Field(0.0, ge=0, description=(
        "released: and at most so long before, in the unit of the data's times; 0: however long"))
    margin: Annotated[float, Search(low=0.1, high=2.0)] = Field(
        1.9, gt=0, description="m, of squared distances, which are at most 4 in the ball"
    )
    probability: Annotated[float, Search(low=0.01, high=10.0, log=True)] = Field(
        1.0, gt=0, description="alpha, weight of the loss of the probabilities"
    )
    default: float = Field(
        0.05, gt=0, description="weight of the same hinge for a user of whom nothing is known"
    )
    distance: Literal["learnt", "content"] = Field("learnt", description=(
        "content: of what the items say, without tower and hinge (dim and hidden are not used); what makes "
        "chances of it alone is learnt, so watch logloss: lists stay as they are"))

    @model_validator(mode="after")
    def _consistent(self) -> DeepCMLConfig:
        if self.window and not self.released:
            raise ValueError(f"window={self.window:g} is of items in release: set released=true too")
        if self.distance == "content" and self.pooling == "attention":
            raise ValueError("distance=content learns no vectors, but attention does: set pooling=mean")
        return self


@register
class DeepCML(Towers):
    """s_ui = -|g_u - v_i|^2, v_i = f(x_i), g_u a mean of v_j over the history; `logits` for probabilities."""

    card = Card(
        name="Deep CML",
        family="retrieval",
        title="Collaborative Metric Learning Recommendation System: Application to Theatrical Movie Releases",
        authors="Campo, Espinoza, Rieger, Taliyan",
        year=2018,
        url="https://arxiv.org/abs/1803.00202",
        equations="v_i = f(x_i), |v_i| <= 1, f an MLP of the content x_i; g_u = mean or attention of v_j "
        "over the history; D = |g_u - v_i|^2; p = sigmoid(b - s D + w ln(1 + |h_u|)), s > 0; "
        "L = mean of the WARP hinge of CML + alpha * cross-entropy",
        notes=(
            "Built from the abstract: the paper's network, text vectors and data are not public. Content is "
            "TF-IDF of the item's columns and a truncated SVD of it.",
            "The item of a pair is left out of the history; users without history share a learnt vector. "
            "With past=true what came later is left out too, as it is where new items are asked for. A mean "
            "is over all that is left, attention over the latest ones (history).",
            "Each pair has W negatives of its user, so chances are corrected by the rate at which others "
            "of that user are drawn: logit p = logit q + ln(n_u W / (I - n_u)), n_u >= 1/2.",
            "Negatives are drawn from all items of training, or with released=true from those in release at "
            "the moment of the purchase; an item's release is its first one. Then the correction of chances "
            "holds on average over items, not for each, and w is of the rank among all of them. Chances have "
            "no term of the release. On MovieLens-100K, five seeds, no gain is seen of it, nor of past=true "
            "(benchmarks/results/README.md).",
            "Of the paper's basics of customers there is their number of purchases alone.",
            "The preset content is the comparison of the abstract: the same without collaborative training.",
            "No number of the paper is known to us.",
        ),
        faithful="reconstruction",
    )
    Config = DeepCMLConfig
    splits = False
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "content": {"distance": "content", "pooling": "mean"}}
    train_defaults: ClassVar[dict[str, Any]] = {**Towers.train_defaults, "net_l2": 1e-5}
    preset_training: ClassVar[dict[str, dict[str, Any]]] = {"content": {"lr": 0.02}}

    def __init__(self, cfg: DeepCMLConfig, schema: Schema) -> None:
        super().__init__(cfg, schema)
        learnt = cfg.distance == "learnt"
        width = cfg.dim if learnt else cfg.content_dim
        self.tower = MLP(cfg.content_dim, cfg.hidden, width) if learnt else nn.Identity()
        self.unknown = nn.Parameter(torch.randn(width) / width**0.5 / 2)  # g_0
        # s = softplus(scale), w, b; at the start even chances at a distance of 0.4, 1 in 250 at 1.5
        self.scale, self.frequency, self.bias = (nn.Parameter(torch.tensor(v)) for v in (5.0, 0.0, 2.0))
        if cfg.pooling == "attention":
            self.key = nn.Linear(cfg.dim, cfg.dim)
            self.query = nn.Parameter(torch.empty(cfg.dim, 1))
            nn.init.xavier_normal_(self.query)
            self.decay = nn.Parameter(torch.zeros(()))
        if cfg.pooling == "attention" or cfg.past:
            self.ages = HeldLists(self.num_users, persistent=cfg.pooling == "attention")
        self.known = self.num_items

    def prepare(self, train: ItemLists) -> None:
        """Content, histories and the number of items that have a training row; all items of a history are
        equally old until `use_ages` says more."""
        super().prepare(train)
        self.known = int(self.content.known.sum())
        self.use_ages(torch.zeros_like(train.items))

    def use_ages(self, ages: Tensor) -> None:
        """How many items of the same user are later, for each item of the histories [n]."""
        if hasattr(self, "ages"):
            self.ages.hold(ItemLists(self.histories.offsets, ages))

    @property
    def negatives_from(self) -> DrawnFrom:
        """What negatives are drawn from (see `RankingTask`)."""
        return "released" if self.cfg.released else "user"

    def items_of(self, content: Tensor) -> Tensor:
        """v [n, d] of content [n, T]."""
        return in_ball(self.tower(content).float())

    def gathered(self, pairs: Pairs) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Vectors of the users [B, d] and of the items that matter [n, d], each computed once; which of these
        are the positives [B] and the negatives [B, N]."""
        batch = UsersOfBatch(self.histories, pairs)
        wanted = torch.cat([batch.item, pairs.pos, pairs.neg.flatten()])
        ids, slot = distinct(wanted, self.num_items)
        item, pos, neg = slot[wanted].split([len(batch.item), len(pairs), pairs.neg.numel()])
        vectors = self.items_of(self.content.vectors[ids])
        if self.cfg.pooling == "mean" and not self.cfg.past:
            user = batch.means(vectors, item, pos)
            user = torch.where(batch.counts[:, None] > 0, user, in_ball(self.unknown))
        else:
            user = self.pooled(pairs.user, vectors, self.asked(vectors), slot, pairs.pos)
        return user, vectors, pos, neg.view(pairs.neg.shape)

    def asked(self, vectors: Tensor) -> Tensor | None:
        """Logits [n] of vectors of items in every history, before their age; None for a mean."""
        if self.cfg.pooling == "mean":
            return None
        return (torch.tanh(self.key(vectors)) @ self.query).squeeze(1).float()

    def pooled(self, users: Tensor, vectors: Tensor, asked: Tensor | None, slot: Tensor,
               without: Tensor | None = None) -> Tensor:
        """Means [B, d] over histories, by attention weighted and of their latest items alone; g_0 where
        nothing is left.

        vectors [n, d], asked [n]: those of item i in row slot[i]. without [B]: an item of each history that
        is left out, and with past=true what came after it.
        """
        row, item = self.histories.of_users(users)
        age = self.ages.of_users(users)[1] if hasattr(self, "ages") else torch.zeros_like(item)
        if without is not None:
            own = item == without[row]
            then = self._age_of(own, row, age, len(users))[row]
            kept = age > then if self.cfg.past else ~own
            row, item = row[kept], item[kept]
            age = (age - (age > then) * (then + 1 if self.cfg.past else 1))[kept]
        if asked is not None:
            kept = age < self.cfg.history
            row, item, age = row[kept], item[kept], age[kept]
        place, sizes = slot[item], torch.bincount(row, minlength=len(users))
        if asked is None:
            found = sums_of_lists(vectors, place, sizes) / sizes.clamp(min=1)[:, None]
        else:
            weight = asked[place] - F.softplus(self.decay) * age.to(asked.dtype).log1p()
            top = weight.new_full((len(users),), -torch.inf).scatter_reduce(0, row, weight.detach(), "amax")
            weight = (weight - top[row]).exp()
            total = weight.new_zeros(len(users)).index_add(0, row, weight).clamp(min=1e-30)
            found = sums_of_lists(vectors, place, sizes, weight) / total[:, None]
        return torch.where(sizes[:, None] > 0, found, in_ball(self.unknown))

    @staticmethod
    def _age_of(own: Tensor, row: Tensor, age: Tensor, users: int) -> Tensor:
        """Age [B] of the one item of each history that is marked (own [m])."""
        return age.new_zeros(users).index_add(0, row, torch.where(own, age, 0))

    def sizes(self, pairs: Pairs) -> Tensor:
        """Items [B] that the users had beside those of the pairs, or before them."""
        later = 0
        if self.cfg.past:
            row, item = self.histories.of_users(pairs.user)
            later = self._age_of(item == pairs.pos[row], row, self.ages.of_users(pairs.user)[1], len(pairs))
        return (self.histories.counts[pairs.user] - 1 - later).clamp(min=0)

    def logit(self, distance: Tensor, counts: Tensor) -> Tensor:
        """Of the chance among the pairs that training sees, of distances and sizes of histories."""
        return self.bias - F.softplus(self.scale) * distance + self.frequency * counts.log1p()

    def losses(self, pairs: Pairs) -> dict[str, Tensor]:
        """Means over the pairs of the weighted hinge and of the cross-entropy; the hinge of nobody known."""
        user, vectors, pos, neg = self.gathered(pairs)
        counts = self.sizes(pairs).to(user.dtype)
        good = (user - vectors[pos]).square().sum(1)
        bad = chosen_distances(user, vectors, neg)
        nobody = (vectors - in_ball(self.unknown)).square().sum(1)
        terms = {"metric": self._hinge(good, bad)} if self.cfg.distance == "learnt" else {}
        terms["default"] = self.cfg.default * self._hinge(nobody[pos], nobody[neg])
        wrong = F.softplus(-self.logit(good, counts)) + F.softplus(self.logit(bad, counts[:, None])).sum(1)
        terms["probability"] = self.cfg.probability * wrong.mean() / (1 + neg.shape[1])
        return terms

    def _hinge(self, good: Tensor, bad: Tensor) -> Tensor:
        """That of cml.py as a mean over the pairs, of squared distances [B] and [B, N]."""
        return ranking.warp(good, bad, self.cfg.margin, self.known) / len(good)

    def vectors(self) -> tuple[Tensor, Tensor]:
        """g of all users [U, d] and v of all items [I, d], those without a training row among them."""
        items = self.items_of(self.content.vectors)
        numbers = torch.arange(self.num_users, device=items.device)
        asked, slot = self.asked(items), torch.arange(len(items), device=items.device)
        users = [self.pooled(part, items, asked, slot) for part in numbers.split(AT_ONCE)]
        return torch.cat(users), items

    @torch.no_grad()
    def placed(self) -> Placed:
        """The vectors, compared by their distance."""
        return Placed(*self.vectors(), "l2")

    @torch.no_grad()
    def scoring(self) -> Callable[[Tensor], Tensor]:
        """users [B] -> minus the squared distances [B, I]."""
        return self.placed().scorer()

    @torch.no_grad()
    def logits(self) -> Callable[[Tensor], Tensor]:
        """users [B] -> logits [B, I] of the chance that the user takes the item."""
        score, known = self.scoring(), int(self.content.known.sum())

        def found(index: Tensor) -> Tensor:
            counts = self.histories.counts[index].float()
            drawn = counts.clamp(min=0.5) * self.cfg.negatives / (known - counts).clamp(min=1)
            return self.logit(-score(index), counts[:, None]) + drawn.log()[:, None]

        return torch.no_grad()(found)
