"""Boards of behaviour sequences: train.csv and test.csv without a validation file, and two ways to have one.

The recipe NAME cuts validation rows from train.csv by a rule that its note states. How many they are is not
published, so the counts of both parts are checked together. NAME_published validates on test.csv, as the
published configurations do: the epoch is then picked on test, and every row of a run says so.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from recsys_zoo.data.spec import ColumnSpec, DataSpec, ReadSpec
from recsys_zoo.errors import InputError

from .criteo_x4 import only, streamed, table, write_all
from .published import compare, find_splits
from .recipe import Expected, Raw, Recipe, Say

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

SPLITS = ("train", "valid", "test")
Held = Callable[["pl.DataFrame"], "np.ndarray"]

_BLOCK = 1 << 20  # rows hashed together


@dataclass(frozen=True)
class Board:
    """One board: its files and columns, and our rule for validation rows."""

    folder: str  # of the unpacked archive
    md5: dict[str, str]  # of train.csv and test.csv
    spec: DataSpec
    keys: tuple[str, ...]  # the columns that decide which rows of train.csv validate
    held: Held  # from these columns: which rows do, bool [rows]
    rule: str  # the same in words
    vectors: dict[str, str] = field(default_factory=dict)  # column -> HDF5 file with its vectors
    first: tuple[str, ...] = ()  # histories of which the first max_len values are kept instead of the last

    @property
    def by_hand(self) -> str:
        """How to get the files, as the end of a sentence."""
        *files, last = (*(f"{name}.csv" for name in self.md5), *self.vectors.values())
        return (
            f"get {self.folder}.zip from https://huggingface.co/datasets/reczoo/{self.folder} and unpack "
            f"{', '.join(files)} and {last} into one folder"
        )


def history(name: str, owner: str, max_len: int, source: str = "") -> ColumnSpec:
    """A column of values joined by ^, oldest first, in the vocabulary of `owner`."""
    return ColumnSpec(
        name=name,
        source=source,
        side="user",
        kind="sequence",
        separator="^",
        max_len=max_len,
        share_with=owner,
    )


def videos(
    folder: str, md5: dict[str, str], columns: tuple[ColumnSpec, ...], vectors: dict[str, str]
) -> Board:
    """A board of clicks on micro-videos, with times.

    Validation rows are the latest of each user, so that no training row shows them in a history.
    """
    return Board(
        folder=folder,
        md5=md5,
        spec=DataSpec(
            dataset=folder.lower(),
            labels=("is_click",),
            group="user_id",
            user="user_id",
            item="item_id",
            columns=columns,
        ),
        keys=("user_id", "timestamp"),
        held=latest(0.05, "user_id", "timestamp"),
        rule="the latest 5 % of each user's rows of train.csv",
        vectors=vectors,
    )


def recipes(
    board: Board,
    title: str,
    terms: str,
    rows: dict[str, int],
    positives: dict[str, int] | None = None,
    table_size: int = 0,
    vectors: dict[str, int] | None = None,
) -> tuple[Recipe, Recipe]:
    """Both recipes of a board.

    rows, positives: of the files train and test; table_size: when all of train.csv trains; vectors: how many,
    by column.
    """
    own, published = {}, {}
    for counts, found in ((rows, "rows"), (positives or {}, "positives")):
        own[found] = {"train+valid" if name == "train" else name: count for name, count in counts.items()}
        published[found] = {name: counts["test" if name == "valid" else name] for name in SPLITS if counts}
    one = Recipe(
        name=board.spec.dataset,
        title=title,
        terms=terms,
        by_hand=board.by_hand,
        sources=(),
        spec=board.spec,
        gather=functools.partial(gather, board, False),
        expected=Expected(**own, vectors=vectors or {}),
    )
    name = f"{one.name}_published"
    return one, dataclasses.replace(
        one,
        name=name,
        title=f"{title}; validated on test.csv, as published",
        spec=board.spec.model_copy(update={"dataset": name}),
        gather=functools.partial(gather, board, True),
        expected=Expected(**published, table_size=table_size, vectors=vectors or {}),
    )


def gather(board: Board, published: bool, raw: Path, scratch: Path, say: Say) -> Raw:
    """The columns of both files that the spec reads, as Parquet, and the vectors."""
    import polars as pl

    from recsys_zoo.data.arrays import read_vectors

    paths = find_splits(raw, board.folder, board.md5)
    if paths is None:
        raise InputError(f"{raw}: has no train.csv and test.csv; {board.by_hand}")
    changed = compare(paths, board.md5, say)
    columns = list(dict.fromkeys([*board.spec.raw_columns(), *board.keys]))
    tables = {name: (path, table(path, columns, ReadSpec(separator=","))) for name, path in paths.items()}
    if published:
        note = f"valid is test.csv: the epoch is picked on test, as in the published runs of {board.folder}"
    else:
        note = f"valid is {board.rule}; {board.folder} has no validation file"
        path, rows = tables["train"]
        held = pl.Series(board.held(_read_keys(path, rows, board, scratch)))
        tables |= {"train": (path, only(rows, ~held)), "valid": (path, only(rows, held))}
    say(note)
    vectors = {
        column: read_vectors(paths["train"].with_name(file), scratch, board.by_hand)
        for column, file in board.vectors.items()
    }
    for found in vectors.values():
        say(f"{found.where}: no checksum published; the number of vectors is checked")
    written = write_all(tables, _fields(board), scratch)
    splits = {name: written.get(name, written["test"]) for name in SPLITS}
    return Raw(splits=splits, note="; ".join(filter(None, (note, changed))), vectors=vectors)


def _fields(board: Board) -> list[pl.Expr]:
    import polars as pl

    fields = {name: pl.col(name) for name in board.spec.raw_columns()}
    for column in board.spec.columns:
        if column.raw in board.first:
            values = pl.col(column.raw).str.split(column.separator).list.head(column.max_len)
            fields[column.raw] = values.list.join(column.separator)
    return list(fields.values())


def _read_keys(path: Path, rows: pl.LazyFrame, board: Board, scratch: Path) -> pl.DataFrame:
    with streamed(path, scratch):
        keys = rows.select(board.keys).collect(engine="streaming")
    for name in board.keys:
        if keys[name].null_count():
            place = keys[name].is_null().arg_true()[0]
            raise InputError(f"{path}: column {name!r}, row {place + 1}: no value; {board.by_hand}")
    return keys


def by_hash(share: float, salt: str, column: str = "") -> Held:
    """Rows held by the hash of a column's text, or of the row number from 0."""

    def held(keys: pl.DataFrame) -> np.ndarray:
        import numpy as np

        from recsys_zoo.data.split import by_fractions, hash_unit

        chosen = np.empty(keys.height, bool)
        for start in range(0, keys.height, _BLOCK):
            rows = np.arange(start, min(start + _BLOCK, keys.height))
            text = keys[column].slice(start, _BLOCK).to_numpy() if column else rows
            unit = hash_unit([text.astype(str)], salt)
            chosen[rows] = by_fractions(unit, {"train": 1 - share, "valid": share}) == "valid"
        return chosen

    return held


def latest(share: float, user: str, time: str) -> Held:
    """The last rows of each user, a share of them rounded down; rows of one moment are in file order."""

    def held(keys: pl.DataFrame) -> np.ndarray:
        import numpy as np

        from recsys_zoo.data.split import by_user
        from recsys_zoo.data.values import Chunk, as_times

        times = as_times(Chunk(keys, "train.csv", np.arange(1, keys.height + 1)), time)
        codes = keys[user].rank("dense").to_numpy()
        return by_user(codes, times, [share]) == 1

    return held
