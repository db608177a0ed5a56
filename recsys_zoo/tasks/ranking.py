"""Rankings of items for users, learnt from pairs of a user and an item with negatives beside them."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from ..batch import DrawnFrom, Pairs, PairsOfAll, Positives, UserLists
from ..data.content import releases
from ..data.splitspec import given_of
from ..data.store import Prepared
from ..errors import InputError
from ..evaluation import heldout
from ..evaluation.cold import cold_ranking, new_items, pair_metrics
from ..evaluation.full_rank import FullRanking, NotFinite, Scorer, full_ranking, shared_ranking
from ..evaluation.judged import JudgedRanking, judged_ranking
from ..itemlists import ItemLists
from ..losses.propensity import popularity_propensities
from ..metrics.ranking import SNIPS, evaluate_ranking
from ..nn.table import take_rows
from ..parallel import processes
from .base import Evaluation, Loss
from .negatives import Negatives, NegativesInRelease, UnlabelledPairs

KS = (20, 50)
PROPENSITY_CLIP = 0.01


class Ranks(Protocol):
    """What this task wants of a model."""

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """Terms of the loss by name; their sum is descended."""

    def scoring(self) -> Callable[[Tensor], Tensor]:
        """users [B] -> scores [B, items] by the weights as they are, whatever is computed once done once."""

    def score_lists(self, lists: ItemLists) -> Tensor:
        """The same by lists of items, where users are held out."""


class PairExamples:
    """Every pair of a user and an item is an example; its negatives are drawn anew each time, from torch's
    generator."""

    def __init__(self, lists: ItemLists, negatives: Negatives | None, count: int) -> None:
        self.negatives, self.count = negatives, count
        self.pairs = torch.stack(lists.pairs(), 1)  # [P, 2]: one read gives both

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def mib(self) -> float:
        """Size of the pairs in memory."""
        return self.pairs.nbytes / 2**20

    @property
    def device(self) -> torch.device:
        """Where the pairs are."""
        return self.pairs.device

    def batch(self, rows: Tensor) -> Pairs:
        """The pairs of these numbers [B]."""
        user, item = self.of(rows)
        neg = self.negatives.draw(user, self.count) if self.negatives else user.new_empty(len(user), 0)
        return Pairs(user, item, neg, torch.ones(len(user), device=user.device))

    def of(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """User and item [B] of the pairs of these numbers."""
        return tuple(part.contiguous() for part in take_rows(self.pairs, rows).unbind(1))

    def on(self, device: torch.device) -> PairExamples:
        """The same on a device."""
        there = copy.copy(self)
        there.pairs = self.pairs.to(device)
        there.negatives = self.negatives.to(device) if self.negatives else None
        return there

    def first(self, rows: int) -> PairExamples:
        """The first pairs."""
        part = copy.copy(self)
        part.pairs = self.pairs[:rows]
        return part


class UserPairExamples(PairExamples):
    """As many examples as pairs, each of a user, all alike, and one of the items, drawn with replacement."""

    def __init__(self, lists: ItemLists, negatives: Negatives | None, count: int) -> None:
        super().__init__(lists, negatives, count)
        self._index()

    def _index(self) -> None:
        _, self.counts = self.pairs[:, 0].unique_consecutive(return_counts=True)
        self.starts = self.counts.cumsum(0) - self.counts

    def batch(self, rows: Tensor) -> Pairs:
        """As many pairs as there are numbers [B]."""
        user = torch.randint(len(self.counts), rows.shape, device=self.device)
        counts = self.counts[user]
        place = (torch.rand(len(rows), dtype=torch.float64, device=self.device) * counts).long()
        return super().batch(self.starts[user] + place.minimum(counts - 1))

    def on(self, device: torch.device) -> UserPairExamples:
        """The same on a device."""
        there = super().on(device)
        there._index()
        return there

    def first(self, rows: int) -> UserPairExamples:
        """The first pairs."""
        part = super().first(rows)
        part._index()
        return part


class ReleasedPairExamples(PairExamples):
    """Pairs with negatives that were in release at the moment of the pair; without those for which there was
    none."""

    def __init__(self, lists: ItemLists, drawn: NegativesInRelease, count: int) -> None:
        super().__init__(lists, None, count)
        self.drawn, self.number = drawn, drawn.left.nonzero().squeeze(1)
        self.pairs = self.pairs[self.number]
        if not len(self.pairs):
            raise InputError("negatives in release: at the moment of no pair there is one that its user has "
                             "not; set a larger window, or released=false")

    def batch(self, rows: Tensor) -> Pairs:
        """The pairs of these numbers [B]."""
        user, item = self.of(rows)
        neg = self.drawn.draw(self.number[rows], user, self.count)
        return Pairs(user, item, neg, torch.ones(len(user), device=user.device))

    def on(self, device: torch.device) -> ReleasedPairExamples:
        """The same on a device."""
        there = super().on(device)
        there.drawn, there.number = self.drawn.to(device), self.number.to(device)
        return there


class FreePairExamples(PairExamples):
    """Pairs drawn with replacement, and beside each some that are drawn from all users' pairs without an
    interaction."""

    def __init__(self, lists: ItemLists, items: int, count: int) -> None:
        super().__init__(lists, None, count)
        self.unlabelled = UnlabelledPairs(lists, items)

    def batch(self, rows: Tensor) -> PairsOfAll:
        """As many pairs as there are numbers [B]."""
        rows = torch.randint(len(self), rows.shape, device=self.device)
        other, neg = self.unlabelled.draw(len(rows), self.count)
        weight = torch.ones(len(rows), device=self.device)
        return PairsOfAll(*self.of(rows), neg, weight, other)

    def on(self, device: torch.device) -> FreePairExamples:
        """The same on a device."""
        there = super().on(device)
        there.unlabelled = self.unlabelled.to(device)
        return there


class ListExamples:
    """Every user with an item is an example: all of the items."""

    def __init__(self, lists: ItemLists) -> None:
        self.lists, self.users = lists, lists.counts.nonzero().squeeze(1)

    def __len__(self) -> int:
        return len(self.users)

    @property
    def mib(self) -> float:
        """Size of the lists in memory."""
        return self.lists.mib

    @property
    def device(self) -> torch.device:
        """Where the lists are."""
        return self.users.device

    def batch(self, rows: Tensor) -> UserLists:
        """The users of these numbers [B]."""
        users = self.users[rows]
        return UserLists(self.lists.rows(users).padded(), torch.ones(len(users), device=users.device))

    def on(self, device: torch.device) -> ListExamples:
        """The same on a device."""
        return ListExamples(self.lists.to(device))

    def first(self, rows: int) -> ListExamples:
        """The first users."""
        part = copy.copy(self)
        part.users = self.users[:rows]
        return part


class RankedExamples:
    """Every user with a relevant item is an example; what was seen before is no candidate.

    held_out: no model has learnt of these users, so that they are ranked for by the items they have seen.
    new: the candidates, where no relevant item was seen before by anybody (evaluation/cold.py); else None.
    """

    def __init__(self, relevant: ItemLists, seen: ItemLists, held_out: bool = False) -> None:
        self.relevant, self.seen, self.held_out = relevant.without(seen), seen, held_out
        self.new = None if held_out else new_items(relevant, seen)

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
        there.new = None if self.new is None else self.new.to(device)
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
    negatives: as many a pair, drawn by `weight` [items] (None: all alike). drawn_from: "user", what the user
    has not in the training splits (of a user who has everything there is none, and no pair either); "items",
    all items, the user's own too; "users", the unlabelled pairs of all users, all alike; "released", what the
    user has not among the items that were in release at the moment of the pair, for so long a `window` after
    the first pair of each (0: for ever), all alike. positives: every pair once an epoch, or as many draws of
    users, all alike, with one of their pairs. lists: an example is a user with all items, not a pair.
    ks: cut-offs of the metrics; none: those of the protocol. learnt: the lists that models are fitted on.
    snips: such metrics besides ("snips_dcg@5"), for all models by propensities (n_i / max n)^0.5 of n_i
    training pairs, not below `PROPENSITY_CLIP` (Saito et al., WSDM 2020; they rank 100 unlabelled items, here
    are all). pairs: of new items, whether those over all pairs (`cold.pair_metrics`) are computed besides.
    """

    def __init__(
        self,
        data: Prepared,
        negatives: int = 1,
        weight: Tensor | None = None,
        train: Sequence[str] = ("train",),
        valid: str = "valid",
        ks: Sequence[int] = (),
        drawn_from: DrawnFrom = "user",
        snips: Sequence[str] = (),
        lists: bool = False,
        window: float = 0.0,
        positives: Positives = "pairs",
        pairs: bool = False,
    ) -> None:
        if positives != "pairs" and (lists or drawn_from in ("users", "released")):
            raise InputError(f"positives={positives!r}: this model draws its pairs otherwise; leave it out")
        held_out = heldout.holds_out(data)
        self.data, self.snips, self.watched, self.pairs = data, tuple(snips), valid, pairs
        self.ks = tuple(ks) or (heldout.KS if held_out else KS)
        self.items = data.schema.size("item")
        self.learnt = seen = heldout.learnt(data, *train)
        if lists:
            self.train: PairExamples | ListExamples = ListExamples(seen)
        elif drawn_from == "users":
            self.train = FreePairExamples(seen, self.items, negatives)
        elif drawn_from == "released":
            drawn = NegativesInRelease(seen, *releases(data, *train), window)
            self.train = ReleasedPairExamples(seen, drawn, negatives)
        else:
            drawable = self.items if weight is None else int((weight > 0).sum())
            learnt = seen.shorter_than(drawable) if negatives else seen
            never = learnt if drawn_from == "user" else learnt.first(0)
            others = Negatives(never, self.items, weight) if negatives else None
            examples = PairExamples if positives == "pairs" else UserPairExamples
            self.train = examples(learnt, others, negatives)
            if not len(self.train):
                raise InputError(f"{data.schema.dataset}: no training pair is left, since no user lacks an "
                                 "item that could be drawn as a negative; give more items, or draw from all "
                                 "of them (sampler=\"uniform\")")
        given = data.lists(given_of(valid)) if held_out and valid else seen
        self.valid = RankedExamples(data.lists(*[valid] * bool(valid)), given, held_out)

    def loss(self, model: Any, batch: Pairs | UserLists) -> Loss:
        """The sum of the model's terms."""
        parts = model.losses(batch)
        return Loss(sum(parts.values()), parts)

    def ranking(self, model: Any, examples: RankedExamples) -> FullRanking:
        """Places of the relevant items among all that the user has not seen, or among new ones alone; each
        process of torch.distributed ranks for a share of the users, and all get the whole."""
        with scores_of(model, examples.seen if examples.held_out else None) as score:
            def rank(relevant: ItemLists) -> FullRanking:
                if examples.new is not None:
                    return cold_ranking(score, relevant, examples.new, self.items)
                return full_ranking(score, relevant, examples.seen, self.items)

            return rank(examples.relevant) if processes() == 1 else shared_ranking(rank, examples.relevant)

    def unwatchable(self, monitor: str) -> str:
        """A sentence where a metric of lists says nothing on valid, whose users have so few candidates that
        all are in the list; else ""."""
        metric, _, k = monitor.partition("@")
        seen = self.valid.seen.counts[self.valid.relevant.counts > 0]
        if not k or metric in ("ndcg", "mrr", "map", "snips_dcg") or not len(seen):
            return ""
        most = self.items - int(seen.min()) if self.valid.new is None else len(self.valid.new)
        if most > int(k):
            return ""
        return (f"{monitor} on valid is the same whatever the scores are, since no user has more than {most} "
                f"candidates; watch another metric, by --set train.monitor=ndcg@{k}")

    def judged(self, model: Any, relevant: ItemLists, judged: ItemLists) -> JudgedRanking:
        """Places of the relevant items among those that were judged for the user."""
        with scores_of(model) as score:
            return judged_ranking(score, relevant, judged, self.items)

    def evaluate(
        self, model: Any, examples: RankedExamples, batch_size: int, precision: str = "fp32"
    ) -> Evaluation:
        """Means over users of all metrics, none when a score is not finite; blocks have their own size."""
        try:
            found = self.ranking(model, examples)
        except NotFinite:
            return Evaluation({}, None)
        metrics = evaluate_ranking(found.ranks, self.ks)
        if self.snips:
            counts = torch.bincount(examples.seen.items.cpu(), minlength=self.items)
            theta = popularity_propensities(counts).clamp(min=PROPENSITY_CLIP)[found.items]
            for metric, _, k in (name.partition("@") for name in self.snips):
                metrics[f"{metric}@{k}"] = SNIPS[metric](found.ranks, int(k), theta)
        means = {name: float(values.mean()) for name, values in metrics.items()}
        return Evaluation(means | (self.of_pairs(model, examples) if self.pairs else {}), None)

    def of_pairs(self, model: Any, examples: RankedExamples) -> dict[str, float]:
        """Metrics over the pairs of all users with new items; of chances too, where the model has any."""
        chances = hasattr(model, "logits")
        with scores_of(model) as score:
            score = model.logits() if chances else score
            return pair_metrics(score, examples.relevant, examples.seen, examples.new, self.items, chances)


@contextlib.contextmanager
def scores_of(model: Any, given: ItemLists | None = None) -> Iterator[Scorer]:
    """The scores of a model as it is, in evaluation mode and without gradients; of users who are held out by
    the lists that are given of them. Products are of full precision on a GPU, whatever a training has: TF32
    makes scores equal that are not, and other lists than the same weights give elsewhere."""
    training, matmul = model.training, torch.get_float32_matmul_precision()
    model.eval()
    if torch.cuda.is_available() and matmul != "highest":
        torch.set_float32_matmul_precision("highest")
    try:
        with torch.no_grad():
            yield model.scoring() if given is None else lambda users: model.score_lists(given.rows(users))
    finally:
        torch.set_float32_matmul_precision(matmul)
        model.train(training)
