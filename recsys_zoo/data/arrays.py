"""Vectors in files: two data sets, keys [N] and vectors [N, D], of an HDF5 or .npz file."""

from __future__ import annotations

import contextlib
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ..errors import InputError
from ..files import disk_errors
from .vectors import Vectors

NAMES = ("key", "value")  # of the data sets, as FuxiCTR calls them
_FORM = "write it as COLUMN=FILE or COLUMN=FILE:KEYS:VECTORS, for example item=vectors.h5:ids:emb"
# What numpy, zipfile and h5py raise on files with other bytes than were written.
_DAMAGED = (
    *(OSError, EOFError, ValueError, TypeError, KeyError, RuntimeError, MemoryError),
    *(zlib.error, zipfile.BadZipFile, tokenize.TokenError),
)
_BLOCK = 1 << 16  # vectors copied together


@contextlib.contextmanager
def named_vectors(entries: Sequence[str], out: Path) -> Iterator[dict[str, Vectors]]:
    """The vectors of COLUMN=FILE[:KEYS:VECTORS], by column, for a preparation of `out`.

    Keys that no training row has are no values. Copies of large files lie beside `out` until the end.
    InputError for an entry of another form, a column named twice, and see `read_vectors`.
    """
    if not entries:
        yield {}
        return
    with disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(prefix=f".{out.name}.vectors.", dir=out.parent)
    with scratch:
        found: dict[str, Vectors] = {}
        for entry in entries:
            column, _, rest = entry.partition("=")
            file, *names = rest.split(":")
            if not column or not file or len(names) not in (0, 2) or not all(names):
                raise InputError(f"--vectors {entry}: {_FORM}")
            if column in found:
                raise InputError(f"--vectors {entry}: column {column!r} has vectors already; leave one out")
            folder = Path(scratch.name, str(len(found)))
            folder.mkdir()
            hint = f"--vectors takes {column}=FILE or {column}=FILE:KEYS:VECTORS"
            found[column] = read_vectors(Path(file), folder, hint, tuple(names) or NAMES, join=False)
        yield found


def read_vectors(
    path: Path, scratch: Path, hint: str, names: Sequence[str] = NAMES, join: bool = True
) -> Vectors:
    """The vectors of a file as float32; keys are whole numbers or texts.

    Those of HDF5 are copied into `scratch` and mapped, so that memory stays bounded; an .npz is held whole.
    join: see `Vectors`. InputError, which ends in `hint` where the file is not what it should be, when it is
    missing, damaged or of another form, and without h5py.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; {hint}")
    read = _npz if path.suffix.lower() == ".npz" else _hdf5
    try:
        with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite, which is refused later
            keys, matrix = read(path, scratch, names)
    except _AnotherForm as error:
        raise InputError(f"{path}: {error}; {hint}") from None
    except _DAMAGED as error:
        if isinstance(error, InputError):
            raise
        kind = "an .npz file" if read is _npz else "HDF5"
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: damaged, or not {kind} ({reason}); {hint}") from None
    return Vectors(pl.Series(keys), matrix, str(path), join)


class _AnotherForm(Exception):
    pass


def _hdf5(path: Path, scratch: Path, names: Sequence[str]) -> tuple[Any, np.ndarray]:
    try:
        import h5py
    except ImportError:
        raise InputError(f"{path}: HDF5 files need h5py: pip install 'recsys-zoo[hdf5]'") from None
    with h5py.File(path, "r") as file:
        keys, values = _both(file, [n for n in names if isinstance(file.get(n), h5py.Dataset)], names)
        texts = h5py.check_string_dtype(keys.dtype) is not None
        _check(keys, values, texts)
        matrix = np.lib.format.open_memmap(scratch / f"{path.stem}.npy", "w+", np.float32, values.shape)
        for start in range(0, len(matrix), _BLOCK):
            matrix[start : start + _BLOCK] = values[start : start + _BLOCK]
        return keys.asstr("utf-8")[...].tolist() if texts else keys[...], matrix


def _npz(path: Path, scratch: Path, names: Sequence[str]) -> tuple[Any, np.ndarray]:
    with open(path, "rb") as file:
        arrays = np.load(file, allow_pickle=False)
        if isinstance(arrays, np.ndarray):
            raise _AnotherForm("is a single array; save keys and vectors by numpy.savez")
        keys, values = _both(arrays, [name for name in names if name in arrays], names)
        if keys.dtype.kind == "S":
            keys = np.char.decode(keys, "utf-8")
        _check(keys, values, keys.dtype.kind == "U")
        return keys, values.astype(np.float32, copy=False)


def _both(file: Any, present: list[str], names: Sequence[str]) -> tuple[Any, Any]:
    missing = [name for name in names if name not in present]
    if missing:
        raise _AnotherForm(f"has no data set {missing[0]!r} beside {sorted(file)}")
    keys, values = names
    return file[keys], file[values]


def _check(keys: Any, values: Any, texts: bool) -> None:
    known = texts or keys.dtype.kind in "iu"
    if len(keys.shape) != 1 or len(values.shape) != 2 or 0 in values.shape or not known:
        raise _AnotherForm(
            f"keys {keys.dtype} {list(keys.shape)}, vectors {list(values.shape)}; whole numbers or texts [N] "
            "and vectors [N, D] were expected"
        )
    if values.dtype.kind not in "fiu":
        raise _AnotherForm(f"vectors of type {values.dtype}; numbers were expected")
