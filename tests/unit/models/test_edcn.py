"""EDCN: regulation, cross layer, bridges and the whole network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recsys_zoo import create
from recsys_zoo.errors import InputError
from recsys_zoo.models.ctr.edcn import Bridge, Cross, Regulation
from tests import toys

WIDE = {"dim": 4, "init_std": 0.5}


def make(**settings):
    return create("edcn", toys.MIXED, seed=1, embedding=WIDE, **settings)


def test_regulation_hand_example():
    """theta (log 3, 0) and tau 1: gates (3/4, 1/4) on the cross tower; untouched (1, 1): 1/2 each."""
    layer, e = Regulation(2, 2, 1.0, False), torch.tensor([[[4.0, 8.0], [4.0, -4.0]]])
    with torch.no_grad():
        layer.theta[0] = torch.tensor([3.0, 1.0]).log()
    cross, deep = layer(e)
    torch.testing.assert_close(cross, torch.tensor([[3.0, 6.0, 1.0, -1.0]]))
    torch.testing.assert_close(deep, torch.tensor([[2.0, 4.0, 2.0, -2.0]]))


def test_temperature_sharpens_the_gates():
    e = torch.ones(1, 2, 1)
    shares = []
    for temperature in (0.1, 1.0, 10.0):
        layer = Regulation(2, 1, temperature, False)
        with torch.no_grad():
            layer.theta[0, 0] = 2.0
        shares.append(layer(e)[0][0, 0].item())
    assert shares == pytest.approx([1 / (1 + 2.718281828**-x) for x in (10.0, 1.0, 0.1)], rel=1e-5)


def test_cross_hand_example():
    """x0 = (1, 2), c = (3, 1), w = (.5, .25), b = (.1, 0): (1.85, 3.5)."""
    cross = Cross(2)
    with torch.no_grad():
        cross.weight.weight.copy_(torch.tensor([[0.5, 0.25]]))
        cross.bias.copy_(torch.tensor([0.1, 0.0]))
    out = cross(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 1.0]]))
    torch.testing.assert_close(out, torch.tensor([[1.85, 3.5]]))


@pytest.mark.parametrize("join", ["product", "sum", "concat", "attention"])
def test_bridges(join):
    bridge, c, h = Bridge(3, join), torch.randn(7, 3), torch.randn(7, 3)

    def attention(layers: nn.Sequential, x: torch.Tensor) -> torch.Tensor:
        inner = layers[0].layers[0]
        scores = (x @ inner.weight.T + inner.bias).relu() @ layers[1].weight.T
        return scores.exp() / scores.exp().sum(1, keepdim=True)

    expected = {
        "product": lambda: c * h,
        "sum": lambda: c + h,
        "concat": lambda: (torch.cat([c, h], 1) @ bridge.layers[0].layers[0].weight.T).relu(),
        "attention": lambda: attention(bridge.layers[0], c) * c + attention(bridge.layers[1], h) * h,
    }[join]()
    torch.testing.assert_close(bridge(c, h), expected)


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("layers", [1, 3])
def test_model_equals_its_equations(layers, batch_norm):
    model = make(layers=layers, batch_norm=batch_norm).eval()
    for regulation in model.regulations:
        nn.init.normal_(regulation.theta)
    x = toys.inputs(toys.MIXED, 9)
    z, x0 = model.embedding(x).reshape(9, 16), None
    scale = (1 + 1e-5) ** -0.5 if batch_norm else 1.0  # fresh running statistics: mean 0, variance 1
    for place in range(layers):
        gates = model.regulations[place].theta.softmax(1).repeat_interleave(4, 1)
        c, h = z * gates[0] * scale, z * gates[1] * scale
        x0 = c if place == 0 else x0
        c = x0 * (c @ model.cross[place].weight.weight.T) + model.cross[place].bias
        h = model.deep[place].layers[0](h).relu()
        z = c * h
    expected = torch.cat([c, h, z], 1) @ model.out.weight[0] + model.out.bias
    torch.testing.assert_close(model(x), expected)


@pytest.mark.parametrize("join", ["product", "sum", "concat", "attention"])
def test_all_bridges_train(join):
    model = make(bridge=join, layers=2)
    model(toys.inputs(toys.MIXED, 30)).square().sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad.abs().sum() > 0, key


def test_parameters_are_those_of_the_parts():
    """L 2 w of crosses, L (w^2 + w) of the deep tower, 2 L F gates and 3 w + 1 at the end, width w = 16."""
    model = make(layers=3, batch_norm=False)
    assert sum(p.numel() for k, p in model.named_parameters() if not k.startswith("embedding.")) == (
        3 * 32 + 3 * (256 + 16) + 3 * 2 * 4 + 49
    )


def test_dropout_acts_in_training_only():
    model = make(dropout=0.5)
    x = toys.inputs(toys.MIXED, 50)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


def test_bad_settings_are_refused():
    with pytest.raises(InputError, match="bridge = 'hadamard'"):
        make(bridge="hadamard")
    with pytest.raises(InputError, match="temperature"):
        make(temperature=0)
