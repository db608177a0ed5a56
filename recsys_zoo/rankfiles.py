"""What a run of a ranking leaves beside its row: places of the test items, and metrics of each user."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .data.store import Prepared
from .evaluation.full_rank import FullRanking
from .files import write_whole
from .schema import Side

if TYPE_CHECKING:
    import polars as pl

RANKS, USERS = "ranks_test.parquet", "users_test.parquet"


def write_ranks(path: Path, found: FullRanking, data: Prepared) -> str:
    """Write every relevant item that was ranked, user by user and from the top, as Parquet.

    Columns: user and item (numbers from 0), above, tied, candidates (metrics/ranking.py), and user_id and
    item_id, the texts of their vocabularies, where the data have a folder. Returns the SHA-256 of user,
    above, tied and candidates, which names the scores in the row.
    """
    ranks, digest = found.ranks, hashlib.sha256()
    user = found.users[ranks.user]
    named = {"user": user, "above": ranks.above, "tied": ranks.tied,
             "candidates": ranks.candidates[ranks.user]}
    arrays = {name: values.cpu().to(torch.int32).numpy() for name, values in named.items()}
    for name, array in arrays.items():
        digest.update(f"{name} {len(array)}\n".encode() + array.tobytes())
    item = found.items.cpu()
    ids = _texts(data, "user", user) | _texts(data, "item", item)
    _write(path, {"user": arrays.pop("user"), "item": item.to(torch.int32).numpy(), **arrays, **ids})
    return digest.hexdigest()


def write_users(path: Path, users: Tensor, values: Mapping[str, Tensor], data: Prepared) -> None:
    """Write the metrics [U] of users [U], whose means the row has, as Parquet: user and user_id as in
    `write_ranks`, then a column a metric."""
    metrics = {name: value.cpu().double().numpy() for name, value in values.items()}
    numbers = users.cpu()
    _write(path, {"user": numbers.to(torch.int32).numpy(), **_texts(data, "user", numbers), **metrics})


def _texts(data: Prepared, side: Side, numbers: Tensor) -> dict[str, pl.Series]:
    """The ids of users or items as their vocabulary has them: canonical texts, as `recommend` gives them."""
    if data.folder is None:
        return {}
    from .data.encode import vocabulary_file
    from .data.vocab import Vocabulary

    column = data.schema.user if side == "user" else data.schema.item
    owner = data.schema.column(column).share_with or column
    values = Vocabulary.open(data.folder / "encoding" / vocabulary_file(owner)).values
    return {f"{side}_id": values.gather(numbers.cpu().numpy())}


def _write(path: Path, columns: dict[str, Any]) -> None:
    import polars as pl

    buffer = io.BytesIO()
    pl.DataFrame(columns).write_parquet(buffer)
    write_whole(path, buffer.getvalue())
