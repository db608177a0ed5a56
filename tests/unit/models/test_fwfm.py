"""FwFM against its equations and its reductions to FM and LR."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recsys_zoo import create
from recsys_zoo.batch import Inputs
from recsys_zoo.errors import InputError
from tests import toys

WIDE = {"dim": 5, "init_std": 0.5}
PAIRS = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]


def test_hand_example():
    """FM's fields (1, 2), (3, -1), (0, 1): products 1, 2, -1; r = (2, -1, 3) and b = 0.5 give -2.5."""
    model = create("fwfm", toys.one_hot_schema(3, 2), linear_type="LW", embedding={"dim": 2})
    for name, vector in (("c0", [1.0, 2.0]), ("c1", [3.0, -1.0]), ("c2", [0.0, 1.0])):
        model.embedding.load_rows(name, torch.tensor([[0.0, 0.0], vector]))
        model.linear.embedding.load_rows(name, torch.zeros(2, 1))
    with torch.no_grad():
        model.pair_weights.copy_(torch.tensor([2.0, -1.0, 3.0]))
        model.bias.fill_(0.5)
    x = Inputs(torch.ones(1, 3, dtype=torch.int32), torch.zeros(1, 0), {})
    assert model(x).item() == pytest.approx(2 * 1 - 1 * 2 + 3 * -1 + 0.5)


@pytest.mark.parametrize("linear_type", ["LW", "FeLV", "FiLV"])
def test_equals_the_double_loop(linear_type):
    model = create("fwfm", toys.MIXED, linear_type=linear_type, embedding=WIDE)
    nn.init.constant_(model.bias, 0.3)
    x = toys.inputs(toys.MIXED, 20)
    e = model.embedding(x)
    pairs = zip(model.pair_weights, PAIRS, strict=True)
    total = 0.3 + sum(r * (e[:, i] * e[:, j]).sum(1) for r, (i, j) in pairs)
    for field in range(4):
        if linear_type == "LW":
            total = total + model.linear.embedding(x)[:, field, 0]
        elif linear_type == "FeLV":
            total = total + (e[:, field] * model.linear(x)[:, field]).sum(1)
        else:
            total = total + e[:, field] @ model.linear.weight[0, 5 * field : 5 * field + 5]
    torch.testing.assert_close(model(x), total)


def test_with_pair_weights_of_one_it_is_fm_and_of_zero_lr():
    model = create("fwfm", toys.MIXED, linear_type="LW", embedding=WIDE)
    fm = create("fm", toys.MIXED, embedding=WIDE)
    fm.embedding.load_state_dict(model.embedding.state_dict())
    fm.linear.load_state_dict({**model.linear.state_dict(), "bias": model.bias.detach()})
    x = toys.inputs(toys.MIXED, 20)
    nn.init.ones_(model.pair_weights)
    torch.testing.assert_close(model(x), fm(x))
    nn.init.zeros_(model.pair_weights)
    torch.testing.assert_close(model(x), fm.linear(x))


def test_permuting_columns_and_pair_weights_changes_nothing():
    schema, order = toys.one_hot_schema(4, 7), [2, 0, 3, 1]
    model, other = (create("fwfm", schema, linear_type="LW", embedding=WIDE) for _ in range(2))
    for place, source in enumerate(order):
        for layer in (lambda m: m.embedding, lambda m: m.linear.embedding):
            layer(other).load_rows(f"c{place}", layer(model).matrix(f"c{source}"))
    moved = [PAIRS.index(tuple(sorted((order[i], order[j])))) for i, j in PAIRS]
    with torch.no_grad():
        other.pair_weights.copy_(model.pair_weights[moved])
    x = toys.inputs(schema, 20)
    torch.testing.assert_close(other(Inputs(x.ids[:, order], x.numeric, {})), model(x))


@pytest.mark.parametrize(("linear_type", "linear"), [("LW", 5389), ("FeLV", 53890), ("FiLV", 100)])
def test_parameters(linear_type, linear):
    """Vectors, 45 pairs, a bias and the linear part on the shape of Frappe_x1."""
    model = create("fwfm", toys.frappe_shape(), linear_type=linear_type, embedding={"dim": 10})
    assert model.num_parameters() == 53890 + 45 + 1 + linear


def test_one_field_has_no_pairs():
    model = create("fwfm", toys.schema(toys.categorical("a", 5)), embedding=WIDE)
    x = toys.inputs(model.schema, 6)
    assert len(model.pair_weights) == 0
    torch.testing.assert_close(model(x), model.embedding(x)[:, 0] @ model.linear.weight[0])


def test_bad_settings_are_refused():
    with pytest.raises(InputError, match="linear_type = 'FILV'"):
        create("fwfm", toys.MIXED, linear_type="FILV")
    with pytest.raises(InputError, match="equal width"):
        create("fwfm", toys.MIXED, embedding={"dim": 4, "widths": {"user": 6}})
