"""Items of each user as one array with offsets (CSR): what was seen, what is relevant."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import InputError


@dataclass(frozen=True)
class ItemLists:
    """The items of user u are items[offsets[u] : offsets[u + 1]], ascending and each once; all int64."""

    offsets: Tensor
    items: Tensor

    @classmethod
    def of(cls, user: Tensor, item: Tensor, users: int, items: int) -> ItemLists:
        """From pairs in any order, repeated or not; InputError for numbers outside 0..users-1, 0..items-1,
        and for what is no whole number."""
        for what, given, count in (("user", user, users), ("item", item, items)):
            if len(given) and (given.is_floating_point() or given.dtype == torch.bool):
                raise InputError(f"{what} numbers are of type {given.dtype}: give whole numbers, of int64")
            if len(given) and not 0 <= int(given.min()) <= int(given.max()) < count:
                found = f"{int(given.min())} to {int(given.max())}"
                raise InputError(f"{what} numbers {found} are not all among 0 to {count - 1}")
        keys = torch.unique(user.to(torch.int64) * items + item)
        counts = torch.bincount(keys.div(items, rounding_mode="floor"), minlength=users)
        return cls(torch.cat([counts.new_zeros(1), counts.cumsum(0)]), keys % max(items, 1))

    def to(self, device: torch.device | str) -> ItemLists:
        """The same on another device."""
        return ItemLists(self.offsets.to(device), self.items.to(device))

    def first(self, users: int) -> ItemLists:
        """As many users, of whom the first so many keep their items."""
        offsets = self.offsets.clamp(max=int(self.offsets[min(users, len(self))]))
        return ItemLists(offsets, self.items[: int(offsets[-1])])

    def share(self, part: int, parts: int) -> ItemLists:
        """As many users, of whom the numbers part, part + parts, ... keep their items."""
        user, item = self.pairs()
        kept = user % parts == part
        counts = torch.bincount(user[kept], minlength=len(self))
        return ItemLists(torch.cat([counts.new_zeros(1), counts.cumsum(0)]), item[kept])

    def shorter_than(self, count: int) -> ItemLists:
        """Without the items of users who have so many or more."""
        counts = self.counts
        kept = counts < count
        offsets = torch.cat([counts.new_zeros(1), (counts * kept).cumsum(0)])
        return ItemLists(offsets, self.items[torch.repeat_interleave(kept, counts)])

    @property
    def mib(self) -> float:
        """Size in memory."""
        return (self.offsets.nbytes + self.items.nbytes) / 2**20

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def counts(self) -> Tensor:
        """Number of items of each user, [U]."""
        return self.offsets.diff()

    def of_users(self, users: Tensor) -> tuple[Tensor, Tensor]:
        """The items of some users, user by user: place of the user in `users` [n], item [n]."""
        users = users.to(self.offsets.device)
        counts = self.counts[users]
        row = torch.repeat_interleave(torch.arange(len(users), device=users.device), counts)
        start = self.offsets[users] - (counts.cumsum(0) - counts)
        return row, self.items[torch.arange(len(row), device=users.device) + start[row]]

    def rows(self, users: Tensor) -> ItemLists:
        """The lists of these users, in this order, as those of the users 0, 1, ..."""
        counts = self.counts[users.to(self.offsets.device)]
        return ItemLists(torch.cat([counts.new_zeros(1), counts.cumsum(0)]), self.of_users(users)[1])

    def padded(self) -> Tensor:
        """The lists as rows that are filled up with -1: int64 [U, length of the longest]."""
        row, item = self.pairs()
        counts = self.counts
        found = item.new_full((len(self), int(counts.max()) if len(self) else 0), -1)
        found[row, torch.arange(len(row), device=row.device) - self.offsets[row]] = item
        return found

    def pairs(self) -> tuple[Tensor, Tensor]:
        """All pairs: user [n], item [n]."""
        return self.of_users(torch.arange(len(self), device=self.offsets.device))

    def among(self, kept: Tensor) -> ItemLists:
        """Those of the items that are kept, bool [I]."""
        user, item = self.pairs()
        held = kept[item]
        return ItemLists.of(user[held], item[held], len(self), len(kept))

    def without(self, other: ItemLists) -> ItemLists:
        """Those that the same user has not in the other lists."""
        (user, item), (other_user, other_item) = self.pairs(), other.pairs()
        span = 1 + max((int(t.max()) for t in (item, other_item) if len(t)), default=0)
        keys, others = user * span + item, other_user * span + other_item  # ascending
        kept = torch.ones_like(keys, dtype=torch.bool)
        if len(others):
            kept = others[torch.searchsorted(others, keys).clamp(max=len(others) - 1)] != keys
        counts = torch.bincount(user[kept], minlength=len(self))
        return ItemLists(torch.cat([counts.new_zeros(1), counts.cumsum(0)]), item[kept])
