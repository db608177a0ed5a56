"""The schema file a user writes (TOML): the columns of a data set, what they mean, how its rows are split."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from ..config import Frozen, read_toml
from ..schema import Kind, Side
from .interactions import InteractionSpec
from .splitspec import SplitSpec, without_defaults

Rule = Literal["none", "linear", "standardise", "log_square", "quantile"]
Number = float | Literal["none"]  # TOML has no null

_RULES = {"numeric": ("none", "linear", "standardise", "log_square"),
          "categorical": ("none", "log_square", "quantile"), "bag": ("none",), "sequence": ("none",)}


class ColumnSpec(Frozen):
    """One input column: where it is read from and how its values become ids or numbers."""

    name: str = Field(min_length=1, description="name in the schema")
    source: str = Field("", description="column of the files; empty: the same as name")
    kind: Kind = Field("categorical", description="categorical (one value), numeric, bag, sequence (several)")
    side: Side = Field("context", description="whom the column describes: user, item or context")
    min_count: int = Field(1, ge=1, description=(
        "values seen less often in training are unknown; of a bag or sequence also those count that max_len "
        "cuts off"))
    max_len: int = Field(0, ge=0, description=(
        "values kept of a bag (the first) or a sequence (the last); 0: as many as the longest training row"))
    separator: str = Field("|", min_length=1, description="text between the values of a bag or sequence")
    share_with: str = Field("", description="column whose vocabulary this one uses, counted over both")
    rule: Rule = Field("none", description=(
        "numeric: none or linear (as it is), standardise ((x - mean) / std of training), log_square "
        "(floor(ln(x)^2) above 2, else x); categorical: none (the text), log_square (the same, truncated to "
        "an integer), quantile (number of the bucket)"))
    bins: int = Field(10, ge=2, description="buckets of rule quantile, equally full but for ties")
    fill: Number = Field("none", description=(
        "number in place of missing, NaN and infinite ones, before the rule; none: missing is 0 after the "
        "rule (in buckets: unknown), NaN and infinite are refused"))

    @property
    def raw(self) -> str:
        """Name of the column in the files."""
        return self.source or self.name

    @property
    def owner(self) -> str:
        """Name of the column whose vocabulary this one uses (itself when not shared)."""
        return self.share_with or self.name

    @property
    def reads_numbers(self) -> bool:
        """Whether the raw values are numbers: numeric columns and bucketed categoricals."""
        return self.kind == "numeric" or self.rule != "none"

    @property
    def written(self) -> bool:
        """Whether a row has one value, looked up in a vocabulary as it is written."""
        return self.kind == "categorical" and not self.reads_numbers

    @property
    def learns(self) -> bool:
        """Whether training rows must be seen before a value can be encoded."""
        return self.kind != "numeric" or self.rule == "standardise"

    @model_validator(mode="after")
    def _consistent(self) -> ColumnSpec:
        where = f"column {self.name!r}"
        if self.rule not in _RULES[self.kind]:
            hint = "; buckets are categorical" if self.rule == "quantile" else ""
            raise ValueError(f"{where}: rule={self.rule!r} does not fit kind={self.kind!r}; "
                             f"choose one of {list(_RULES[self.kind])}{hint}")
        if self.max_len and self.kind not in ("bag", "sequence"):
            raise ValueError(f"{where}: max_len belongs to kind 'bag' and 'sequence', not to {self.kind!r}")
        if self.kind == "numeric" and (self.share_with or self.min_count > 1):
            raise ValueError(f"{where}: numbers have no vocabulary; remove share_with and min_count")
        if self.share_with and self.min_count > 1:
            raise ValueError(f"{where}: set min_count on {self.share_with!r}, whose vocabulary it uses")
        if self.share_with and self.rule != "none":
            raise ValueError(f"{where}: a bucketed column has its own vocabulary; remove share_with")
        if self.fill != "none" and not self.reads_numbers:
            raise ValueError(f"{where}: fill belongs to numeric and bucketed columns; remove it")
        return self


class LabelSpec(Frozen):
    """One label: a 0/1 column, or a threshold on a number."""

    name: str = Field(min_length=1, description="name in the schema")
    column: str = Field("", description="column of the files; empty: the same as name")
    above: Number = Field("none", description="numbers above are 1, others 0; none: the column holds 0 and 1")
    drop_equal: bool = Field(False, description="rows equal to `above` are dropped instead of counted as 0")

    @property
    def raw(self) -> str:
        """Name of the column in the files."""
        return self.column or self.name

    @model_validator(mode="after")
    def _consistent(self) -> LabelSpec:
        if self.drop_equal and self.above == "none":
            raise ValueError(f"label {self.name!r}: drop_equal needs above = NUMBER")
        return self


class ReadSpec(Frozen):
    """How text files are written; Parquet needs none of it."""

    separator: str = Field("", max_length=1, description=(
        "one character between columns; empty: tab for .tsv, else the most frequent of , ; | and tab in the "
        "first line"))
    header: tuple[str, ...] = Field((), description=(
        "column names of files without a header line; a file that begins with such names is read by them"))
    null_values: tuple[str, ...] = Field((), description="texts that mean missing, beside the empty one")

    @model_validator(mode="after")
    def _consistent(self) -> ReadSpec:
        if not self.separator.isascii() or self.separator in ('"', "\n", "\r"):
            raise ValueError(f"separator={self.separator!r}: choose an ASCII character that is neither a "
                             "quote nor the end of a line")
        twice = [name for name in self.header if self.header.count(name) > 1]
        if twice:
            raise ValueError(f"header names two columns {twice[0]!r}; rename one")
        return self


class TableSpec(Frozen):
    """A side table: attributes of users, items or anything else that the files name by a key."""

    files: tuple[str, ...] = Field(min_length=1, description=(
        "CSV, TSV or Parquet, one below the other; paths start at the folder of the schema file"))
    key: str = Field(min_length=1, description="column of the table that is different in each row")
    source: str = Field("", description="column of the main files with the key; empty: the same as key")
    columns: tuple[str, ...] = Field(min_length=1, description=(
        "what the table brings; used like columns of the main files, which must not have them"))
    read: ReadSpec = Field(ReadSpec(), description="how its text files are written")

    @property
    def raw(self) -> str:
        """Name of the key in the main files."""
        return self.source or self.key

    @model_validator(mode="after")
    def _consistent(self) -> TableSpec:
        twice = [name for name in self.columns if self.columns.count(name) > 1]
        if twice or self.key in self.columns:
            raise ValueError(f"table {self.files[0]!r}: list each column once, and the key under key alone; "
                             f"remove {(twice or [self.key])[0]!r}")
        return self


class DataSpec(Frozen):
    """A data set: columns, labels, roles, split."""

    dataset: str = Field(min_length=1, description="name of the data set")
    labels: tuple[LabelSpec, ...] = Field((), description="names, or tables with a threshold")
    group: str = Field("", description="column of the files that groups rows (gAUC, clustered intervals)")
    weight: str = Field("", description="column of the files with sample weights, finite and >= 0")
    user: str = Field("", description="categorical column with the user id")
    item: str = Field("", description="categorical column with the item id")
    columns: tuple[ColumnSpec, ...] = Field(min_length=1, description="inputs in the order models see them")
    split: SplitSpec = Field(SplitSpec(), description="division into training, validation and test")
    read: ReadSpec = Field(ReadSpec(), description="how text files are written")
    tables: tuple[TableSpec, ...] = Field((), description="side tables, joined by key")
    interactions: InteractionSpec | None = Field(None, description=(
        "rows are interactions to learn a ranking of items from, without labels"))
    note: str = Field("", description="stands beside every number that comes from these data")

    @field_validator("labels", mode="before")
    @classmethod
    def _names_alone(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        return [{"name": v} if isinstance(v, str) else v for v in value]

    @model_validator(mode="after")
    def _consistent(self) -> DataSpec:
        for what, owners in (("column", self.columns), ("label", self.labels)):
            names = [owner.name for owner in owners]
            twice = [n for n in names if names.count(n) > 1]
            if twice:
                raise ValueError(f"{what} {twice[0]!r} is listed twice")
        by_name = {c.name: c for c in self.columns}
        for column in self.columns:
            owner = by_name.get(column.share_with) if column.share_with else None
            if column.share_with and (owner is None or owner.share_with or owner.reads_numbers):
                raise ValueError(f"column {column.name!r}: share_with={column.share_with!r} is not a column "
                                 "that has a vocabulary of texts of its own")
        for role, name in (("user", self.user), ("item", self.item)):
            if name and (name not in by_name or by_name[name].kind != "categorical"):
                raise ValueError(f"{role}={name!r} is not the name of a categorical column")
        leaked = {label.raw for label in self.labels} & {c.raw for c in self.columns}
        if leaked:
            raise ValueError(f"{min(leaked)!r} is both a label and an input; remove it from the columns")
        self._check_tables()
        if self.interactions is not None:
            self._check_interactions()
            if self.split.cut_valid and {*self.split.keys} == {self.raw_id("item")}:
                raise ValueError("cut_valid takes pairs of known items, but split.keys hold items out; give "
                                 "fractions for valid, so that it asks about new items too")
        elif self.split.cut_valid:
            raise ValueError("split.cut_valid hashes user and item of interactions; remove it here")
        return self

    def _check_interactions(self) -> None:
        if not self.user or not self.item:
            raise ValueError("interactions need user and item, the names of the columns that hold their ids")
        if self.labels or self.group or self.weight:
            raise ValueError("interactions have no labels, group and weight; a rating becomes one by "
                             "interactions.rating and interactions.above")
        by_name = {c.name: c for c in self.columns}
        for side, name in (("user", self.user), ("item", self.item)):
            own = by_name[name]
            if own.side != side or own.min_count > 1 or own.share_with or own.reads_numbers:
                raise ValueError(f"column {name!r}: the {side} of interactions has side={side!r} and a "
                                 "vocabulary of all its values: no min_count, share_with and rule")
            brought = {n for table in self.tables if table.raw == own.raw for n in table.columns}
            for column in self.columns:
                if column.side == side and column.name != name and column.raw not in brought:
                    raise ValueError(f"column {column.name!r} with side={side!r} must come from a [[tables]] "
                                     f"entry whose key is the {side} ({own.raw!r})")
        for column in self.columns:
            if column.share_with and by_name[column.share_with].side != column.side:
                raise ValueError(f"column {column.name!r} shares with {column.share_with!r} of another side; "
                                 "users, items and rows of interactions are encoded apart")

    def raw_id(self, side: Side) -> str:
        """The column of the files that holds the ids of users or items."""
        name = self.user if side == "user" else self.item
        return next(c.raw for c in self.columns if c.name == name)

    def side_columns(self, side: Side) -> tuple[ColumnSpec, ...]:
        """The columns of users or items beside the id, where they stand apart from the rows."""
        own = self.user if side == "user" else self.item
        return tuple(c for c in self.columns if self.interactions and c.side == side and c.name != own)

    @property
    def row_columns(self) -> tuple[ColumnSpec, ...]:
        """The columns that every row holds: all, but of interactions the ids and what is of neither side."""
        apart = (*self.side_columns("user"), *self.side_columns("item"))
        return tuple(c for c in self.columns if c not in apart)

    def _check_tables(self) -> None:
        brought = [(table.files[0], name) for table in self.tables for name in table.columns]
        names, read, keys = [name for _, name in brought], self.raw_columns(), {t.raw for t in self.tables}
        for file, name in brought:
            if names.count(name) > 1:
                raise ValueError(f"two tables bring {name!r}; take it from one of them")
            if name in keys:
                raise ValueError(f"table {file!r} brings {name!r}, by which a table is joined; a key must "
                                 "stand in the main files")
            if name not in read and name not in {c.raw for c in self.columns}:
                raise ValueError(f"table {file!r} brings {name!r}, which nothing uses; name it in a "
                                 "[[columns]] entry or remove it")

    @model_serializer(mode="wrap")
    def _dump(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(dump(self), self, ("tables", "interactions"))

    @classmethod
    def load(cls, path: Path | str) -> DataSpec:
        """Read a schema file; InputError names the file, the setting and near matches."""
        return cls.parse(read_toml(Path(path)), str(path))

    def raw_columns(self, prediction: bool = False, counting: bool = False) -> tuple[str, ...]:
        """The columns that files and side tables must have, each once.

        To predict: the inputs only; for the counting pass: without inputs that learn nothing from it.
        """
        names = [c.raw for c in self.row_columns if c.learns or not counting]
        if not prediction:
            names += [b.raw for b in self.labels] + [self.weight, self.group]
            names += [*self.split.reads, *(self.interactions.reads if self.interactions else ())]
        return tuple(dict.fromkeys(name for name in names if name))
