"""IPNN against its equation and its reductions to DNN and FM."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recsys_zoo import create
from recsys_zoo.batch import Inputs
from recsys_zoo.errors import InputError
from recsys_zoo.nn.interaction import pair_sum
from tests import toys

WIDE = {"dim": 5, "init_std": 0.5}


def test_hand_example():
    """Fields (1, 2), (3, -1), (0, 1): the MLP reads 1, 2, 3, -1, 0, 1 and the products 1, 2, -1."""
    model = create("ipnn", toys.one_hot_schema(3, 2), hidden=(), embedding={"dim": 2})
    for name, vector in (("c0", [1.0, 2.0]), ("c1", [3.0, -1.0]), ("c2", [0.0, 1.0])):
        model.embedding.load_rows(name, torch.tensor([[0.0, 0.0], vector]))
    x = Inputs(torch.ones(1, 3, dtype=torch.int32), torch.zeros(1, 0), {})
    (layer,) = model.mlp.layers
    read = []
    for place in range(9):
        nn.init.zeros_(layer.weight)
        with torch.no_grad():
            layer.weight[0, place] = 1.0
        read.append(model(x).item())
    assert read == [1.0, 2.0, 3.0, -1.0, 0.0, 1.0, 1.0, 2.0, -1.0]


def test_equals_the_double_loop():
    model = create("ipnn", toys.MIXED, hidden=(6,), embedding=WIDE)
    x = toys.inputs(toys.MIXED, 20)
    e = model.embedding(x)
    products = [(e[:, i] * e[:, j]).sum(1) for i in range(4) for j in range(i + 1, 4)]
    first, _, last = model.mlp.layers
    nn.init.normal_(first.bias)
    h = torch.cat([*(e[:, i] for i in range(4)), torch.stack(products, 1)], 1)
    h = (h @ first.weight.T + first.bias).clamp(min=0)
    torch.testing.assert_close(model(x), (h @ last.weight.T + last.bias)[:, 0])


def test_that_does_not_read_the_products_is_dnn_and_that_sums_them_fm_without_weights():
    model = create("ipnn", toys.MIXED, hidden=(6,), embedding=WIDE)
    dnn = create("dnn", toys.MIXED, hidden=(6,), embedding=WIDE)
    with torch.no_grad():
        model.mlp.layers[0].weight[:, 20:] = 0.0
        state = model.state_dict()
        state["mlp.layers.0.weight"] = state["mlp.layers.0.weight"][:, :20]
    dnn.load_state_dict(state)
    x = toys.inputs(toys.MIXED, 20)
    torch.testing.assert_close(model(x), dnn(x))
    flat = create("ipnn", toys.MIXED, hidden=(), embedding=WIDE)
    with torch.no_grad():
        flat.mlp.layers[0].weight.copy_(torch.cat([torch.zeros(1, 20), torch.ones(1, 6)], 1))
    expected = pair_sum(flat.embedding(x))
    torch.testing.assert_close(flat(x), expected, rtol=1e-5, atol=1e-5)  # squares of sums


def test_parameters_equal_those_of_the_published_run():
    model = create("ipnn", toys.frappe_shape(), dropout=0.3, embedding={"dim": 10})
    assert model.num_parameters() == 433491


def test_dropout_acts_in_training_only():
    model = create("ipnn", toys.MIXED, hidden=(6,), dropout=0.5, embedding=WIDE)
    x = toys.inputs(toys.MIXED, 50)
    assert not torch.equal(model(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


def test_one_field_leaves_dnn():
    model = create("ipnn", toys.schema(toys.categorical("a", 5)), hidden=(3,), embedding=WIDE)
    x = toys.inputs(model.schema, 6)
    torch.testing.assert_close(model(x), model.mlp(model.embedding.flat(x))[:, 0])


def test_bad_settings_are_refused():
    with pytest.raises(InputError, match="equal width"):
        create("ipnn", toys.MIXED, embedding={"dim": 4, "widths": {"user": 6}})
    with pytest.raises(InputError, match="hidden"):
        create("ipnn", toys.MIXED, hidden=(0,))
