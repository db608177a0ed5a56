"""Which rows go to which split: rules that give the same rows on every machine and in every version."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_OFFSET, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)


def hash_unit(columns: Sequence[np.ndarray], salt: str = "") -> np.ndarray:
    """A number in [0, 1) for each row, fixed by the text of its key columns and a salt.

    columns: arrays of str, one a key column, all of one length. Definition: 64-bit FNV-1a over the bytes of
    salt 0x1F key_1 0x1F key_2 0x1F ... (UTF-8), then the finaliser of splitmix64, then the upper 53 bits
    divided by 2^53.
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
    text, lengths = _utf8(np.asarray(column, dtype=np.str_))
    for position in range(text.shape[1]):
        inside = position < lengths
        state = np.where(inside, (state ^ text[:, position].astype(np.uint64)) * _PRIME, state)
    return state


def _utf8(column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The UTF-8 bytes [rows, width] of texts, and how many of them count in each row."""
    width = column.dtype.itemsize // 4
    codes: np.ndarray = np.frombuffer(column.tobytes(), np.uint32).reshape(len(column), width)
    if codes.size and codes.max() >= 128:
        column = np.char.encode(column, "utf-8")
        codes = np.frombuffer(column.tobytes(), np.uint8).reshape(len(column), column.dtype.itemsize)
    ends = np.where(codes != 0, np.arange(1, codes.shape[1] + 1), 0)
    return codes, ends.max(1, initial=0)


def by_fractions(unit: np.ndarray, fractions: dict[str, float]) -> np.ndarray:
    """Split name of each row: unit in [0, 1) cut at the running sums of `fractions` (which sum to 1)."""
    names = list(fractions)
    edges = np.cumsum([fractions[n] for n in names])
    return np.asarray(names)[np.searchsorted(edges[:-1], unit, side="right")]


def cut_times(times: np.ndarray, fractions: dict[str, float]) -> list[float]:
    """The first moment of each split after the first: in time order the splits take these shares of the rows.

    Rows of one moment stay together (in the later split), so shares are met as nearly as ties allow.
    """
    if not len(times):
        return []
    ordered = np.sort(times)
    edges = np.cumsum(list(fractions.values()))[:-1]
    places = np.minimum(np.ceil(edges * len(ordered) - 1e-9).astype(np.int64), len(ordered) - 1)
    return [float(moment) for moment in ordered[places]]


def by_time(times: np.ndarray, cuts: Sequence[float]) -> np.ndarray:
    """Number of the split of each row: how many of the rising cuts are at or before its moment."""
    return np.searchsorted(np.asarray(cuts, np.float64), times, side="right")


def by_release(items: np.ndarray, times: np.ndarray, fractions: dict[str, float]) -> np.ndarray:
    """Number of the split of each row, when all rows of an item belong to one: in the order of the first
    moments of the items, the splits take these shares of them. Items of one moment stay together, as of
    `cut_times`. items: codes from 0, each with a row."""
    first = np.full(int(items.max(initial=-1)) + 1, np.inf)
    np.minimum.at(first, items, times)
    return by_time(first, cut_times(first, fractions))[items]


def by_user(users: np.ndarray, times: np.ndarray, last: Sequence[float]) -> np.ndarray:
    """Number of the split of each row: 0 for training, 1, 2, ... for the rows held out of each user.

    users: integer codes; times: moments, ties by row order. last: rows of the splits 1, 2, ... in time order,
    counts (>= 1) or shares of the user's rows (< 1, rounded down); the last split holds the latest rows. A
    user with no more rows than are to be held out keeps all of them in training.
    """
    order = np.lexsort((np.arange(len(users)), times, users))
    sorted_users = users[order]
    starts = np.flatnonzero(np.r_[True, sorted_users[1:] != sorted_users[:-1]])
    sizes = np.diff(np.r_[starts, len(users)])
    from_end = np.repeat(starts + sizes, sizes) - np.arange(len(users))  # 1 for a user's latest row
    held = [np.floor(sizes * k + 1e-9) if k < 1 else np.full(len(sizes), k) for k in last]
    fits = sum(held) < sizes
    split = np.zeros(len(users), np.int64)
    reach = np.zeros(len(sizes))
    for number in range(len(last), 0, -1):
        before, reach = reach, reach + held[number - 1]
        inside = (from_end > np.repeat(before, sizes)) & (from_end <= np.repeat(reach, sizes))
        split[order[inside & np.repeat(fits, sizes)]] = number
    return split


def held_by_hash(users: np.ndarray, unit: np.ndarray, share: float) -> np.ndarray:
    """The rows below a share, unit in [0, 1) of each, but of no user all of them: that with the largest unit
    stays. users: codes from 0; bool [rows]."""
    largest = np.zeros(int(users.max(initial=0)) + 1)
    np.maximum.at(largest, users, unit)
    return (unit < share) & (unit < largest[users])


def by_users(users: np.ndarray, times: np.ndarray, split: np.ndarray, given: np.ndarray,
             share: float) -> np.ndarray:
    """Number of the split of each row, when all rows of a user belong to one split: 0 for training users.

    users: codes from 0; times: moments, ties by row order; split: of each user. Of the n rows of a held-out
    user the first floor(share n), one at least where n > 1, go to given[split] instead.
    """
    order = np.lexsort((np.arange(len(users)), times, users))
    sizes = np.bincount(users, minlength=len(split))
    place = np.empty(len(users), np.int64)
    place[order] = np.arange(len(users)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    known = np.maximum(np.floor(sizes * share + 1e-9), sizes > 1)
    of_row = split[users]
    return np.where((of_row > 0) & (place < known[users]), given[of_row], of_row)
