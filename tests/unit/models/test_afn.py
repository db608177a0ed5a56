"""AFN and AFN+ against their equations."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recsys_zoo import create
from recsys_zoo.batch import Inputs
from recsys_zoo.errors import InputError
from recsys_zoo.models.ctr.afn import LogarithmicLayer
from tests import toys

WIDE = {"dim": 4, "init_std": 0.5}


def norm(x: torch.Tensor, layer: nn.BatchNorm1d) -> torch.Tensor:
    """Batch norm of x [B, C, D] in training, per channel over rows and places."""
    mean, var = x.mean((0, 2), keepdim=True), x.var((0, 2), unbiased=False, keepdim=True)
    scaled = (x - mean) / torch.sqrt(var + 1e-5)
    return scaled * layer.weight.view(-1, 1) + layer.bias.view(-1, 1)


def test_hand_example():
    """Orders (1, 2) on the values 2 and 3 give 18, batch norms switched off."""
    layer = LogarithmicLayer(2, 1).double().eval()
    with torch.no_grad():
        layer.orders.weight.copy_(torch.tensor([[1.0, 2.0]]))
    e = torch.tensor([[[2.0], [-3.0]]], dtype=torch.float64)
    # both norms divide by sqrt(1 + 1e-5)
    torch.testing.assert_close(layer(e), torch.tensor([[[18.0]]], dtype=torch.float64), rtol=1e-4, atol=0)


def test_values_below_the_smallest_are_raised_to_it():
    """Order 1 on 0, 1e-7 and 1e-5: all give 1e-5, and only the last could still move."""
    layer = LogarithmicLayer(1, 1).double().eval()
    nn.init.ones_(layer.orders.weight)
    e = torch.tensor([[[0.0, 1e-7, 2e-5]]], dtype=torch.float64, requires_grad=True)
    out = layer(e)
    expected = torch.tensor([[[1e-5], [1e-5], [2e-5]]], dtype=torch.float64)
    torch.testing.assert_close(out, expected, rtol=1e-3, atol=0)  # the norms' 1e-5, times log 1e-5
    out.sum().backward()
    assert (e.grad != 0).tolist() == [[[False, False, True]]]


def test_layer_in_training_equals_the_loops():
    layer = LogarithmicLayer(3, 2).double()
    for part in (layer.log_norm, layer.exp_norm):
        nn.init.normal_(part.weight)
        nn.init.normal_(part.bias)
    e = torch.randn(7, 3, 5, dtype=torch.float64)
    logs = norm(e.abs().log(), layer.log_norm)
    weight = layer.orders.weight
    products = [torch.stack([logs[:, i].exp() ** weight[k, i] for i in range(3)]).prod(0) for k in range(2)]
    expected = norm(torch.stack(products, 1), layer.exp_norm).transpose(1, 2)
    torch.testing.assert_close(layer(e), expected)


def test_layer_stays_in_full_precision_under_autocast():
    layer, e = LogarithmicLayer(3, 20), torch.randn(7, 3, 5)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(e)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, layer(e), rtol=0, atol=0)


def test_model_is_the_mlp_on_the_powers():
    model = create("afn", toys.MIXED, neurons=3, hidden=(6,), embedding=WIDE).eval()
    x = toys.inputs(toys.MIXED, 20)
    h = model.logarithmic(model.embedding(x)).reshape(20, 12)
    first, _, last = model.mlp.layers
    h = (h @ first.weight.T + first.bias).clamp(min=0)
    torch.testing.assert_close(model(x), (h @ last.weight.T + last.bias)[:, 0])


def test_plus_joins_afn_and_a_dnn_of_its_own_vectors():
    plus = create("afn.plus", toys.MIXED, neurons=3, dnn_hidden=(6, 5), embedding=WIDE).eval()
    afn = create("afn", toys.MIXED, neurons=3, embedding=WIDE).eval()
    dnn = create("dnn", toys.MIXED, hidden=(6, 5), embedding=WIDE)
    state = plus.state_dict()
    afn.load_state_dict({k: v for k, v in state.items() if not k.startswith(("dnn", "out"))})
    dnn.embedding.load_state_dict(plus.dnn_embedding.state_dict())
    dnn.mlp.load_state_dict(plus.dnn.state_dict())
    nn.init.constant_(plus.out.bias, 0.3)
    x = toys.inputs(toys.MIXED, 20)
    first, second = plus.out.weight[0]
    torch.testing.assert_close(plus(x), first * afn(x) + second * dnn(x) + 0.3)
    assert not torch.equal(plus.embedding(x), plus.dnn_embedding(x))


def test_permuting_columns_and_orders_changes_nothing():
    schema, order = toys.one_hot_schema(4, 7), [2, 0, 3, 1]
    model, other = (create("afn", schema, neurons=3, embedding=WIDE) for _ in range(2))
    other.load_state_dict(model.state_dict())
    for place, source in enumerate(order):
        other.embedding.load_rows(f"c{place}", model.embedding.matrix(f"c{source}"))
    with torch.no_grad():
        other.logarithmic.orders.weight.copy_(model.logarithmic.orders.weight[:, order])
    x = toys.inputs(schema, 20)
    moved = Inputs(x.ids[:, order], x.numeric, {})
    torch.testing.assert_close(other(moved), model(x), rtol=1e-4, atol=1e-5)  # two batch norms and an exp


def test_parameters_equal_those_of_the_published_runs():
    settings = {"neurons": 1000, "hidden": (400,), "dropout": 0.4, "embedding": {"dim": 10}}
    afn = create("afn", toys.frappe_shape(), **settings)
    plus = create("afn.plus", toys.frappe_shape(), dnn_hidden=(400, 400, 400), dnn_dropout=0.2, **settings)
    assert (afn.num_parameters(), plus.num_parameters()) == (4066711, 4482205)


@pytest.mark.parametrize("setting", ["dropout", "dnn_dropout"])
def test_each_dropout_acts_in_training_only(setting):
    model = create("afn.plus", toys.MIXED, neurons=5, embedding=WIDE, **{setting: 0.5})
    x = toys.inputs(toys.MIXED, 50)
    assert not torch.equal(model(x), model(x))
    assert torch.equal(model.eval()(x), model(x))
    torch.testing.assert_close(model(x.rows(0, 1)), model(x)[:1])


def test_batch_norm_belongs_to_both_mlps():
    model = create("afn.plus", toys.MIXED, batch_norm=True, embedding=WIDE)
    found = [sum(isinstance(m, nn.BatchNorm1d) for m in part.modules()) for part in (model.mlp, model.dnn)]
    assert found == [1, 3]


def test_bad_settings_are_refused():
    with pytest.raises(InputError, match="neurons = 0"):
        create("afn", toys.MIXED, neurons=0)
    with pytest.raises(InputError, match="equal width"):
        create("afn", toys.MIXED, embedding={"dim": 4, "widths": {"user": 6}})
