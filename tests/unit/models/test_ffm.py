"""FFM against its equation and its reductions to FM and LR."""

from __future__ import annotations

import pytest
import torch

from recsys_zoo import create
from recsys_zoo.batch import Inputs
from recsys_zoo.errors import InputError
from tests import toys

WIDE = {"dim": 3, "init_std": 0.5}


def towards(model, x: Inputs, i: int, j: int) -> torch.Tensor:
    """v_{i,j} [B, 3]: block j of field i's row, field i itself left out."""
    block = j if j < i else j - 1
    return model.embedding(x)[:, i, 3 * block : 3 * block + 3]


def test_hand_example():
    """Width 1, rows (2, 3), (5, 7), (11, 13): v01 v10 + v02 v20 + v12 v21 = 2*5 + 3*11 + 7*13 = 134."""
    model = create("ffm", toys.one_hot_schema(3, 2), embedding={"dim": 1})
    for name, vector in (("c0", [2.0, 3.0]), ("c1", [5.0, 7.0]), ("c2", [11.0, 13.0])):
        model.embedding.load_rows(name, torch.tensor([[0.0, 0.0], vector]))
        model.linear.embedding.load_rows(name, torch.zeros(2, 1))
    x = Inputs(torch.ones(1, 3, dtype=torch.int32), torch.zeros(1, 0), {})
    assert model(x).item() == pytest.approx(134.0)


def test_equals_the_double_loop():
    model = create("ffm", toys.MIXED, embedding=WIDE)
    x = toys.inputs(toys.MIXED, 20)
    total = model.linear(x)
    for i in range(4):
        for j in range(i + 1, 4):
            total = total + (towards(model, x, i, j) * towards(model, x, j, i)).sum(1)
    torch.testing.assert_close(model(x), total)


def test_with_equal_vectors_it_is_fm_and_without_vectors_lr():
    model, fm = create("ffm", toys.MIXED, embedding=WIDE), create("fm", toys.MIXED, embedding=WIDE)
    fm.linear.load_state_dict(model.linear.state_dict())
    with torch.no_grad():
        for wide, narrow in zip(model.embedding.parameters(), fm.embedding.parameters(), strict=True):
            wide.copy_(narrow.repeat(1, 3))
    x = toys.inputs(toys.MIXED, 20)
    torch.testing.assert_close(model(x), fm(x), rtol=1e-5, atol=1e-5)  # FM takes squares of sums
    for parameter in model.embedding.parameters():
        torch.nn.init.zeros_(parameter)
    torch.testing.assert_close(model(x), fm.linear(x))


def test_permuting_columns_and_blocks_changes_nothing():
    schema, order = toys.one_hot_schema(4, 7), [2, 0, 3, 1]
    model, other = (create("ffm", schema, embedding=WIDE) for _ in range(2))
    for place, source in enumerate(order):
        blocks = dict(zip([j for j in range(4) if j != source], range(3), strict=True))
        rows = model.embedding.matrix(f"c{source}").view(7, 3, 3)
        rows = rows[:, [blocks[j] for j in order if j != source]].flatten(1)
        other.embedding.load_rows(f"c{place}", rows)
        other.linear.embedding.load_rows(f"c{place}", model.linear.embedding.matrix(f"c{source}"))
    x = toys.inputs(schema, 20)
    torch.testing.assert_close(other(Inputs(x.ids[:, order], x.numeric, {})), model(x))


def test_parameters():
    """n (F - 1) d vectors, n weights and a bias on the shape of Frappe_x1."""
    model = create("ffm", toys.frappe_shape(), embedding={"dim": 2})
    assert model.num_parameters() == 5389 * 9 * 2 + 5389 + 1


def test_frozen_columns_stay_frozen():
    model = create("ffm", toys.MIXED, embedding={**WIDE, "frozen": ["user"]})
    model(toys.inputs(toys.MIXED, 9)).sum().backward()
    tables = {key: table.weight.grad for key, table in _tables(model)}
    assert tables["dense_9_frozen"] is None
    assert tables["dense_9"].any()


def _tables(model):
    return [(key, group.table) for key, group in model.embedding.groups.items()]


def test_one_field_has_no_pairs():
    model = create("ffm", toys.schema(toys.categorical("a", 5)), embedding=WIDE)
    x = toys.inputs(model.schema, 6)
    assert model.embedding is None
    torch.testing.assert_close(model(x), model.linear(x))


def test_unequal_widths_are_refused():
    with pytest.raises(InputError, match="equal width"):
        create("ffm", toys.MIXED, embedding={"dim": 4, "widths": {"user": 6}})
