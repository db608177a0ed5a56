"""Vectors in HDF5 files, as FuxiCTR reads them: data sets `key` [N] and `value` [N, D]."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from recsys_zoo.errors import InputError

if TYPE_CHECKING:
    from recsys_zoo.data.vectors import Vectors

_BLOCK = 1 << 16  # vectors copied together


def read_vectors(path: Path, scratch: Path, by_hand: str) -> Vectors:
    """The vectors of a file as float32, copied into `scratch` and mapped, so that memory stays bounded.

    InputError when the file is missing, damaged or of another form, and without h5py.
    """
    import numpy as np
    import polars as pl

    from recsys_zoo.data.vectors import Vectors

    try:
        import h5py
    except ImportError:
        raise InputError(f"{path}: HDF5 files need h5py: pip install 'recsys-zoo[hdf5]'") from None
    if not path.is_file():
        raise InputError(f"{path}: no such file; {by_hand}")
    try:
        with h5py.File(path, "r") as file:
            missing = [name for name in ("key", "value") if not isinstance(file.get(name), h5py.Dataset)]
            if missing:
                raise InputError(f"{path}: has no data set {missing[0]!r} beside {sorted(file)}; {by_hand}")
            keys, values = file["key"][...], file["value"]
            if keys.ndim != 1 or values.ndim != 2 or 0 in values.shape or keys.dtype.kind not in "iu":
                shapes = f"key {keys.dtype} {list(keys.shape)}, value {list(values.shape)}"
                raise InputError(
                    f"{path}: {shapes}; whole numbers [N] and vectors [N, D] were expected; {by_hand}"
                )
            matrix = np.lib.format.open_memmap(scratch / f"{path.stem}.npy", "w+", np.float32, values.shape)
            for start in range(0, len(matrix), _BLOCK):
                matrix[start : start + _BLOCK] = values[start : start + _BLOCK]
    except OSError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: damaged, or not HDF5 ({reason}); {by_hand}") from None
    return Vectors(pl.Series(keys), matrix, str(path))
