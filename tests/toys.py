"""Small schemas and inputs with known properties, shared by the tests."""

from __future__ import annotations

import torch
from torch import Tensor

from recsys_zoo.batch import Inputs
from recsys_zoo.itemlists import ItemLists
from recsys_zoo.schema import Column, Schema


def categorical(name: str, vocab_size: int, **more) -> Column:
    return Column(name=name, kind="categorical", vocab_size=vocab_size, **more)


def numeric(name: str) -> Column:
    return Column(name=name, kind="numeric")


def bag(name: str, vocab_size: int, max_len: int, **more) -> Column:
    return Column(name=name, kind="bag", vocab_size=vocab_size, max_len=max_len, **more)


def schema(*columns: Column) -> Schema:
    return Schema(dataset="toy", labels=("click",), columns=columns)


def one_hot_schema(fields: int, vocab_size: int) -> Schema:
    """`fields` categorical columns c0, c1, ... of equal size."""
    return schema(*(categorical(f"c{i}", vocab_size) for i in range(fields)))


def frappe_shape() -> Schema:
    """Ten categorical columns with 5,389 embedding rows in all, the shape of Frappe_x1."""
    sizes = (957, 4077, 8, 8, 3, 4, 3, 10, 81, 238)
    assert sum(sizes) == 5389
    return schema(*(categorical(f"c{i}", size + 1) for i, size in enumerate(sizes)))


MIXED = schema(categorical("user", 12), numeric("price"), bag("tags", 8, 4), categorical("item", 9))


def ranking(users: int, items: int) -> Schema:
    """Users and items as many as given, with their columns."""
    columns = (categorical("user", users + 2), categorical("item", items + 2))
    return Schema(dataset="toy", labels=("click",), columns=columns, user="user", item="item")


def lists(rows: list[list[int]]) -> ItemLists:
    """R as rows of 0 and 1, as lists of items."""
    user, item = torch.tensor(rows).nonzero(as_tuple=True)
    return ItemLists.of(user, item, len(rows), len(rows[0]))


def tokens(items: int) -> tuple[ItemLists, int]:
    """What columns say of items: the remainders of their numbers by 3 and by 4, of 7 values."""
    number = torch.arange(items)
    return ItemLists.of(number.repeat(2), torch.cat([number % 3, 3 + number % 4]), items, 7), 7


def matrix(found: ItemLists, items: int) -> Tensor:
    """R [U, items] in float64."""
    dense = torch.zeros(len(found), items, dtype=torch.float64)
    dense[found.pairs()] = 1
    return dense


def random_lists(users: int, items: int, share: float, seed: int = 0) -> ItemLists:
    """Each pair there with the same chance."""
    g = torch.Generator().manual_seed(seed)
    return lists((torch.rand(users, items, generator=g) < share).int().tolist())


def inputs(columns: Schema, rows: int, seed: int = 0) -> Inputs:
    """Random ids (never padding in categorical columns), normal numerics, bags of 0 to max_len ids."""
    g = torch.Generator().manual_seed(seed)
    ids = [torch.randint(1, c.vocab_size, (rows,), generator=g) for c in columns.of("categorical")]
    bags = {}
    for c in columns.of("bag", "sequence"):
        present = torch.arange(c.max_len) < torch.randint(0, c.max_len + 1, (rows, 1), generator=g)
        bags[c.name] = (torch.randint(1, c.vocab_size, (rows, c.max_len), generator=g) * present).int()
    return Inputs(
        torch.stack(ids, 1).int() if ids else torch.zeros(rows, 0, dtype=torch.int32),
        torch.randn(rows, len(columns.of("numeric")), generator=g),
        bags,
    )


def planted(columns: Schema, rows: int, seed: int = 0) -> tuple[Inputs, Tensor]:
    """Inputs and labels that follow from an effect of each id and number; half of the labels are 1."""
    x = inputs(columns, rows, seed)
    g = torch.Generator().manual_seed(seed + 1)
    score = x.numeric.sum(1)
    for place, column in enumerate(columns.of("categorical")):
        score = score + torch.randn(column.vocab_size, generator=g)[x.ids[:, place].long()]
    for column in columns.of("bag", "sequence"):
        effect = torch.randn(column.vocab_size, generator=g)
        effect[0] = 0.0
        score = score + effect[x.bags[column.name].long()].sum(1)
    return x, (score > score.median()).float()
