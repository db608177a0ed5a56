"""Interactions of users with items: which rows count, by rules that a schema file states."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from ..config import Frozen


class InteractionSpec(Frozen):
    """What counts as an interaction of a user with an item, and which users and items stay."""

    time: str = Field("", description=(
        "column with its moment; empty: rows are in the order of the split's moments, if it has some, or as "
        "they stand"))
    rating: str = Field("", description="column with a rating, of which a threshold makes interactions")
    above: float | Literal["none"] = Field("none", description=(
        "rows whose rating is not above this are left out"))
    repeats: Literal["first", "last", "keep", "refuse"] = Field("first", description=(
        "which row of a user with the same item stays, in time order; keep: all; refuse: there must be one"))
    user_core: int = Field(0, ge=0, description="users with fewer different items are left out")
    item_core: int = Field(0, ge=0, description=(
        "items with fewer different users are left out; both again and again, until nothing changes"))
    catalogue: Literal["rows", "table"] = Field("rows", description=(
        "rows: items (users) of any row, whatever its split; table: also those that a side table knows"))

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns of the files beside user and item."""
        return (self.time, self.rating)

    @model_validator(mode="after")
    def _consistent(self) -> InteractionSpec:
        if bool(self.rating) != (self.above != "none"):
            raise ValueError("rating and above belong together: name the column, and the number above which "
                             "a row counts")
        return self


def first_of_pairs(users: np.ndarray, items: np.ndarray, times: np.ndarray, last: bool = False) -> np.ndarray:
    """True for the first (last) row of each pair of user and item in time order, ties by row: bool [rows]."""
    order = np.lexsort((np.arange(len(users)), times, items, users))
    if last:
        order = order[::-1]
    new = np.ones(len(order), bool)
    new[1:] = (users[order][1:] != users[order][:-1]) | (items[order][1:] != items[order][:-1])
    kept = np.zeros(len(order), bool)
    kept[order[new]] = True
    return kept


def core(users: np.ndarray, items: np.ndarray, user_core: int, item_core: int) -> np.ndarray:
    """The rows that stay when users with fewer than user_core items and items with fewer than item_core users
    go, again and again: bool [rows]. The pairs must be different ones; codes from 0.

    What stays does not depend on who goes first: it is the largest set in which everybody has enough.
    """
    kept = np.ones(len(users), bool)
    while True:
        by_user, by_item = (np.bincount(codes[kept], minlength=codes.max(initial=-1) + 1)
                            for codes in (users, items))
        fewer = kept & (by_user[users] >= user_core) & (by_item[items] >= item_core)
        if fewer.sum() == kept.sum():
            return kept
        kept = fewer
