"""The [split] part of a schema file: how rows are divided, and the names of splits."""

from __future__ import annotations

import datetime
import re
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from ..config import Frozen
from ..errors import InputError

Method = Literal["files", "column", "time", "hash", "user", "users", "release"]
_SPLIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def check_split_name(name: str) -> None:
    """InputError for a split name that cannot be a folder beside encoding/, vectors/ and sides/."""
    if not _SPLIT_NAME.fullmatch(name) or name in ("encoding", "vectors", "sides"):
        raise InputError(f"split name {name!r}: use letters, digits, - and _ (not 'encoding', 'vectors' or "
                         "'sides')")


def given_of(split: str) -> str:
    """The split with the rows that are given of the users who are held out for this one."""
    return f"{split}_given"


def rejected_of(split: str) -> str:
    """The split with the pairs that were judged beside those of this one, and are not relevant."""
    return f"{split}_rejected"


def without_defaults(values: dict[str, Any], spec: Frozen, names: tuple[str, ...]) -> dict[str, Any]:
    """Settings younger than data that were prepared without them: left out where they have their default, so
    that digests stay."""
    fields = type(spec).model_fields
    return {k: v for k, v in values.items() if k not in names or getattr(spec, k) != fields[k].default}


class SplitSpec(Frozen):
    """How rows are divided into training, validation and test."""

    method: Method = Field("files", description=(
        "files: each split has its own files; column: a column names the split; time: earlier rows train; "
        "hash: a fixed hash of key columns (of the item: cold items); user: the last rows of each user are "
        "held out; users: all rows of some users are held out, and the first of them given as their history; "
        "release: all rows of an item go by the moment of its first one (the newest items are cold)"))
    column: str = Field("", description=(
        "the split column (column) or the time column (time, release; user: empty means file order)"))
    names: dict[str, str] = Field({}, description=(
        "column: value -> split; empty: the values are train, valid, test"))
    fractions: dict[str, float] = Field({"train": 0.8, "valid": 0.1, "test": 0.1}, description=(
        "hash, time: share of the rows, for time in time order; users: share of the users; release: of the "
        "items, in the order of their first rows"))
    cuts: dict[str, float | str] = Field({}, description=(
        "time: first moment of each later split, a number or date: {valid = 2020-05-01, test = 2020-06-01}"))
    keys: tuple[str, ...] = Field((), description=(
        "hash: columns hashed together; empty: row number from 0; release: the column of items"))
    salt: str = Field("", description="hash, users, random, cut_valid: another salt is another draw")
    user: str = Field("", description="user, users: the user column")
    last: dict[str, float] = Field({"valid": 1, "test": 1}, description=(
        "user: rows held out of each user, the latest in the split named last; 1 and more are counts, "
        "below 1 shares (rounded down)"))
    random: bool = Field(False, description=(
        "user, users: the rows of a user stand in the order of a hash of all of keys, not in time order"))
    given: float = Field(0.8, gt=0, lt=1, description=(
        "users: share of a held-out user's rows (rounded down, but one at least where there are two) that go "
        "to SPLIT_given, the history that the others are to be ranked by"))

    cut_valid: float = Field(0.0, ge=0, lt=1, description=(
        "interactions: share of the training pairs that become the split valid, where the rule gives none: "
        "by a hash of user and item, of no user all"))

    @field_validator("cuts", mode="before")
    @classmethod
    def _dates_as_text(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {k: v.isoformat() if isinstance(v, datetime.date) else v for k, v in value.items()}

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits this rule can give, in the order of their numbers; none for method files."""
        named = tuple(dict.fromkeys(self.names.values()))
        unnamed = ("train", *["valid"] * (not self.cut_valid), "test")
        return {"files": (), "column": named or unnamed,
                "time": ("train", *self.cuts) if self.cuts else tuple(self.fractions),
                "hash": tuple(self.fractions), "release": tuple(self.fractions),
                "user": ("train", *self.last),
                "users": tuple(n for name in self.fractions for n in self._parts(name))}[self.method]

    @staticmethod
    def _parts(name: str) -> tuple[str, ...]:
        return (name,) if name == "train" else (given_of(name), name)

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns of the files that this rule reads."""
        by_user = (self.user, *self.keys) if self.random else (self.user, self.column)
        return {"files": (), "column": (self.column,), "time": (self.column,), "hash": self.keys,
                "release": (*self.keys, self.column), "user": by_user, "users": by_user}[self.method]

    @property
    def order(self) -> str:
        """The column by whose moments the rows are ordered, "" where none orders them."""
        return "" if self.random or self.method in ("files", "column", "hash") else self.column

    @property
    def words(self) -> str:
        """The rule in a few words."""
        shares = ", ".join(f"{name} {share:g}" for name, share in self.fractions.items())
        cuts = ", ".join(f"{name} from {moment}" for name, moment in self.cuts.items())
        last = ", ".join(f"{name} {count:g}" for name, count in self.last.items())
        order = f"hash of {', '.join(self.keys)} (salt {self.salt!r})" if self.random else (
            self.column or "file order")
        cut = f"; valid {self.cut_valid:g} of train, by hash (salt {self.salt!r})" * (self.cut_valid > 0)
        return {"files": "given files", "column": f"as the column {self.column} says",
                "time": f"by time ({self.column}): {cuts or shares}",
                "hash": f"hash of {', '.join(self.keys) or 'the row number'} (salt {self.salt!r}): {shares}",
                "release": f"all rows of an {''.join(self.keys)} by the first of them ({self.column}): "
                           f"{shares}",
                "user": f"last rows of each {self.user} by {order}: {last}",
                "users": f"all rows of a {self.user}, by hash (salt {self.salt!r}): {shares}; the first "
                         f"{self.given:g} of a held-out one, by {order}, are given",
                }[self.method] + cut

    @model_validator(mode="after")
    def _consistent(self) -> SplitSpec:
        for name in (*self.names.values(), *self.fractions, *self.cuts, *self.last):
            check_split_name(name)
        if self.method == "release" and len(self.keys) != 1:
            raise ValueError("method='release' needs keys, the name of the column of items, and no other")
        if self.method in ("column", "time", "release") and not self.column:
            kind = "split" if self.method == "column" else "time"
            raise ValueError(f"method={self.method!r} needs column, the name of the {kind} column")
        if self.method in ("user", "users") and not self.user:
            raise ValueError(f"method={self.method!r} needs user, the name of the user column")
        if self.random and (self.method not in ("user", "users") or not self.keys):
            raise ValueError("random belongs to the methods user and users and needs keys, the columns whose "
                             "hash orders the rows of a user, for example user and item")
        uses_shares = self.method in ("hash", "users", "release") or (self.method == "time" and not self.cuts)
        shares = self.fractions.values()
        if uses_shares and (min(shares, default=0) <= 0 or abs(sum(shares) - 1) > 1e-9):
            raise ValueError(f"fractions={self.fractions} must be above 0 and sum to 1")
        if "train" in self.cuts or "train" in self.last:
            raise ValueError("cuts and last name the later splits only; remove train")
        if any(share <= 0 or (share >= 1 and share != int(share)) for share in self.last.values()):
            raise ValueError(f"last={self.last}: give whole counts, or shares between 0 and 1")
        if self.cut_valid and self.method == "users":
            raise ValueError("cut_valid takes valid from pairs of training users, but method='users' asks "
                             "about users who are held out; give fractions for valid")
        if self.cut_valid and "valid" in self.splits:
            raise ValueError(f"cut_valid={self.cut_valid:g} takes valid from the training pairs, but "
                             f"method={self.method!r} gives valid too; remove it there, or cut_valid")
        if self.method != "files" and "train" not in self.splits:
            raise ValueError(f"the splits {list(self.splits)} have no 'train'")
        if self.method in ("time", "release") and self.splits[0] != "train":
            raise ValueError(f"the splits {list(self.splits)} are in time order, 'train' must be the first")
        return self

    @model_serializer(mode="wrap")
    def _dump(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(dump(self), self, ("random", "given", "cut_valid"))
