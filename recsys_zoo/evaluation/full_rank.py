"""Places of the relevant items among all items that a user has not seen, some users at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from ..errors import InputError
from ..itemlists import ItemLists
from ..metrics.ranking import Ranks
from ..nn.counting import count_above
from ..nn.products import Products
from ..parallel import gathered, processes

BLOCK_MIB = 32  # of scores at once, in fp32
Scorer = Callable[[Tensor], Tensor]
_NOBODY = "no user has a relevant item that was not seen before: there is nothing to rank"
_BROKEN = "scores are NaN or infinite; the training diverged or an input is broken"


class NotFinite(InputError):
    """A score is NaN or infinite."""


@dataclass(frozen=True)
class FullRanking:
    """The ranks of the relevant items of `users` [U]: those that have one that they have not seen.

    items [N]: whose ranks they are, in the order of the ranks. On the CPU, wherever the scores are.
    """

    users: Tensor
    ranks: Ranks
    items: Tensor

    @classmethod
    def merged(cls, parts: Sequence[FullRanking]) -> FullRanking:
        """One ranking of several of different users; InputError where there is none, and for a user who is in
        two of them."""
        users, place = torch.unique(torch.cat([part.users for part in parts]), return_inverse=True)
        if not len(users):
            raise InputError(_NOBODY)
        if len(users) < len(place):
            raise InputError(f"user number {int(users[torch.bincount(place).argmax()])} is in two of the "
                             "rankings; give each process other users")
        ends = torch.tensor([len(part.users) for part in parts]).cumsum(0).tolist()
        user = torch.cat([place[end - len(part.users) : end][part.ranks.user]
                          for part, end in zip(parts, ends, strict=True)])
        above, tied, items = (torch.cat(column) for column in zip(
            *((part.ranks.above, part.ranks.tied, part.items) for part in parts), strict=True))
        candidates = torch.cat([part.ranks.candidates for part in parts])[place.argsort()]
        order = torch.argsort(user, stable=True)  # of each user they stand from the top already
        return cls(users, Ranks.of(*(t[order] for t in (user, above, tied)), candidates), items[order])


def shared_ranking(rank: Callable[[ItemLists], FullRanking], relevant: ItemLists) -> FullRanking:
    """rank(relevant) for all users: each process of torch.distributed ranks for a share of them, and all get
    the whole.

    Where scores of one process are not finite, NotFinite in all of them.
    """
    share = relevant.share(dist.get_rank(), processes())
    none = relevant.items.new_zeros(0).cpu()
    found, broken = FullRanking(none, Ranks(none, none, none, none), none), 0
    try:
        found = rank(share) if len(share.items) else found
    except NotFinite:
        broken = 1
    if any(int(flag) for flag, in gathered(torch.full((1,), broken))):
        raise NotFinite(_BROKEN)
    ranks = found.ranks
    of_users = gathered(found.users, ranks.candidates)
    of_items = gathered(ranks.user, ranks.above, ranks.tied, found.items)
    return FullRanking.merged([
        FullRanking(users, Ranks(user, above, tied, candidates), items)
        for (users, candidates), (user, above, tied, items) in zip(of_users, of_items, strict=True)])


def full_ranking(
    score: Scorer, relevant: ItemLists, seen: ItemLists, items: int, block_mib: int = BLOCK_MIB,
    only: ItemLists | None = None, made: int = 0,
) -> FullRanking:
    """Rank all `items` for every user who has relevant ones; what the user has seen is no candidate.

    score: users [B] -> scores [B, items], called for one block of users after the other, of block_mib MiB of
    scores in fp32 (one user at least); memory beside the model's is a small multiple of that. The scores are
    changed. Those of `Products` are ranked without being kept, where its kernel does that. only: the
    candidates of each user, where these are not all items. made: scores that `score` makes of a user before
    it returns, where these are more than `items`. InputError for scores that are NaN or infinite or whole
    numbers, and for lists of other users than those of the relevant items.
    """
    if len(seen) != len(relevant):
        raise InputError(f"lists of {len(relevant)} users with relevant items and of {len(seen)} with seen "
                         "ones: give each user both, an empty one where there is none")
    wanted = relevant.without(seen)
    users = wanted.counts.nonzero().squeeze(1)
    if len(users) == 0:
        raise InputError(_NOBODY)
    user, item = (t.cpu() for t in wanted.of_users(users))
    places = None
    if isinstance(score, Products) and only is None and len(score.items) == items:
        places = score.places(users, seen, wanted)
    above, tied = places or _places(score, users, wanted, seen, items, block_mib, only, made)
    order = torch.argsort(user * (items + 1) + above, stable=True)  # that of `Ranks.of`
    candidates = (items - seen.counts if only is None else only.without(seen).counts)[users]
    ranks = Ranks.of(*(t[order] for t in (user, above, tied)), candidates.cpu())
    return FullRanking(users.cpu(), ranks, item[order])


def _places(
    score: Scorer, users: Tensor, wanted: ItemLists, seen: ItemLists, items: int, block_mib: int,
    only: ItemLists | None, made: int,
) -> tuple[Tensor, Tensor]:
    """Of each wanted item of the users, one after the other: candidates with a larger score, and with the
    same."""
    found: list[tuple[Tensor, Tensor]] = []
    for _, block in _blocks(users, max(items, made), block_mib):
        scores = _masked(score(block), block, seen, items)
        if only is not None:
            scores = _alone(scores, block, only)
        row, item = (t.to(scores.device) for t in wanted.of_users(block))
        found.append(tuple(t.cpu() for t in count_above(scores, row, scores[row, item])))
    return tuple(torch.cat(column) for column in zip(*found, strict=True))


def top_items(
    score: Scorer, users: Tensor, seen: ItemLists, items: int, k: int, block_mib: int = BLOCK_MIB
) -> tuple[Tensor, Tensor]:
    """The k best items [U, k] that each user has not seen, and their scores; -1 and -inf for want of items.

    Of equal scores the smaller item number comes first. Memory and `score` as in `full_ranking`.
    """
    check_places(k, items)
    if not len(users):
        return users.new_empty(0, k), torch.empty(0, k, device=users.device)
    found = [
        _best(_masked(score(block), block, seen, items), k) for _, block in _blocks(users, items, block_mib)
    ]
    best, values = (torch.cat(column) for column in zip(*found, strict=True))
    return torch.where(values == -torch.inf, -1, best), values


def check_places(k: int, items: int) -> None:
    """InputError for a list of no place, for one that is longer than the catalogue, and for no number."""
    if isinstance(k, bool) or not hasattr(k, "__index__"):
        raise InputError(f"k = {k!r}: give a whole number of places")
    if not 1 <= k <= items:
        raise InputError(f"k = {k}: a list of {items} items has 1 to {items} places")


def _blocks(users: Tensor, items: int, block_mib: int) -> Iterator[tuple[int, Tensor]]:
    size = max(1, (block_mib << 20) // (4 * items))
    return ((start, users[start : start + size]) for start in range(0, len(users), size))


def _masked(scores: Tensor, users: Tensor, seen: ItemLists, items: int) -> Tensor:
    """Scores with those of seen items at -inf, in place."""
    if scores.shape != (len(users), items):
        raise InputError(f"scores of {len(users)} users and {items} items have the shape {[*scores.shape]}")
    if not scores.is_floating_point():
        raise InputError(f"scores are of type {scores.dtype}: give fractions, scores.float() for example")
    if not all(map(math.isfinite, map(float, torch.aminmax(scores)))):
        raise NotFinite(_BROKEN)
    scores[tuple(t.to(scores.device) for t in seen.of_users(users))] = -torch.inf
    return scores


def _alone(scores: Tensor, users: Tensor, only: ItemLists) -> Tensor:
    """Scores with those of all other items at -inf."""
    kept = torch.full_like(scores, -torch.inf)
    place = tuple(t.to(scores.device) for t in only.of_users(users))
    kept[place] = scores[place]
    return kept


def _best(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    value, item = torch.topk(scores, k, 1)
    item, order = item.sort(1)
    value, order = value.gather(1, order).sort(dim=1, descending=True, stable=True)
    item = item.gather(1, order)
    last = value[:, -1:]
    cut = (scores == last).sum(1) > (value == last).sum(1)  # equal scores on both sides of the end
    if bool(cut.any()):
        value[cut], item[cut] = (t[:, :k] for t in scores[cut].sort(dim=1, descending=True, stable=True))
    return item, value
