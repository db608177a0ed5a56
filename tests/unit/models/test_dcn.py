"""DCN and CrossNet against their equations, and as a case of DCN-V2."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recsys_zoo import create
from recsys_zoo.errors import InputError
from recsys_zoo.models.ctr.dcn import CrossLayer
from tests import toys

WIDE = {"dim": 4, "init_std": 0.5}


def crossed(layers, x0: torch.Tensor) -> torch.Tensor:
    x = x0
    for layer in layers:
        x = layer(x0, x)
    return x


def test_hand_example():
    """x0 = (1, 2), w = (.5, .25), b = (.1, 0): w.x0 = 1, (1, 2) + (.1, 0) + (1, 2) = (2.1, 4)."""
    layer, x0 = CrossLayer(2), torch.tensor([[1.0, 2.0]])
    with torch.no_grad():
        layer.weight.weight.copy_(torch.tensor([[0.5, 0.25]]))
        layer.bias.copy_(torch.tensor([0.1, 0.0]))
    torch.testing.assert_close(layer(x0, x0), torch.tensor([[2.1, 4.0]]))


@pytest.mark.parametrize("hidden", [(), (6, 3)])
def test_equals_the_recursion(hidden):
    model = create("dcn", toys.MIXED, layers=3, hidden=hidden, embedding=WIDE)
    x = toys.inputs(toys.MIXED, 20)
    x0 = h = model.embedding.flat(x)
    for layer in model.cross:
        nn.init.normal_(layer.bias)
        weight = layer.weight.weight[0]
        h = torch.stack([x0[:, i] * (h @ weight) + layer.bias[i] + h[:, i] for i in range(16)], 1)
    if hidden:
        deep = x0
        for layer in (model.mlp.layers[0], model.mlp.layers[2]):
            nn.init.normal_(layer.bias)
            deep = (deep @ layer.weight.T + layer.bias).clamp(min=0)
        h = torch.cat([h, deep], 1)
    torch.testing.assert_close(model(x), h @ model.out.weight[0] + model.out.bias)


def test_is_dcnv2_with_equal_rows():
    """W_l of DCN-V2 with all rows w_l, both without bias."""
    model = create("dcn.crossnet", toys.MIXED, layers=2, embedding=WIDE)
    other = create("dcnv2.crossnet", toys.MIXED, layers=2, embedding=WIDE)
    other.embedding.load_state_dict(model.embedding.state_dict())
    other.out.load_state_dict(model.out.state_dict())
    with torch.no_grad():
        for ours, theirs in zip(model.cross, other.cross.layers, strict=True):
            theirs.weight.copy_(ours.weight.weight.expand(16, 16))
    x = toys.inputs(toys.MIXED, 20)
    torch.testing.assert_close(model(x), other(x))


def test_without_biases_the_crosses_are_multiples_of_x0():
    layers = nn.ModuleList(CrossLayer(5).double() for _ in range(3))
    x0 = torch.randn(7, 5, dtype=torch.float64)
    ratio = crossed(layers, x0) / x0
    torch.testing.assert_close(ratio, ratio[:, :1].expand(7, 5))


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_crosses_are_a_polynomial_of_degree_layers_plus_1(layers):
    """The (layers + 2)-th difference of t -> cross(t x) vanishes, the one before does not."""
    cross = nn.ModuleList(CrossLayer(4).double() for _ in range(layers))
    for layer in cross:
        nn.init.normal_(layer.bias)
    times = torch.arange(layers + 4, dtype=torch.float64).unsqueeze(1)
    values = crossed(cross, times * torch.randn(1, 4, dtype=torch.float64))
    for _ in range(layers + 1):
        values = values.diff(dim=0)
    assert values.abs().min() > 1e-6
    # rounding of values up to 1e4, ten times added up
    torch.testing.assert_close(values.diff(dim=0), torch.zeros(2, 4, dtype=torch.float64), rtol=0, atol=1e-8)


def test_without_weights_it_is_linear_in_the_vectors():
    model = create("dcn.crossnet", toys.MIXED, embedding=WIDE)
    for layer in model.cross:
        nn.init.zeros_(layer.weight.weight)
    x = toys.inputs(toys.MIXED, 20)
    torch.testing.assert_close(model(x), model.embedding.flat(x) @ model.out.weight[0] + model.out.bias)


def test_parameters_equal_those_of_the_published_runs():
    """The crosses have 2 L F d; DCN has an MLP with batch norm beside them."""
    shape, dim = toys.frappe_shape(), {"dim": 10}
    deep = create("dcn", shape, layers=3, batch_norm=True, dropout=0.2, embedding=dim)
    cross = create("dcn.crossnet", shape, layers=6, embedding=dim)
    assert sum(p.numel() for p in deep.cross.parameters()) == 2 * 3 * 100
    assert (deep.num_parameters(), cross.num_parameters()) == (418591, 55191)


def test_widths_may_differ():
    model = create("dcn", toys.MIXED, embedding={"dim": 4, "widths": {"user": 6, "tags": 3}})
    assert model.out.in_features == 17 + 400
    assert model(toys.inputs(toys.MIXED, 5)).shape == (5,)


def test_batch_norm_and_dropout_act_in_training_only():
    model = create("dcn", toys.MIXED, hidden=(6,), batch_norm=True, dropout=0.5, embedding=WIDE)
    x = toys.inputs(toys.MIXED, 50)
    assert not torch.equal(model(x), model(x))
    model.eval()
    torch.testing.assert_close(model(x.rows(0, 1)), model(x)[:1])


def test_bad_settings_are_refused():
    with pytest.raises(InputError, match="layers = 0"):
        create("dcn", toys.MIXED, layers=0)
    with pytest.raises(InputError, match="hidden"):
        create("dcn", toys.MIXED, hidden=(0,))
