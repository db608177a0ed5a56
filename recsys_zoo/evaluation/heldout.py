"""Users who are held out of training: ranked by a given part of their items, tested on the others.

Strong generalisation, as Liang et al. (WWW 2018) measure it. Beside the rows that are asked, in the split
NAME, such data have the given ones in NAME_given. A model learns from the users of training alone: it is
built for these, who have the first numbers, and meets the others as lists of items (`score_lists`).
"""

from __future__ import annotations

import torch

from ..data.splitspec import given_of
from ..data.store import Prepared
from ..errors import InputError
from ..itemlists import ItemLists
from ..schema import FIRST, Schema

KS = (20, 50, 100)
MAIN = "ndcg@100"
SPLITS = ("valid", "test")


def holds_out(data: Prepared) -> bool:
    """Whether they are interactions with users who are held out of training."""
    return data.schema.interactions and any(given_of(name) in data.names for name in SPLITS)


def schema_of(data: Prepared) -> Schema:
    """What models are built for: where users are held out, those of training alone."""
    if not holds_out(data):
        return data.schema
    sized = {data.schema.user: FIRST + known_users(data)}
    columns = tuple(c.model_copy(update={"vocab_size": sized.get(c.name, c.vocab_size)})
                    for c in data.schema.columns)
    return data.schema.model_copy(update={"columns": columns})


def known_users(data: Prepared) -> int:
    """How many users training has: the first numbers."""
    place = data.schema.of_rows().id_slices()[data.schema.user].start
    return int(data.split("train").ids[:, place].max(initial=FIRST - 1)) - FIRST + 1


def learnt(data: Prepared, *splits: str) -> ItemLists:
    """The items of the users for whom models are built, in these splits together."""
    lists = data.lists(*splits)
    return lists.rows(torch.arange(known_users(data))) if holds_out(data) else lists


def check(data: Prepared) -> None:
    """InputError unless of every user who is asked some items are given, and none is a training row."""
    known, name = known_users(data), data.schema.dataset
    for split in SPLITS:
        given, asked = data.lists(given_of(split)), data.lists(split)
        if bool(given.counts[:known].any()) or bool(asked.counts[:known].any()):
            raise InputError(f"{name}: a user of {split!r} has a row in train, or a smaller number than "
                             "somebody who has; divide the data by split.method='users'")
        if bool((asked.counts[given.counts == 0] > 0).any()):
            raise InputError(f"{name}: of a user of {split!r} nothing is given; leave out users with a "
                             "single item: interactions.user_core=2")
