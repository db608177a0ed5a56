"""Scores that are inner products of vectors, and places of items by them without a score being kept."""

from __future__ import annotations

import copy
import ctypes
import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from ..itemlists import ItemLists
from . import kernels

_LARGEST = 1e38  # norm of a user times that of an item: no product or part of one overflows below
_USERS_A_THREAD = 48  # as many as the kernel takes at once


class Products:
    """users [B] -> scores [B, I]: inner products of vectors of users [U, D] and items [I, D]."""

    def __init__(self, users: Tensor, items: Tensor) -> None:
        self.users, self.items = users, items

    def __call__(self, index: Tensor) -> Tensor:
        return self.users[index] @ self._turned

    def of(self, users: Tensor) -> Products:
        """The same items for other users [U, D]; what is made of the items is made once."""
        self._turned  # noqa: B018 - kept, and copied with the rest
        there = copy.copy(self)
        there.users = self._long(users)
        return there

    def _long(self, users: Tensor) -> Tensor:
        """Vectors of users as long as those of `items`."""
        return users

    @functools.cached_property
    def _turned(self) -> Tensor:
        return self.items.t().contiguous()

    def places(self, users: Tensor, seen: ItemLists, wanted: ItemLists) -> tuple[Tensor, Tensor] | None:
        """Of each wanted item of some users [B]: the items with a larger score, and with the same; int64 [N].

        Among the items that the user has not seen; no wanted item is seen. None where the kernel does not
        count: on another device or type, without a compiler, and for vectors whose products may be infinite.
        """
        vectors = (self.users, self.items)
        if any(v.device.type != "cpu" or v.dtype != torch.float32 for v in vectors) or not _has_kernel():
            return None
        chosen = self.users[users]
        longest, longest_item = (float(v.square().sum(1, dtype=torch.float64).max().sqrt())
                                 for v in (chosen, self.items))
        if not longest * longest_item < _LARGEST:  # nor where one is NaN
            return None
        return _by_kernel(chosen, self.items, longest_item, seen.rows(users), wanted.rows(users))


class Distances(Products):
    """users [B] -> minus the squared distances [B, I] of vectors of users [U, D] and items [I, D].

    Places are those of inner products of vectors that are one number longer: |u|^2 is the same for all items.
    """

    def __init__(self, users: Tensor, items: Tensor) -> None:
        squares = items.square().sum(1, keepdim=True)
        super().__init__(self._long(users), torch.cat([2 * items, -squares], 1))

    def _long(self, users: Tensor) -> Tensor:
        return F.pad(users, (0, 1), value=1.0)

    def __call__(self, index: Tensor) -> Tensor:
        return super().__call__(index) - self.users[index, :-1].square().sum(1, keepdim=True)


@functools.cache
def _has_kernel() -> bool:
    return not kernels.missing("product_ranks")


def _by_kernel(
    users: Tensor, items: Tensor, longest: float, seen: ItemLists, wanted: ItemLists
) -> tuple[Tensor, Tensor]:
    library, (count, width) = kernels.library("product_ranks"), items.shape
    library.panel_items.restype = ctypes.c_int64
    panel = library.panel_items()
    padded = F.pad(items, (0, 0, 0, -count % panel))
    panels = padded.view(-1, panel, width).transpose(1, 2).contiguous()
    above, tied = (torch.empty(len(wanted.items), dtype=torch.int32) for _ in range(2))
    lists = (seen.offsets, seen.items, wanted.offsets, wanted.items)
    tensors = (users.contiguous(), items.contiguous(), panels, *(t.contiguous() for t in lists), above, tied)
    pointers = [ctypes.c_void_p(t.data_ptr()) for t in tensors]
    sizes = (ctypes.c_int64(count), ctypes.c_int64(width), ctypes.c_float(longest))
    kernels.over_rows(
        len(users),
        lambda a, b: library.product_ranks(*pointers, *sizes, ctypes.c_int64(a), ctypes.c_int64(b)),
        least=_USERS_A_THREAD,
    )
    return above.long(), tied.long()
