"""Pretrained vectors of a column's values, brought into the order of its vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import polars as pl

from ..errors import InputError, unknown_name
from .spec import DataSpec
from .values import as_text
from .vocab import FIRST, Vocabulary
from .write import MatrixWriter

FOLDER = "vectors"  # in a prepared folder

_BLOCK = 1 << 14  # rows written together


@dataclass(frozen=True)
class Vectors:
    """keys: values of a column, all different; matrix: their vectors [N, D], which may be mapped from disk.

    join: all keys join the vocabulary, so that values without training rows are known by their vectors; else
    vectors of keys that are not in it are left out.
    InputError names `where` for keys that are missing or double, and for a matrix that does not fit them.
    """

    keys: pl.Series
    matrix: np.ndarray
    where: str
    join: bool = True

    def __post_init__(self) -> None:
        keys = as_text(self.keys, self.where)
        if self.matrix.ndim != 2 or len(self.matrix) != len(keys) or not self.matrix.size:
            raise InputError(
                f"{self.where}: {len(keys)} keys and a matrix {list(self.matrix.shape)}; "
                "give one vector a key, [keys, width]"
            )
        wrong = keys.is_null() | keys.is_duplicated()
        if wrong.any():
            place = wrong.arg_true()[0]
            raise InputError(
                f"{self.where}: key {keys[place]!r} (vector {place + 1}) is missing or double; "
                "give every value one vector"
            )
        object.__setattr__(self, "keys", keys)


def check_columns(vectors: Mapping[str, Vectors], spec: DataSpec) -> None:
    """InputError for vectors of a column that is not there or that has no vocabulary of texts of its own."""
    by_name = {column.name: column for column in spec.columns}
    for name, given in vectors.items():
        if name not in by_name:
            raise unknown_name("column", name, by_name)
        if by_name[name].share_with or by_name[name].reads_numbers:
            owner = by_name[name].share_with
            raise InputError(
                f"{given.where}: column {name!r} has no vocabulary of texts of its own; give the "
                f"vectors to {f'column {owner!r}' if owner else 'a categorical column'}"
            )


def write_rows(vectors: Vectors, column: str, vocabulary: Vocabulary, folder: Path) -> dict[str, Any]:
    """Write the vectors as float32 [V, D] in the order of the ids; values without one, 0 and 1 are zero.

    Returns what prepared.json says of the file. InputError names the key of a vector that is not finite, and
    the file when none of its keys is in the vocabulary.
    """
    source = np.full(len(vocabulary), -1)
    ids = vocabulary.encode(vectors.keys)
    source[ids] = np.arange(len(ids))
    source[:FIRST] = -1
    used = int((source >= 0).sum())
    if not used:
        raise InputError(
            f"{vectors.where}: none of its {len(ids):,} keys (the first is {vectors.keys[0]!r}) is a value "
            f"of column {column!r} in the training rows; give the vectors of that column"
        )
    file = f"{quote(column, safe=' ')}.npy"
    shape = (len(vocabulary), vectors.matrix.shape[1])
    folder.mkdir(exist_ok=True)
    writer = MatrixWriter(folder / file, np.float32, shape)
    for start in range(0, len(source), _BLOCK):
        places = source[start : start + _BLOCK]
        rows = np.zeros((len(places), shape[1]), np.float32)
        rows[places >= 0] = vectors.matrix[places[places >= 0]]
        odd = ~np.isfinite(rows).all(1)
        if odd.any():
            key = vectors.keys[int(places[odd][0])]
            raise InputError(
                f"{vectors.where}: the vector of key {key!r} is not finite; mend it or leave the key out"
            )
        writer.append(rows)
    entry = {"file": file, "keys": used, "sha256": writer.close()}
    return entry if used == len(ids) else {**entry, "left_out": len(ids) - used}


def extend_rows(old: np.ndarray, rows: int, path: Path) -> str:
    """Write rows [V, D] again with zeros behind them, `rows` in all; returns the file's SHA-256."""
    path.parent.mkdir(exist_ok=True)
    writer = MatrixWriter(path, np.float32, (rows, old.shape[1]))
    for start in range(0, len(old), _BLOCK):
        writer.append(np.asarray(old[start : start + _BLOCK]))
    writer.append(np.zeros((rows - len(old), old.shape[1]), np.float32))
    return writer.close()
