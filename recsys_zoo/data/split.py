"""Which rows go to which split: rules that give the same rows on every machine and in every version."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_OFFSET, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)


def hash_unit(columns: Sequence[np.ndarray], salt: str = "") -> np.ndarray:
    """A number in [0, 1) for each row, fixed by the text of its key columns and a salt.

    columns: arrays of str, one a key column, all of one length. Definition: 64-bit FNV-1a over the bytes of
    salt 0x1F key_1 0x1F key_2 0x1F ... (UTF-8), then the finaliser of splitmix64, then the upper 53 bits / 2^53.
    No library's hash or random generator takes part, so the rows of a split never move.
    """
    rows = len(columns[0])
    state = np.full(rows, _OFFSET, np.uint64)
    with np.errstate(over="ignore"):
        for byte in salt.encode() + b"\x1f":
            state = (state ^ np.uint64(byte)) * _PRIME
        for column in columns:
            state = _absorb(state, column)
            state = (state ^ np.uint64(0x1F)) * _PRIME
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return (state >> np.uint64(11)).astype(np.float64) / float(1 << 53)


def _absorb(state: np.ndarray, column: np.ndarray) -> np.ndarray:
    """FNV-1a over each row's text; bytes are taken position by position, all rows at once."""
    encoded = np.char.encode(np.asarray(column, dtype=np.str_), "utf-8")
    width = encoded.dtype.itemsize
    if width == 0:
        return state
    text = np.frombuffer(encoded.tobytes(), np.uint8).reshape(len(encoded), width)
    lengths = np.char.str_len(encoded)
    for position in range(width):
        inside = position < lengths
        state = np.where(inside, (state ^ text[:, position].astype(np.uint64)) * _PRIME, state)
    return state


def by_fractions(unit: np.ndarray, fractions: dict[str, float]) -> np.ndarray:
    """Split name of each row: unit in [0, 1) cut at the running sums of `fractions` (which sum to 1)."""
    names = list(fractions)
    edges = np.cumsum([fractions[n] for n in names])
    return np.asarray(names)[np.searchsorted(edges[:-1], unit, side="right")]
