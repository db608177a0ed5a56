"""The unified sparse-feature layer: every model reads its columns through it.

Columns of equal width share one table with offsets inside; row 0 of a table is the padding of all its
columns. Outputs follow the schema's order: a categorical column is one vector, a numeric column
value * vector, a bag or sequence the mean (or sum) of its present ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ..batch import Inputs
from ..config import Frozen, Search
from ..errors import InputError, unknown_name
from ..schema import Column, Schema
from .rowpairs import Rows
from .stores import STORES, DenseStore, StoreConfig
from .table import Table


class EmbeddingConfig(Frozen):
    """Settings of the embedding layer, the same for every model."""

    dim: int = Field(16, ge=1, description="width d of every column without an entry in `widths`")
    init_std: Annotated[float, Search(choices=(1e-4, 1e-2))] = Field(
        1e-4, ge=0, description="standard deviation of the initial rows (FuxiCTR: 1e-4)"
    )
    pooling: Literal["mean", "sum"] = Field("mean", description="how the ids of a bag or sequence are joined")
    widths: dict[str, Annotated[int, Field(ge=1)]] = Field({}, description="width of single columns")
    frozen: tuple[str, ...] = Field((), description="columns whose rows are not trained")
    store: StoreConfig = StoreConfig()


class _Group(nn.Module):
    """The columns that live in one table: their offsets, and where they stand in `Inputs.ids`."""

    offset: Tensor
    values: Tensor
    position: Tensor

    def __init__(
        self,
        dim: int,
        store: str,
        buckets: int,
        owners: list[Column],
        fields: list[tuple[int, Column]],
        std: float,
    ) -> None:
        super().__init__()
        self.store = STORES[store](buckets)
        starts, total = {}, 0
        for column in owners:
            starts[column.name] = total
            total += self.store.size(column.vocab_size - 1)
        self.starts = starts
        self.table = Table(1 + total, dim)
        with torch.no_grad():
            for column in owners:
                first = 1 + starts[column.name]
                values = column.vocab_size - 1
                self.store.initial(self.table.weight[first : first + self.store.size(values)], values, std)
        names = [column.share_with or column.name for _, column in fields]
        self._constant("offset", [starts[name] for name in names])
        self._constant("values", [column.vocab_size - 1 for _, column in fields])
        self._constant("position", [place for place, _ in fields])

    def _constant(self, name: str, values: list[int]) -> None:
        self.register_buffer(name, torch.tensor(values, dtype=torch.int64), persistent=False)

    def read(self, ids: Tensor, offset: Tensor | int, values: Tensor | int) -> Tensor:
        rows = self.store.rows(ids, offset, values)
        vectors = self.table(rows[0])
        return vectors if len(rows) == 1 else vectors * self.table(rows[1])

    def forward(self, ids: Tensor) -> Tensor:
        if len(self.position) != ids.shape[1]:
            ids = ids.index_select(1, self.position)
        return self.read(ids, self.offset, self.values)


class Embedding(nn.Module):
    """Vectors of the columns of a schema.

    `columns` restricts the layer to some columns; `dim` overrides every width (the first-order term uses 1,
    and then `widths` and `frozen` do not apply). InputError for unknown columns in `widths` or `frozen`.
    """

    def __init__(
        self,
        schema: Schema,
        cfg: EmbeddingConfig,
        dim: int | None = None,
        columns: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.schema, self.cfg, self.override = schema, cfg, dim
        known = [c.name for c in schema.columns]
        for name in (*cfg.widths, *cfg.frozen, *(columns or ())):
            if name not in known:
                raise unknown_name("column", name, known)
        for column in (schema.column(name) for name in cfg.frozen):
            if column.kind == "numeric" or column.share_with:
                raise InputError(
                    f"embedding.frozen: {column.name!r} has no rows of its own; "
                    f"{'freeze ' + repr(column.share_with) if column.share_with else 'leave it out'}"
                )
        self.columns = tuple(c for c in schema.columns if columns is None or c.name in columns)
        self.widths = tuple(self._width(c) for c in self.columns)
        self.groups = nn.ModuleDict()
        self.group_of: dict[str, str] = {}
        self._make_groups()
        self.numeric = nn.ParameterDict()
        self._make_numeric()
        self._make_order()

    def _width(self, column: Column) -> int:
        if self.override is not None:
            return self.override
        owner = column.share_with or column.name
        width = self.cfg.widths.get(owner, self.cfg.dim)
        if self.cfg.widths.get(column.name, width) != width:
            raise InputError(
                f"embedding.widths: {column.name!r} shares rows with {owner!r}; give both the same width"
            )
        return width

    def _make_groups(self) -> None:
        fields = [c for c in self.schema.of("categorical")]
        used = {c.share_with or c.name for c in self.columns if c.kind != "numeric"}
        owners: dict[str, list[Column]] = {}
        for column in self.schema.columns:
            if column.name not in used:
                continue
            compressed = self.cfg.store.applies_to(column.vocab_size)
            frozen = self.override is None and column.name in self.cfg.frozen
            key = (
                f"{self.cfg.store.name if compressed else 'dense'}_{self._width(column)}" + "_frozen" * frozen
            )
            owners.setdefault(key, []).append(column)
            self.group_of[column.name] = key
        for column in self.columns:
            if column.share_with:
                self.group_of[column.name] = self.group_of[column.share_with]
        own = {c.name for c in self.columns}
        for key, columns in owners.items():
            store, dim = key.removesuffix("_frozen").rsplit("_", 1)
            places = [(i, c) for i, c in enumerate(fields) if c.name in own and self.group_of[c.name] == key]
            group = _Group(int(dim), store, self.cfg.store.buckets, columns, places, self.cfg.init_std)
            group.table.weight.requires_grad_(not key.endswith("_frozen"))
            self.groups[key] = group

    def _make_numeric(self) -> None:
        self.numeric_places: dict[str, list[int]] = {}
        for place, column in enumerate(self.schema.of("numeric")):
            if column in self.columns:
                self.numeric_places.setdefault(str(self._width(column)), []).append(place)
        for width, places in self.numeric_places.items():
            self.register_buffer(f"numeric_places_{width}", torch.tensor(places), persistent=False)
            self.numeric[width] = nn.Parameter(torch.randn(len(places), int(width)) * self.cfg.init_std)

    def _make_order(self) -> None:
        """Remember how the pieces (tables, numerics, bags) are put into the schema's order."""
        made: list[str] = []
        names = [c.name for c in self.columns]
        categorical, numeric = self.schema.of("categorical"), self.schema.of("numeric")
        for group in self.groups.values():
            made += [categorical[i].name for i in group.position.tolist()]
        for places in self.numeric_places.values():
            made += [numeric[i].name for i in places]
        made += [c.name for c in self.columns if c.kind in ("bag", "sequence")]
        self.order = [made.index(name) for name in names]
        self.ordered = self.order == list(range(len(made)))
        self.register_buffer("order_index", torch.tensor(self.order), persistent=False)

    @property
    def num_fields(self) -> int:
        """F: categorical, numeric and pooled columns together."""
        return len(self.columns)

    @property
    def dim(self) -> int:
        """D, the common width; InputError when the columns have several."""
        if len(set(self.widths)) != 1:
            raise InputError(
                f"embedding.widths: this model needs columns of equal width, got {sorted(set(self.widths))}"
            )
        return self.widths[0]

    @property
    def flat_dim(self) -> int:
        """Sum of all widths."""
        return sum(self.widths)

    def _pieces(self, x: Inputs) -> list[Tensor]:
        """Tensors [B, f, D]: one a table, one a width of numeric columns, one a bag."""
        pieces = [group(x.ids) for group in self.groups.values() if len(group.position)]
        for width, places in self.numeric_places.items():
            values = x.numeric
            if len(places) < values.shape[1]:
                values = values.index_select(1, getattr(self, f"numeric_places_{width}"))
            pieces.append(values.unsqueeze(-1) * self.numeric[width])
        pieces += [self._pool(x, c).unsqueeze(1) for c in self.columns if c.kind in ("bag", "sequence")]
        return pieces

    def _pool(self, x: Inputs, column: Column) -> Tensor:
        vectors, mask = self.bag(x, column.name)  # padding reads the zero row, so the sum needs no mask
        total = vectors.sum(1)
        if self.cfg.pooling == "sum":
            return total
        return total / mask.sum(1, keepdim=True).clamp(min=1).to(total.dtype)

    def forward(self, x: Inputs) -> Tensor:
        """[B, F, D] in schema order; needs equal widths."""
        pieces = self._pieces(x)
        e = pieces[0] if len(pieces) == 1 else torch.cat(pieces, 1)
        return e if self.ordered else e.index_select(1, self.order_index)

    def flat(self, x: Inputs) -> Tensor:
        """[B, sum of widths] in schema order; widths may differ."""
        if len(set(self.widths)) == 1:
            return self(x).flatten(1)
        vectors = [vector for piece in self._pieces(x) for vector in piece.unbind(1)]
        return torch.cat([vectors[i] for i in self.order], 1)

    def bag(self, x: Inputs, name: str) -> tuple[Tensor, Tensor]:
        """Unpooled vectors [B, L, D] of a bag or sequence, and its mask [B, L] (True where an id is
        present)."""
        ids = x.bags[name]
        return self.rows(name, ids), ids != 0

    def rows(self, column: str, ids: Tensor) -> Tensor:
        """Vectors [..., D] of ids of one column's vocabulary."""
        group = self._group(column)
        owner = self.schema.column(column).share_with or column
        return group.read(ids, group.starts[owner], self.schema.column(owner).vocab_size - 1)

    def matrix(self, column: str) -> Tensor:
        """All vectors [V, D] of one vocabulary, row 0 = padding; raises in training with a taped table."""
        group = self._group(column)
        group.table.whole()
        return self.rows(
            column, torch.arange(self.schema.column(column).vocab_size, device=group.offset.device)
        )

    def table_of(self, column: str) -> tuple[Tensor, int]:
        """A table [R, D] with all vectors of one vocabulary, and how far the row of an id lies behind the id.

        The weight itself where a value has a row of its own, and else as `matrix`; raises as that does. The
        row of id 0 is then another's, or must not be read: padding has no gradient.
        """
        group = self._group(column)
        if type(group.store) is not DenseStore:
            return self.matrix(column), 0
        return group.table.whole(), self._start(column)

    def recording(self, column: str) -> Rows | None:
        """The table that reads of a column are taped in, where a value has a row of its own; else None."""
        group = self._group(column)
        if type(group.store) is not DenseStore or not group.table.recording:
            return None
        return Rows(group.table, self._start(column))

    def _start(self, column: str) -> int:
        """How far the rows of a column lie behind its ids, where each id has a row."""
        return self._group(column).starts[self.schema.column(column).share_with or column]

    def _group(self, column: str) -> _Group:
        if column not in self.group_of:
            raise unknown_name("column with an embedding", column, self.group_of)
        return self.groups[self.group_of[column]]

    @torch.no_grad()
    def load_rows(self, column: str, values: Tensor) -> None:
        """Put pretrained vectors [V, D] in place of a column's rows (row 0 is ignored: padding stays
        zero)."""
        group = self._group(column)
        owner = self.schema.column(self.schema.column(column).share_with or column)
        expected = (owner.vocab_size, group.table.weight.shape[1])
        if tuple(values.shape) != expected:
            raise InputError(
                f"pretrained rows of {column!r} have shape {tuple(values.shape)}, the table needs {expected}"
            )
        if self.group_of[owner.name].split("_")[0] != "dense":
            raise InputError(
                f"column {column!r} has a {self.cfg.store.name} store; pretrained rows need a dense one"
            )
        first = 1 + group.starts[owner.name]
        group.table.weight[first : first + owner.vocab_size - 1].copy_(values[1:])

    def tables(self) -> list[Table]:
        """The tables, frozen ones included."""
        return [group.table for group in self.groups.values()]

    @torch.no_grad()
    def bake(self) -> Embedding:
        """An equal layer with dense tables: what is counted, exported and served."""
        with torch.random.fork_rng(devices=[]):  # its initial rows are overwritten
            dense = Embedding(
                self.schema,
                self.cfg.model_copy(update={"store": StoreConfig()}),
                self.override,
                [c.name for c in self.columns],
            )
        for column in self.schema.columns:
            if column.name in self.group_of and not column.share_with:
                dense.load_rows(column.name, self.matrix(column.name))
        for width, values in self.numeric.items():
            dense.numeric[width].copy_(values)
        return dense.to(next(self.parameters()).device).train(self.training)


def load_vectors(model: nn.Module, column: str, values: Tensor) -> int:
    """Put pretrained vectors [V, D] into every embedding of a model that reads a column; returns how many do.

    First-order weights (width 1) are left as they are. InputError when a model's rows have another width.
    """
    layers = [m for m in model.modules() if isinstance(m, Embedding) and m.override is None]
    layers = [layer for layer in layers if column in layer.group_of]
    for layer in layers:
        width = layer._group(column).table.weight.shape[1]
        if width != values.shape[1]:
            raise InputError(
                f"the data have vectors of width {values.shape[1]} for column {column!r}, the model's "
                f"rows have {width}; set embedding.dim or .widths, or take a model with one vector a value"
            )
        layer.load_rows(column, values)
    return len(layers)


class FirstOrder(nn.Module):
    """Linear term b + sum_i w_{x_i} (numeric columns: weight * value), by an embedding of width 1."""

    def __init__(self, schema: Schema, cfg: EmbeddingConfig, bias: bool = True) -> None:
        super().__init__()
        self.embedding = Embedding(schema, cfg, dim=1)
        self.bias = nn.Parameter(torch.zeros(1)) if bias else None

    def forward(self, x: Inputs) -> Tensor:
        """Logits [B]."""
        total = self.embedding.flat(x).sum(1)
        return total if self.bias is None else total + self.bias
