"""What a model that ranks is given of the data beside the pairs: columns, vectors, propensities and times."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from .data.content import (
    ages,
    check_order,
    check_times,
    item_numbers,
    item_tokens,
    item_vectors,
    tokens_of,
    unread,
)
from .data.store import Prepared
from .errors import InputError
from .evaluation import cold
from .models.base import RankingModel
from .nn.embedding import load_vectors
from .tasks.ranking import RankingTask


def check_fits(model: RankingModel, data: Prepared, fits: Iterable[tuple[str, ...]]) -> None:
    """InputError where the splits of a fit lack times that the model asks for."""
    for names in fits:
        if getattr(model, "negatives_from", "") == "released":
            check_times(data, *names)
        if getattr(model.cfg, "past", False):
            check_order(data, *names)


def tell(model: Any, data: Prepared, say: Callable[[str], None]) -> None:
    """Give a new model what the data say of users and items, whoever has them; `say` is told what is used.

    InputError where the data lack it, and for new items that the model cannot tell apart.
    """
    ids = (data.schema.user, data.schema.item)
    if context := [c.name for c in data.schema.columns if c.side == "context" and c.name not in ids]:
        say(f"columns of single rows ({', '.join(context)}): models that rank read those of users and items")
    by_vectors = hasattr(model, "content") and model.content.kind == "vectors"
    if by_vectors:
        model.content.give_vectors(item_vectors(data))
    elif hasattr(model, "content"):
        model.content.give(*item_tokens(data))
        if left := unread(data, "item"):
            say(f"model {model.name}: reads no number of an item{left}")
    elif cold.is_cold(data):
        raise InputError(f"{model.name}: no test item of {data.schema.dataset} is in training, and this "
                         "model knows items by their ids alone, so that its scores of them are chance; "
                         "choose one that reads their columns, such as contentknn")
    if hasattr(model, "told"):
        model.told.hold(tokens_of(data, "user")[0])
    if column := getattr(model.cfg, "propensity", ""):
        theta = torch.from_numpy(item_numbers(data, column))
        if bad := int((~((theta > 0) & (theta <= 1))).sum()):
            raise InputError(f"column {column}: {bad} of {len(theta)} items have no propensity above 0 and "
                             "at most 1 there (a missing one counts as 0); mend them and prepare again")
        model.use_propensities(theta)
        say(f"column {column}: the chances of items to be seen")
    for column, rows in data.vectors().items():
        if by_vectors and column == data.schema.item:
            say(f"column {column}: the content of items is made of the data's vectors")
            continue
        layers = load_vectors(model, column, torch.from_numpy(rows))
        say(f"column {column}: {layers or 'no'} table of this model starts from the data's vectors")


def prepare(model: RankingModel, task: RankingTask, train: tuple[str, ...]) -> None:
    """Let the model take what it needs of the splits it learns from."""
    model.prepare(task.learnt)
    if hasattr(model, "use_ages") and (found := ages(task.data, *train)) is not None:
        model.use_ages(found)
