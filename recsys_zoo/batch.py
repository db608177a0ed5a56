"""The tensors a model is given: plain dataclasses, registered as pytrees; width-0 tensors, never None."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, Self

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

DrawnFrom = Literal["user", "items", "users", "released"]  # what negatives are drawn from, see `RankingTask`
Positives = Literal["pairs", "users"]  # what positives are drawn by, see there


class _Tensors:
    def to(self, device: torch.device | str) -> Self:
        """The same tensors on another device."""
        return pytree.tree_map(lambda t: t.to(device, non_blocking=True), self)

    def rows(self, start: int, stop: int) -> Self:
        """The examples start..stop-1 (views, no copy)."""
        return pytree.tree_map(lambda t: t[start:stop], self)


def _register(cls: type) -> type:
    names = [f.name for f in fields(cls)]
    pytree.register_pytree_node(
        cls,
        lambda v: ([getattr(v, n) for n in names], None),
        lambda values, _: cls(*values),
        serialized_type_name=f"recsys_zoo.{cls.__name__}",
        to_dumpable_context=lambda _: None,
        from_dumpable_context=lambda _: None,
    )
    return cls


@_register
@dataclass
class Inputs(_Tensors):
    """What a CTR model sees: ids [B, F] integers, numeric [B, N] floats, bags name -> [B, L] integers."""

    ids: Tensor
    numeric: Tensor
    bags: dict[str, Tensor]

    def __len__(self) -> int:
        return self.ids.shape[0]


@_register
@dataclass
class Batch(_Tensors):
    """Inputs with labels [B] (or [B, T] for several), weight [B] and group [B] (all zero without groups)."""

    inputs: Inputs
    labels: Tensor
    weight: Tensor
    group: Tensor

    def __len__(self) -> int:
        return self.labels.shape[0]


@_register
@dataclass
class Pairs(_Tensors):
    """Users [B] with a positive item [B] and N negative ones [B, N], numbered from 0; weight [B]."""

    user: Tensor
    pos: Tensor
    neg: Tensor
    weight: Tensor

    def __len__(self) -> int:
        return self.user.shape[0]

    def neg_users(self) -> Tensor:
        """Whose negatives these are: [B, N]."""
        return self.user[:, None].expand_as(self.neg)


@_register
@dataclass
class PairsOfAll(Pairs):
    """Pairs whose negatives are of other users: neg_user [B, N]."""

    neg_user: Tensor

    def neg_users(self) -> Tensor:
        """Whose negatives these are: [B, N]."""
        return self.neg_user


@_register
@dataclass
class UserLists(_Tensors):
    """All items of B users, numbered from 0, each row filled up with -1: items [B, L]; weight [B]."""

    items: Tensor
    weight: Tensor

    def __len__(self) -> int:
        return self.items.shape[0]
