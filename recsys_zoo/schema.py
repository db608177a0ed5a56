"""What the columns of a prepared data set are: all that data, embedding and model share."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from .config import Frozen
from .errors import InputError

PADDING, UNKNOWN = 0, 1  # row 0 of every vocabulary pads, row 1 stands for values unseen in training
FIRST = 2  # row of the first value

Kind = Literal["categorical", "numeric", "bag", "sequence"]
Side = Literal["user", "item", "context"]


class Column(Frozen):
    """One input column: categorical (one id), numeric (one float), bag or sequence (max_len ids)."""

    name: str
    kind: Kind
    side: Side = "context"
    vocab_size: int = Field(
        0, ge=0, description="rows of the vocabulary with padding and unknown; 0 for numeric"
    )
    max_len: int = Field(0, ge=0, description="ids kept of a bag or sequence; 0 for the other kinds")
    share_with: str = Field("", description="column whose vocabulary and embedding rows this one uses")

    @model_validator(mode="after")
    def _consistent(self) -> Column:
        if self.kind == "numeric":
            if self.vocab_size or self.max_len or self.share_with:
                raise ValueError(f"numeric column {self.name!r} takes no vocab_size, max_len or share_with")
            return self
        if self.vocab_size < 2:
            raise ValueError(
                f"column {self.name!r}: vocab_size={self.vocab_size} must count padding and unknown (>= 2)"
            )
        if (self.kind in ("bag", "sequence")) != (self.max_len > 0):
            raise ValueError(f"column {self.name!r}: max_len belongs to bags and sequences, and only to them")
        return self


class Schema(Frozen):
    """The columns in their order, the labels, and which columns identify group, user and item."""

    dataset: str
    columns: tuple[Column, ...]
    labels: tuple[str, ...]
    group: str = Field("", description="raw column that groups rows for gAUC and clustered intervals")
    user: str = Field("", description="column holding the user id, where there is one")
    item: str = Field("", description="column holding the item id, where there is one")
    interactions: bool = Field(
        False, description="rows hold ids and context; the columns of users and items stand apart"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Schema:
        names = [c.name for c in self.columns]
        if len(set(names)) != len(names):
            raise ValueError(f"column {next(n for n in names if names.count(n) > 1)!r} is listed twice")
        if not names:
            raise ValueError("a schema needs at least one column")
        by_name = {c.name: c for c in self.columns}
        for column in self.columns:
            if column.share_with:
                owner = by_name.get(column.share_with)
                if owner is None or owner.share_with or owner.kind == "numeric":
                    raise ValueError(
                        f"column {column.name!r} shares with {column.share_with!r}, "
                        "which is not a column with a vocabulary of its own"
                    )
                if owner.vocab_size != column.vocab_size:
                    raise ValueError(
                        f"column {column.name!r} and {owner.name!r} share a vocabulary of different sizes"
                    )
        for role, name in (("user", self.user), ("item", self.item)):
            if name and (name not in by_name or by_name[name].kind != "categorical"):
                raise ValueError(f"{role}={name!r} is not a categorical column")
        return self

    def of_rows(self) -> Schema:
        """The columns that a row of a split holds: all, but of interactions no more of a user and an item
        than the id."""
        if not self.interactions:
            return self
        kept = [c for c in self.columns if c.side == "context" or c.name in (self.user, self.item)]
        return self.model_copy(update={"columns": tuple(kept)})

    def of_side(self, side: Side) -> Schema:
        """The columns of users or items, the id among them."""
        role = {"user": self.user if side == "user" else "", "item": self.item if side == "item" else ""}
        columns = tuple(c for c in self.columns if c.side == side or c.name in role.values())
        return Schema(dataset=self.dataset, columns=columns, labels=(), **role)

    def side_values(self, side: Side) -> tuple[Column, ...]:
        """The columns of users or items that hold ids of values, the own id left out."""
        own = (self.user, self.item)
        return tuple(c for c in self.of("categorical", "bag", "sequence", side=side) if c.name not in own)

    def size(self, side: Side) -> int:
        """How many users or items have an id; InputError where no column holds it."""
        name = {"user": self.user, "item": self.item}.get(side, "")
        if not name:
            raise InputError(f"the schema of {self.dataset!r} names no column as the {side}: write "
                             f'{side} = "NAME" in the schema file and prepare again')
        return self.column(name).vocab_size - FIRST

    def of(self, *kinds: Kind, side: Side | None = None) -> tuple[Column, ...]:
        """The columns of these kinds (all kinds when none is named) on this side, in schema order."""
        return tuple(c for c in self.columns if (not kinds or c.kind in kinds) and side in (None, c.side))

    def column(self, name: str) -> Column:
        """The column of that name; UnknownName with near matches."""
        for column in self.columns:
            if column.name == name:
                return column
        from .errors import unknown_name

        raise unknown_name("column", name, [c.name for c in self.columns])

    @property
    def table_size(self) -> int:
        """Embedding rows that can be learnt: values and one unknown row a vocabulary, padding not counted."""
        return sum(c.vocab_size - 1 for c in self.columns if c.kind != "numeric" and not c.share_with)

    def id_slices(self) -> dict[str, slice]:
        """Where each column lies in the prepared id matrix: categoricals first, then bags and sequences."""
        slices, start = {}, 0
        for column in (*self.of("categorical"), *self.of("bag", "sequence")):
            width = column.max_len or 1
            slices[column.name] = slice(start, start + width)
            start += width
        return slices

    @model_serializer(mode="wrap")
    def _dump(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values = dump(self)
        if not self.interactions:
            del values["interactions"]  # so that digests are those of schemas that are older
        return values

    def save(self, path: Path) -> None:
        """Write as JSON."""
        Path(path).write_text(self.model_dump_json(indent=1), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Schema:
        """Read schema.json; InputError when it is missing or not a schema."""
        import json

        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(f"{path}: no such file; is this a prepared folder?") from None
        except ValueError as error:
            raise InputError(f"{path}: not valid JSON: {error}") from None
        return cls.parse(values, str(path))
