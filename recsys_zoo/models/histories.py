"""The training items of the users of a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from ..batch import Pairs
from ..nn.lists import sums_of_lists
from ..nn.sparse import HeldLists


class UsersOfBatch:
    """The users of a batch of training pairs, each once, with the sums over their histories.

    place [B]: which of the users each pair has; counts [B]: items of its history without that of the pair.
    """

    def __init__(self, histories: HeldLists, pairs: Pairs) -> None:
        self.pairs = pairs
        self.users, self.place = torch.unique(pairs.user, return_inverse=True)
        self.row, self.item = histories.of_users(self.users)
        self.sizes = torch.bincount(self.row, minlength=len(self.users))
        self.counts = self.sizes[self.place] - 1

    def means(self, vectors: Tensor, item: Tensor, pos: Tensor) -> Tensor:
        """Mean vector [B, D] of the history without the pair's item, 0 where nothing is left.

        vectors [n, D] of the items of the histories (which of them: `item`, in their order) and of the pairs
        (which of them: pos [B]).
        """
        sums = sums_of_lists(vectors.float(), item, self.sizes)[self.place] - vectors[pos]
        return torch.where(self.counts[:, None] > 0, sums / self.counts.clamp(min=1)[:, None], 0)

    def masked(self, scores: Tensor, items: int) -> Tensor:
        """Scores [B, B] of each pair's user for the item of each, -inf where the user has that of another."""
        return scores.masked_fill(self.owned(items).fill_diagonal_(False), -torch.inf)

    def owned(self, items: int) -> Tensor:
        """Whether the user of a pair has the item of another, or of the pair itself: bool [B, B]."""
        found, place = torch.unique(self.pairs.pos, return_inverse=True)
        slot = torch.full((items,), -1, device=found.device)
        slot[found] = torch.arange(len(found), device=found.device)
        own = torch.zeros(len(self.users), len(found), dtype=torch.bool, device=found.device)
        kept = slot[self.item] >= 0
        own[self.row[kept], slot[self.item[kept]]] = True
        return own[self.place][:, place]
