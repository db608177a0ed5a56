"""Matrices of known shape written row by row as .npy files, digested on the way."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..schema import FIRST, Schema
from .store import DTYPES, split_shapes


class MatrixWriter:
    """One .npy file: the header first, then rows as they come."""

    def __init__(self, path: Path, dtype: type, shape: tuple[int, ...]) -> None:
        self._file = open(path, "wb")  # noqa: SIM115 - closed by close()
        self._digest = hashlib.sha256()
        self._dtype, self._missing = np.dtype(dtype), shape[0]
        header = io.BytesIO()
        description = {"descr": self._dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(header, description)
        self._put(header.getvalue())

    def append(self, rows: np.ndarray) -> None:
        """Write these rows."""
        self._missing -= len(rows)
        self._put(np.ascontiguousarray(rows, self._dtype).data)

    def close(self) -> str:
        """Finish the file; returns the SHA-256 of its bytes."""
        self._file.close()
        assert self._missing == 0, "rows promised in the header and rows written differ"
        return self._digest.hexdigest()

    def _put(self, content: bytes | memoryview) -> None:
        self._digest.update(content)
        self._file.write(content)


class SplitWriter:
    """The matrices of one split."""

    def __init__(self, folder: Path, schema: Schema, rows: int, more: Sequence[str] = ()) -> None:
        """more: of weight, group and time, what the rows have."""
        folder.mkdir(parents=True)
        self.rows = rows
        shapes = split_shapes(schema, rows)
        self._writers = {name: MatrixWriter(folder / f"{name}.npy", DTYPES[name], shapes[name])
                         for name in ("ids", "numeric", "labels", *more)}

    def append(self, arrays: dict[str, np.ndarray], mask: np.ndarray) -> None:
        """Write the rows where mask is true."""
        if not mask.any():
            return
        for name, writer in self._writers.items():
            writer.append(arrays[name] if mask.all() else arrays[name][mask])

    def close(self) -> dict[str, str]:
        """Finish all files; returns file name -> SHA-256."""
        return {f"{name}.npy": writer.close() for name, writer in self._writers.items()}


def write_side(folder: Path, schema: Schema, ids: np.ndarray, numeric: np.ndarray) -> dict[str, Any]:
    """The rows of users or items from id FIRST on, behind empty rows for padding and unknown; their entry."""
    writer = SplitWriter(folder, schema, len(ids) + FIRST)
    empty = {name: np.zeros((FIRST, array.shape[1])) for name, array in (("ids", ids), ("numeric", numeric))}
    for part in (empty, {"ids": ids, "numeric": numeric}):
        rows = len(part["ids"])
        writer.append({**part, "labels": np.zeros((rows, 0))}, np.ones(rows, bool))
    return {"rows": writer.rows, "files": writer.close()}
