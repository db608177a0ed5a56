"""Negative items for users: drawn exactly from what they have not, uniformly or by popularity."""

from __future__ import annotations

import copy
import ctypes

import torch
from torch import Tensor

from ..errors import InputError
from ..itemlists import ItemLists
from ..nn import kernels

_SEARCH = 64  # numbers that are copied in the time of one search
_LARGEST = 1 << 62  # of whole numbers: weights are rounded so that users times their sum stay below


class Negatives:
    """Draws items that a user has no interaction with, each with its weight's share among those.

    There is no rejection: a number below the weight of what is left of the catalogue is moved past the user's
    own items by a search, so that every draw is one step, and a false negative is impossible.
    """

    def __init__(self, positives: ItemLists, items: int, weight: Tensor | None = None) -> None:
        """positives: what is never drawn. weight [items] >= 0, of any scale; None: all alike.

        InputError for a user who has all items of a weight, and for weights that are no weights.
        """
        self.positives, self.items, self.cdf, self.alike = positives, items, None, None
        user, item = positives.pairs()
        before_item = item
        if weight is not None:
            units = _quantised(weight, items, _LARGEST // (len(positives) + 1) - items)
            self.cdf = units.cumsum(0)
            before_item, own = (self.cdf - units)[item], units[item]
            if int(units.max()) == 1:
                self.alike = units.nonzero().squeeze(1)  # those that may be drawn: no search for a place
        else:
            own = torch.ones_like(item)
        whole = items if self.cdf is None else int(self.cdf[-1])
        before_own = own.cumsum(0) - own
        start = positives.offsets[:-1]
        padded = torch.cat([before_own, own.sum().reshape(1)])
        of_user = padded[positives.offsets[1:]] - padded[start]
        self.left = whole - of_user  # weight of what each user has not
        if len(self.left) and int(self.left.min()) <= 0:
            raise InputError(f"user number {int(self.left.argmin())} has an interaction with every item that "
                             "may be drawn: there is no negative")
        moved = before_own - padded[start][user]  # of each own item, the user's own weight before it
        self._span = whole + 1
        self._keys = user * self._span + before_item - moved  # ascending over all users
        self._behind = torch.cat([moved + own, own.new_zeros(1)])  # what moves the places behind it

    def to(self, device: torch.device | str) -> Negatives:
        """The same on another device."""
        there = copy.copy(self)
        there.positives = self.positives.to(device)
        for name in ("cdf", "alike", "left", "_keys", "_behind"):
            value = getattr(self, name)
            setattr(there, name, None if value is None else value.to(device))
        return there

    def draw(self, users: Tensor, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Items int64 [B, count] for users [B], from torch's generator unless another is given."""
        unit = torch.rand(len(users), count, dtype=torch.float64, generator=generator, device=users.device)
        if self._has_kernel(users):
            return self._items(self._by_kernel("drawn_places", users, unit, self.left))
        left = self.left[users, None]
        return self.at((unit * left).long().clamp(max=left - 1), users)

    def at(self, place: Tensor, users: Tensor) -> Tensor:
        """The item at each place [B, count] below `left`, when what a user has not lies side by side."""
        if self._has_kernel(users):
            return self._items(self._by_kernel("places_among_all", users, place))
        keys = users[:, None] * self._span + place
        passed = torch.searchsorted(self._keys, keys, right=True)  # own items before it, and other users'
        any_own = passed > self.positives.offsets[users, None]
        return self._items(place + torch.where(any_own, self._behind[passed - 1], 0))

    def _items(self, place: Tensor) -> Tensor:
        """The items at places among all of the catalogue's weight."""
        if self.alike is not None:
            return self.alike[place]
        return place if self.cdf is None else torch.searchsorted(self.cdf, place, right=True)

    def _has_kernel(self, users: Tensor) -> bool:
        return kernels.enabled and users.device.type == "cpu" and kernels.built("item_places")

    def _by_kernel(self, name: str, users: Tensor, given: Tensor, *more: Tensor) -> Tensor:
        """Places among all of the catalogue's weight, by searches in the lists of single users."""
        given, users = given.contiguous(), users.contiguous()
        found = torch.empty_like(given, dtype=torch.int64)
        behind = None if self.cdf is None else self._behind
        tensors = (self._keys, behind, self.positives.offsets, users, given, *more, found)
        arguments = [ctypes.c_void_p(t if t is None else t.data_ptr()) for t in tensors]
        arguments += [ctypes.c_int64(number) for number in (given.shape[1], self._span)]
        function = getattr(kernels.library("item_places"), name)
        kernels.over_rows(
            len(users),
            lambda a, b: function(*arguments, ctypes.c_int64(a), ctypes.c_int64(b)),
            kernels.rows_a_thread(_SEARCH * given.shape[1]),
        )
        return found


class NegativesInRelease:
    """Draws items that were in release at the moment of a training pair, and that its user has not.

    An item is in release from its first pair on, for ever or for a window. In the order of release these
    items stand side by side, so that what a user has not among them is one range of places of `Negatives`.
    """

    def __init__(self, positives: ItemLists, moment: Tensor, first: Tensor, window: float = 0.0) -> None:
        """moment [P] of each pair of `positives`, first [I] of each item (inf: never in release), and window
        (0: for ever), in one unit."""
        users, items = len(positives), len(first)
        self.order = first.argsort(stable=True)
        rank = torch.empty_like(self.order)
        rank[self.order] = torch.arange(items, device=rank.device)
        user, item = positives.pairs()
        ranked = ItemLists.of(user, rank[item], users, items)
        keys = user * items + ranked.items
        # those who have everything are never asked for: nothing is left at any of their pairs
        self.negatives = Negatives(ranked.shorter_than(items), items)

        def others(until: Tensor) -> Tensor:
            """How many of the first items in the order of release [P] the user has not."""
            return until - (torch.searchsorted(keys, user * items + until) - positives.offsets[user])

        ascending = first[self.order]
        until = torch.searchsorted(ascending, moment, right=True)
        behind = torch.searchsorted(ascending, moment - window) if window else torch.zeros_like(until)
        self.start = others(behind)  # of the places of each pair
        self.left = others(until) - self.start  # how many items there are for each pair, 0 too

    def to(self, device: torch.device | str) -> NegativesInRelease:
        """The same on another device."""
        there = copy.copy(self)
        there.negatives = self.negatives.to(device)
        for name in ("order", "start", "left"):
            setattr(there, name, getattr(self, name).to(device))
        return there

    def draw(self, pairs: Tensor, users: Tensor, count: int) -> Tensor:
        """Items int64 [B, count] for the pairs of these numbers [B], for which something is left, and their
        users [B], from torch's generator."""
        left = self.left[pairs, None]
        unit = torch.rand(len(pairs), count, dtype=torch.float64, device=pairs.device)
        place = (unit * left).long().clamp(max=left - 1) + self.start[pairs, None]
        return self.order[self.negatives.at(place, users)]


class UnlabelledPairs:
    """Draws pairs of a user and an item that have no interaction, each pair alike."""

    def __init__(self, positives: ItemLists, items: int) -> None:
        """InputError where every user has everything."""
        self.negatives = Negatives(positives.shorter_than(items), items)
        self.until = (items - positives.counts).cumsum(0)
        if not len(self.until) or not int(self.until[-1]):
            raise InputError("every user has an interaction with every item: there is no unlabelled pair")

    def to(self, device: torch.device | str) -> UnlabelledPairs:
        """The same on another device."""
        there = copy.copy(self)
        there.negatives, there.until = self.negatives.to(device), self.until.to(device)
        return there

    def draw(self, rows: int, count: int) -> tuple[Tensor, Tensor]:
        """Users and items int64 [rows, count], from torch's generator."""
        total = self.until[-1]
        unit = torch.rand(rows * count, dtype=torch.float64, device=self.until.device)
        place = (unit * total).long().clamp(max=total - 1)
        user = torch.searchsorted(self.until, place, right=True)
        before = self.until[user] - self.negatives.left[user]
        item = self.negatives.at((place - before)[:, None], user)
        return user.view(rows, count), item.view(rows, count)


def _quantised(weight: Tensor, items: int, total: int) -> Tensor:
    """About `total` whole units together, one at least for an item whose weight is not 0; one each where all
    of these weights are equal."""
    if weight.shape != (items,) or not bool(torch.isfinite(weight).all()) or bool((weight < 0).any()):
        raise InputError(f"weights of {items} items: give one finite number of at least 0 for each")
    share = weight.double() / weight.double().sum().clamp(min=1e-300)
    if not bool(share.any()):
        raise InputError("weights of items: all are 0, nothing can be drawn")
    if len(torch.unique(weight[weight > 0])) == 1:
        return (weight > 0).long()
    units = (share * min(total, 1 << 52)).round().long()
    return torch.where(weight > 0, units.clamp(min=1), 0)
