"""Recommend with a trained model that ranks: raw ids in and out, no data set, seen items masked."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import InputError, unknown_name
from .evaluation.full_rank import check_places, top_items
from .itemlists import ItemLists
from .models.base import CTRModel
from .models.vectors import Placed
from .predictor import Predictor, load
from .schema import FIRST, Side
from .train.checkpoint import load_seen
from .vectorindex import Kind, VectorIndex, Worth, check_folder, compare, placed_of

if TYPE_CHECKING:
    import polars as pl

Unknown = Literal["refuse", "popular"]
Lists = tuple[Tensor, Tensor]  # items [B, k], scores [B, k]
_POPULAR = "leave them out, or give them what is popular: --unknown popular"
_USERS = 4096  # whose lists are held at once
_SCORES = 1 << 23  # logits held at once: 32 MiB
_ROUNDING = 1e-5  # of a user's largest score, by which those of an index and of exact search may differ
_SAMPLE, _ROUNDS, _SEED = 1000, 3, 1  # users that an index is measured on, and how often


class Ranker:
    """A model that ranks, with the ids of its data and what each user had in the data it was fitted on.

    A user without such an item is not known: a model has learnt no more of them than of users who are new.
    """

    def __init__(self, predictor: Predictor, index: Path | None = None) -> None:
        """index: folder of an index of this run, which then finds the items. InputError for a click model."""
        self.model, self.folder = predictor.model, predictor.folder
        if isinstance(self.model, CTRModel):
            raise InputError(f"{self.folder}: holds {self.model.name}, which gives click probabilities and "
                             "ranks no items; use `recsys-zoo predict`")
        self.encoder = predictor.encoder
        self.weights_sha256 = predictor.config["weights_sha256"]
        self._lists = load_seen(self.folder, predictor.config)
        self._index = VectorIndex.open(index, self.weights_sha256) if index is not None else None

    def recommend(self, users: Any, k: int = 20, seen: Sequence[Sequence[Any]] | None = None,
                  unknown: Unknown = "refuse") -> tuple[np.ndarray, np.ndarray]:
        """Raw ids [B, k] of the best items for raw user ids (list, array or series), and scores float32
        [B, k], best first; None and -inf for want of items.

        seen: raw ids of the items that each user is not to get, in place of those of the fit; ids that the
        model does not know are passed over, since it can give none of them. unknown:
        "popular" gives users who are not known the items with the most users, whose number is the score.
        InputError names users who are not known, and says what is wrong with k or the ids.
        """
        numbers = self._numbers(self.texts("user", users), unknown)
        masked = self._seen(numbers) if seen is None else self._given(seen, len(numbers))
        items, scores = self._top(numbers, k, masked)
        return self._names[items.numpy()], scores.numpy()

    def similar(self, items: Any, k: int = 20) -> tuple[np.ndarray, np.ndarray]:
        """As `recommend`, the items most like these: by the cosine of their vectors, or by minus the squared
        distance where the model ranks by distances. InputError for a model without vectors, and for items
        that are not known."""
        items = self.texts("item", items)
        numbers = self._codes("item", items).to(self._device)
        _refuse(items, numbers < 0, f"{self.folder}: no item", "leave them out")
        _, vectors, metric = self._placed
        vectors = F.normalize(vectors, dim=1) if metric == "dot" else vectors
        rows = torch.arange(len(numbers), device=numbers.device)
        own = ItemLists.of(rows, numbers, len(rows), len(vectors))
        score = lambda block: compare(vectors[numbers[block]], vectors, metric)  # noqa: E731
        found, scores = top_items(score, rows, own, len(vectors), k)
        return self._names[found.cpu().numpy()], scores.cpu().numpy()

    @torch.no_grad()
    def probabilities(self, users: Any, items: Any) -> np.ndarray:
        """Chance that each user takes the item beside it, float32 [n], of raw ids; items may be ones that
        nobody has had. InputError for a model that learns no chances, and for ids that are not known."""
        if not hasattr(self.model, "logits"):
            raise InputError(f"{self.folder}: holds {self.model.name}, which ranks items and gives no "
                             "probabilities; use `recsys-zoo recommend`")
        users, items = self.texts("user", users), self.texts("item", items)
        if len(users) != len(items):
            raise InputError(f"{len(users)} users and {len(items)} items; give each user an item beside it")
        numbers, wanted = self._numbers(users, "refuse", "leave them out"), self._codes("item", items)
        _refuse(items, wanted < 0, f"{self.folder}: no item", "leave them out")
        each, place = torch.unique(numbers, return_inverse=True)
        order, found = torch.argsort(place), torch.empty(len(place))
        ends = torch.bincount(place, minlength=len(each)).cumsum(0).tolist()
        score, some = self.model.logits(), max(1, _SCORES // self.model.num_items)
        for start in range(0, len(each), some):
            stop = min(start + some, len(each))
            pairs = order[ends[start - 1] if start else 0 : ends[stop - 1]]
            logits = score(each[start:stop].to(self._device)).cpu()
            found[pairs] = logits[place[pairs] - start, wanted[pairs]].float().sigmoid()
        return found.numpy()

    @property
    def exact(self) -> bool:
        """Whether every item is looked at: not where an index searches some of its lists."""
        return self._index is None or self._index.kind != "ivf"

    def users(self) -> pl.Series:
        """The texts of all users who are known."""
        return self._vocabulary("user").values.gather(self._known().counts.nonzero().squeeze(1).numpy())

    def frames(self, users: pl.Series, k: int = 20, with_seen: bool = False, unknown: Unknown = "refuse"
               ) -> Iterator[pl.DataFrame]:
        """Tables of user, rank, item and score for the texts of users, some thousands at a time, in their
        order; with_seen: nothing is masked. Errors as of `recommend`, before the first table."""
        numbers = self._numbers(users, unknown)
        check_places(k, self.model.num_items)
        masked = (lambda part: self._nothing(len(part))) if with_seen else self._seen
        masked(numbers[:0])  # InputError now, not at the first table
        return self._frames(users, numbers, k, masked)

    def texts(self, side: Side, ids: Any) -> pl.Series:
        """Ids of users or items as the data know them; InputError for what is no list of ids."""
        from .data.encode import to_polars
        from .data.values import as_text

        if isinstance(ids, str | bytes) or not hasattr(ids, "__len__"):
            hint = f"; write [{ids!r}]" if isinstance(ids, str | bytes | int | float) else ""
            raise InputError(f"{side}s: expected a list of ids, got {ids!r}{hint}")
        if isinstance(ids, Set | Mapping) or hasattr(ids, "columns"):
            kind = type(ids).__name__
            raise InputError(f"{side}s: expected a list of ids, got a {kind}; give a list, or one column")
        text = as_text(to_polars({side: ids}, [side], f"{side}s").get_column(side), f"{side}s")
        if text.null_count():
            raise InputError(f"{side}s: number {text.is_null().arg_true()[0] + 1} is missing; leave it out")
        return text

    def worth(self, index: VectorIndex, k: int) -> Worth:
        """Recall and speed of an index beside exact search, on users drawn from a fixed seed; the best of
        several rounds, which take turns. An item of the exact score of the last one, but for rounding,
        counts as that. A user who has had every item counts for nothing; InputError where all have."""
        known = self._known().counts.nonzero().squeeze(1)
        order = torch.randperm(len(known), generator=torch.Generator().manual_seed(_SEED))
        numbers = known[order[:_SAMPLE]]
        seen = self._seen(numbers)
        seconds: dict[bool, list[float]] = {True: [], False: []}
        found: dict[bool, Tensor] = {}
        for _, exact in itertools.product(range(_ROUNDS), (True, False)):
            began = time.perf_counter()
            found[exact] = self._best(numbers, k, seen, None if exact else index)[0]
            seconds[exact].append(time.perf_counter() - began)
        wanted = found[True] >= 0
        asked = wanted.any(1)
        if not bool(asked.any()):
            raise InputError(f"{self.folder}: its users have had every item; there is nothing to search for")
        parts = torch.arange(len(numbers)).split(max(1, _SCORES // self.model.num_items))
        hits = torch.cat([_hits(self._scoring(numbers[part].to(self._device)).cpu(), found[True][part],
                                found[False][part]) for part in parts])
        recall = hits[asked].double() / wanted[asked].sum(1)
        speed, exact_speed = (len(numbers) / min(seconds[exact]) for exact in (False, True))
        return Worth(recall=float(recall.mean()), k=k, users=int(asked.sum()), seed=_SEED, users_per_s=speed,
                     exact_users_per_s=exact_speed, threads=torch.get_num_threads())

    def index(self, out: Path, kind: Kind = "torch", lists: int = 0, probes: int = 0, k: int = 20) -> Worth:
        """Write an index of the items' vectors (see `VectorIndex`), measured on lists of k items."""
        check_places(k, self.model.num_items)
        check_folder(out)
        index = VectorIndex.build(self._placed, kind, lists, probes)
        worth = self.worth(index, k)
        index.save(out, self.weights_sha256, worth)
        return worth

    def _frames(self, users: pl.Series, numbers: Tensor, k: int, masked: Callable[[Tensor], ItemLists]
                ) -> Iterator[pl.DataFrame]:
        import polars as pl

        items = self._vocabulary("item").values
        for start in range(0, len(numbers), _USERS):
            part = numbers[start : start + _USERS]
            found, scores = self._top(part, k, masked(part))
            row, place = (found >= 0).nonzero(as_tuple=True)
            yield pl.DataFrame({
                "user": users.gather((row + start).numpy()), "rank": (place + 1).to(torch.int32).numpy(),
                "item": items.gather(found[row, place].numpy()), "score": scores[row, place].numpy(),
            })  # fmt: skip

    def _top(self, numbers: Tensor, k: int, seen: ItemLists) -> Lists:
        check_places(k, self.model.num_items)
        items = torch.full((len(numbers), k), -1)
        scores = torch.full((len(numbers), k), -torch.inf)
        known = numbers < self.model.num_users
        if bool(known.any()):
            rows = known.nonzero().squeeze(1)
            items[rows], scores[rows] = self._best(numbers[rows], k, seen.rows(rows), self._index)
        if not bool(known.all()):
            rows = (~known).nonzero().squeeze(1)
            items[rows], scores[rows] = top_items(
                lambda block: self._popularity.repeat(len(block), 1), rows, seen, self.model.num_items, k
            )
        return items, scores

    def _best(self, numbers: Tensor, k: int, seen: ItemLists, index: VectorIndex | None) -> Lists:
        """The lists of users who are known, on the CPU."""
        numbers = numbers.to(self._device)
        if index is not None:
            return index.top(self._placed.users[numbers], seen, k)
        rows = torch.arange(len(numbers), device=numbers.device)
        score = lambda block: self._scoring(numbers[block])  # noqa: E731
        items, scores = top_items(score, rows, seen.to(rows.device), self.model.num_items, k)
        return items.cpu(), scores.cpu()

    def _numbers(self, users: pl.Series, unknown: Unknown, way_out: str = _POPULAR) -> Tensor:
        """The number of each user, that of all users together for one who is not known: int64 [B]."""
        if unknown not in get_args(Unknown):
            raise unknown_name("way with users who are not known", str(unknown), get_args(Unknown))
        numbers = self._codes("user", users)
        numbers = torch.where(numbers < self.model.num_users, numbers, -1)  # others were held out of training
        if self._lists is not None:
            numbers = torch.where(self._lists.counts[numbers] > 0, numbers, -1)
        if unknown != "popular":
            _refuse(users, numbers < 0, f"{self.folder}: nothing was learnt of user", way_out)
        return torch.where(numbers < 0, self.model.num_users, numbers)

    def _seen(self, numbers: Tensor) -> ItemLists:
        """What these users had in the fit: nothing, of one who is not known."""
        known = self._known()
        return ItemLists(torch.cat([known.offsets, known.offsets[-1:]]), known.items).rows(numbers)

    def _known(self) -> ItemLists:
        if self._lists is None:
            raise InputError(f"{self.folder}: does not hold what its users have seen (an earlier version "
                             "wrote it); train again, or give seen items too, to users you name: --with-seen")
        return self._lists

    def _given(self, seen: Sequence[Sequence[Any]], users: int) -> ItemLists:
        if isinstance(seen, str | bytes) or not hasattr(seen, "__len__"):
            raise InputError(f"seen: expected a list of ids for each user, got {seen!r}")
        if len(seen) != users:
            raise InputError(f"seen: {len(seen)} lists for {users} users; give each user one")
        for own in seen:
            if isinstance(own, str | bytes) or not hasattr(own, "__len__"):
                raise InputError(f"seen: expected a list of ids for each user, got {own!r}; write "
                                 "[[...], ...]")
        row = torch.arange(users).repeat_interleave(torch.tensor([*map(len, seen)], dtype=torch.int64))
        item = self._codes("item", self.texts("item", [*itertools.chain(*seen)]))
        known = item >= 0  # no list holds the others
        return ItemLists.of(row[known], item[known], users, self.model.num_items)

    def _nothing(self, users: int) -> ItemLists:
        return ItemLists(torch.zeros(users + 1, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))

    def _codes(self, side: Side, texts: pl.Series) -> Tensor:
        """Numbers from 0, -1 for ids that the data do not know: int64 [B]."""
        ids = torch.from_numpy(self._vocabulary(side).encode(texts))
        return (ids.long() - FIRST).clamp(min=-1)

    def _vocabulary(self, side: Side) -> Any:
        name = self.model.schema.user if side == "user" else self.model.schema.item
        return self.encoder.vocabularies[self.model.schema.column(name).share_with or name]

    @property
    def _device(self) -> torch.device:
        return next(itertools.chain(self.model.parameters(), self.model.buffers())).device

    @functools.cached_property
    def _names(self) -> np.ndarray:
        """Raw ids of the items, and None, which -1 picks."""
        return np.array([*self._vocabulary("item").values, None], object)

    @functools.cached_property
    def _scoring(self) -> Callable[[Tensor], Tensor]:
        return self.model.scoring()

    @functools.cached_property
    def _placed(self) -> Placed:
        return placed_of(self.model)

    @functools.cached_property
    def _popularity(self) -> Tensor:
        """Users of each item in the fit, float32 [I]."""
        return torch.bincount(self._known().items, minlength=self.model.num_items).float()


def load_ranker(folder: Path | str, index: Path | str | None = None, device: str = "cpu") -> Ranker:
    """A trained model that ranks, from a run or checkpoint folder, searched through an index where one is
    given; InputError when one of them is damaged or does not fit."""
    return Ranker(load(folder, device), None if index is None else Path(index))


def _hits(scores: Tensor, exact: Tensor, found: Tensor) -> Tensor:
    """How many of the exact items [U, k] were found [U, k], by their scores [U, I]: those that have the score
    of the last but for rounding are worth the same, as many as are among the exact ones; -1 is no item."""
    best, got = (scores.gather(1, items.clamp(min=0)).masked_fill(items < 0, -torch.inf)
                 for items in (exact, found))
    last = best.masked_fill(exact < 0, torch.inf).amin(1, keepdim=True)
    near = _ROUNDING * scores.abs().amax(1, keepdim=True)
    ends, of_all = ((part - last).abs() <= near for part in (got, best))
    return (got > last + near).sum(1) + torch.minimum(ends.sum(1), of_all.sum(1))


def _refuse(ids: pl.Series, bad: Tensor, what: str, way_out: str) -> None:
    if bool(bad.any()):
        names = ids.gather(bad.nonzero().squeeze(1).cpu().numpy()).unique(maintain_order=True).to_list()
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise InputError(f"{what} {', '.join(map(repr, names[:3]))}{more}; {way_out}")
