"""Rankings of items for users, learnt from pairs of a user and an item with negatives beside them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from ..batch import Pairs
from ..data.sample import Negatives
from ..data.store import Prepared
from ..evaluation.full_rank import FullRanking, NotFinite, full_ranking
from ..itemlists import ItemLists
from ..metrics.ranking import evaluate_ranking
from .base import Evaluation, Loss

KS = (20, 50)


class Ranks(Protocol):
    """What this task wants of a model."""

    def losses(self, pairs: Pairs) -> dict[str, Tensor]:
        """Terms of the loss by name; their sum is descended."""

    def scoring(self) -> Callable[[Tensor], Tensor]:
        """users [B] -> scores [B, items] by the weights as they are, whatever is computed once done once."""


class PairExamples:
    """Every pair of a user and an item is an example; its negatives are drawn anew each time, from torch's
    generator."""

    def __init__(self, lists: ItemLists, negatives: Negatives | None, count: int) -> None:
        self.negatives, self.count = negatives, count
        self.user, self.item = lists.pairs()

    def __len__(self) -> int:
        return len(self.user)

    @property
    def mib(self) -> float:
        """Size of the pairs in memory."""
        return (self.user.nbytes + self.item.nbytes) / 2**20

    @property
    def device(self) -> torch.device:
        """Where the pairs are."""
        return self.user.device

    def batch(self, rows: Tensor) -> Pairs:
        """The pairs of these numbers [B]."""
        user = self.user[rows]
        neg = self.negatives.draw(user, self.count) if self.negatives else user.new_empty(len(user), 0)
        return Pairs(user, self.item[rows], neg, torch.ones(len(user), device=user.device))

    def on(self, device: torch.device) -> PairExamples:
        """The same on a device."""
        there = copy.copy(self)
        there.user, there.item = self.user.to(device), self.item.to(device)
        there.negatives = self.negatives.to(device) if self.negatives else None
        return there

    def first(self, rows: int) -> PairExamples:
        """The first pairs."""
        part = copy.copy(self)
        part.user, part.item = self.user[:rows], self.item[:rows]
        return part


class RankedExamples:
    """Every user with a relevant item is an example; what was seen before is no candidate."""

    def __init__(self, relevant: ItemLists, seen: ItemLists) -> None:
        self.relevant, self.seen = relevant.without(seen), seen

    def __len__(self) -> int:
        return int((self.relevant.counts > 0).sum())

    @property
    def mib(self) -> float:
        """Size of the lists in memory."""
        return self.relevant.mib + self.seen.mib

    def on(self, device: torch.device) -> RankedExamples:
        """The same on a device."""
        there = copy.copy(self)
        there.relevant, there.seen = self.relevant.to(device), self.seen.to(device)
        return there

    def first(self, rows: int) -> RankedExamples:
        """The first users who have a relevant item."""
        part = copy.copy(self)
        users = (self.relevant.counts > 0).nonzero().squeeze(1)
        if rows < len(users):
            part.relevant = self.relevant.first(int(users[rows]))
        return part


class RankingTask:
    """Joins models that rank to the pairs of a prepared data set of interactions and to full rankings.

    train: the splits to learn from, together; valid: the split that picks the best epoch, or "" for none.
    negatives: as many a pair, drawn by `weight` [items] (None: all alike) from what the user has not in the
    training splits; of a user who has everything there is none, and no pair either.
    """

    def __init__(
        self,
        data: Prepared,
        negatives: int = 1,
        weight: Tensor | None = None,
        train: Sequence[str] = ("train",),
        valid: str = "valid",
        ks: Sequence[int] = KS,
    ) -> None:
        self.data, self.ks = data, tuple(ks)
        self.items = data.schema.size("item")
        seen = data.lists(*train)
        learnt = seen.shorter_than(self.items) if negatives else seen
        drawn = Negatives(learnt, self.items, weight) if negatives else None
        self.train = PairExamples(learnt, drawn, negatives)
        self.valid = RankedExamples(data.lists(*[valid] * bool(valid)), seen)

    def loss(self, model: Any, batch: Pairs) -> Loss:
        """The sum of the model's terms."""
        parts = model.losses(batch)
        return Loss(sum(parts.values()), parts)

    @torch.no_grad()
    def ranking(self, model: Any, examples: RankedExamples) -> FullRanking:
        """Places of the relevant items among all that the user has not seen."""
        training = model.training
        model.eval()
        try:
            return full_ranking(model.scoring(), examples.relevant, examples.seen, self.items)
        finally:
            model.train(training)

    def evaluate(
        self, model: Any, examples: RankedExamples, batch_size: int, precision: str = "fp32"
    ) -> Evaluation:
        """Means over users of all metrics, none when a score is not finite; blocks have their own size."""
        try:
            found = self.ranking(model, examples)
        except NotFinite:
            return Evaluation({}, None)
        metrics = evaluate_ranking(found.ranks, self.ks)
        return Evaluation({name: float(values.mean()) for name, values in metrics.items()}, None)
