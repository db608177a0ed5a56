"""What the columns of users and items say of each, as one set of tokens; and when pairs were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..schema import FIRST, Side
from .store import Prepared

if TYPE_CHECKING:
    from torch import Tensor

    from ..itemlists import ItemLists

# Times are no common clock's when of so many users such a share begins in this share of all times, and there
# are at most so many of these for each row of the user with most.
_USERS, _SHARE, _BEGIN, _SPAN = 20, 0.9, 0.01, 10


def item_tokens(data: Prepared) -> tuple[ItemLists, int]:
    """`tokens_of` items; InputError where they have no column of values beside their id."""
    tokens, width = tokens_of(data, "item")
    if not width:
        raise InputError(f"{data.schema.dataset}: items have no column of values beside their id; name some "
                         'with side = "item" in the schema file, from a [[tables]] entry, and prepare again'
                         + unread(data, "item"))
    return tokens, width


def unread(data: Prepared, side: Side) -> str:
    """What to do about numeric columns of users or items, which are not read as values; "" without any."""
    if not (names := [column.name for column in data.schema.of("numeric", side=side)]):
        return ""
    return (f"; numbers are read in buckets: give {', '.join(names)} kind = \"categorical\" and "
            "rule = \"quantile\"")


def item_vectors(data: Prepared) -> np.ndarray:
    """The vectors that came with the data for items, [I, D]; InputError where there are none."""
    found = data.vectors().get(data.schema.item)
    if found is None:
        raise InputError(f"{data.schema.dataset}: items have no vectors; prepare again with --vectors "
                         f"{data.schema.item}=FILE")
    return found[FIRST:]


def item_numbers(data: Prepared, column: str) -> np.ndarray:
    """A numeric column of items, float32 [I]; InputError where they have none of this name."""
    names = [found.name for found in data.schema.of("numeric", side="item")]
    if column not in names:
        raise InputError(f"{data.schema.dataset}: items have no numeric column {column!r}" + (
            f"; choose one of {names}" if names else ", nor any other; name one in the schema file with "
            'side = "item" and kind = "numeric", from a [[tables]] entry, and prepare again'))
    return np.array(data.side("item").numeric[FIRST:, names.index(column)], np.float32)


def tokens_of(data: Prepared, side: Side) -> tuple[ItemLists, int]:
    """The values that the columns of each user or item hold, lists of them, and how many values there are.

    Values are numbered over all columns of ids, the own id left out (`Schema.side_values`); padding and
    values that training does not know are none. Numeric columns hold no values: `unread`.
    """
    import torch

    from ..itemlists import ItemLists

    told, places = data.side(side), data.schema.of_side(side).id_slices()
    rows, tokens, start = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], 0
    for column in data.schema.side_values(side):
        ids = told.ids[FIRST:, places[column.name]]
        row, at = np.nonzero(ids >= FIRST)
        rows.append(row)
        tokens.append(ids[row, at].astype(np.int64) - FIRST + start)
        start += column.vocab_size - FIRST
    row, token = (torch.from_numpy(np.concatenate(parts)) for parts in (rows, tokens))
    return ItemLists.of(row, token, data.schema.size(side), start), start


def ages(data: Prepared, *names: str) -> Tensor | None:
    """How many pairs of the same user are later, for each pair of `data.lists(*names)`, [n]; None where the
    data hold no times. Pairs of one moment count as rows stand; of a repeated pair the last counts."""
    import torch

    if not _timed(data, names):
        return None
    rows = _moments(data, names)
    user, item, _ = (part[_in_time(*rows)] for part in rows)
    age = np.cumsum(np.bincount(user))[user] - 1 - np.arange(len(user))
    return torch.from_numpy(age[np.lexsort((item, user))])


def check_order(data: Prepared, *names: str) -> None:
    """InputError where these splits hold no times, moments or places in the order of each user."""
    _need_times(data, names, "by which what came later is left out of a history")


def check_times(data: Prepared, *names: str) -> None:
    """InputError where these splits hold no times by which items are in release."""
    _clocked(data, names)


def releases(data: Prepared, *names: str) -> tuple[Tensor, Tensor]:
    """When each pair of `data.lists(*names)` was, [n], and when each item was in a pair first, [I], inf for
    one that never was; float64, in the unit of the data's times. Of a repeated pair the last counts.

    InputError as of `check_times`.
    """
    import torch

    rows = _clocked(data, names)
    first = np.full(data.schema.size("item"), np.inf)
    np.minimum.at(first, rows[1], rows[2])
    user, item, moment = (part[_in_time(*rows)] for part in rows)
    return torch.from_numpy(moment[np.lexsort((item, user))]), torch.from_numpy(first)


def _clocked(data: Prepared, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`_moments`; InputError without times, and where these look like places in each user's own order: whole
    numbers, different for each of a user's rows, not many more of them than rows, and nearly all users begin
    together."""
    _need_times(data, names, "by which items are in release")
    user, _, moment = rows = _moments(data, names)
    counts = np.bincount(user, minlength=data.schema.size("user"))
    span = np.ptp(moment) if len(moment) else 0.0
    if (counts > 0).sum() < _USERS or not 0 < span <= _SPAN * counts.max() or (moment % 1 != 0).any():
        return rows
    ordered = np.lexsort((moment, user))
    begins = np.diff(user[ordered], prepend=-1) > 0
    early = (moment[ordered][begins] <= moment.min() + _BEGIN * span).mean()
    if early >= _SHARE and (begins | (np.diff(moment[ordered], prepend=0) != 0)).all():
        raise InputError(f"{data.schema.dataset}: {early:.0%} of the users begin in the first hundredth of "
                         "all times, as when these are places in each user's own order; what is in release "
                         "is told by one clock for all: prepare again with moments as `time` under "
                         "[interactions]")
    return rows


def _need_times(data: Prepared, names: Sequence[str], why: str) -> None:
    if not _timed(data, names):
        raise InputError(f"{data.schema.dataset}: holds no times, {why}; prepare again with the column of "
                         "times as `time` under [interactions]")


def _timed(data: Prepared, names: Sequence[str]) -> bool:
    return all(data.split(name).time is not None for name in names)


def _moments(data: Prepared, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """User and item, numbered from 0, and time of every row."""
    splits = [data.split(name) for name in names]
    schema = data.schema.of_rows()
    user, item = (np.concatenate([split.ids[:, schema.id_slices()[column].start] for split in splits])
                  .astype(np.int64) - FIRST for column in (data.schema.user, data.schema.item))
    return user, item, np.concatenate([np.asarray(split.time) for split in splits])


def _in_time(user: np.ndarray, item: np.ndarray, moment: np.ndarray) -> np.ndarray:
    """The rows in which a pair is there last, user by user, in time order."""
    order = np.lexsort((np.arange(len(user)), moment, user))
    keys = user[order] * (int(item.max(initial=0)) + 1) + item[order]
    return order[np.sort(len(keys) - 1 - np.unique(keys[::-1], return_index=True)[1])]
