"""Linear layers and perceptrons: structure, order of the parts, initial weights."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from recsys_zoo.nn import kernels
from recsys_zoo.nn.activation import ReLUDropout
from recsys_zoo.nn.mlp import MLP, MLPSettings, linear
from recsys_zoo.nn.norm import BatchNormReLUDropout

needs_compiler = pytest.mark.skipif(kernels.compiler() is None, reason="no C++ compiler on this machine")


def test_order_is_linear_norm_relu_dropout():
    mlp = MLP(3, (5, 4), 1, batch_norm=True, dropout=0.2)
    block = [nn.Linear, BatchNormReLUDropout, nn.Identity, nn.Identity]
    assert [type(layer) for layer in mlp.layers] == [*block, *block, nn.Linear]
    assert {layer.rate for layer in mlp.layers if isinstance(layer, BatchNormReLUDropout)} == {0.2}
    assert mlp.width == 1
    plain = [nn.Linear, ReLUDropout]
    assert [type(layer) for layer in MLP(3, (5, 4), 0).layers] == [*plain, *plain]


@pytest.mark.parametrize("enabled", [False, pytest.param(True, marks=needs_compiler)])
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("outputs", [0, 2])
def test_it_equals_its_layers_one_after_another(monkeypatch, enabled, batch_norm, outputs):
    """Bit for bit without kernels; with them, biases are added at another place."""
    monkeypatch.setattr(kernels, "enabled", enabled)
    mlp = MLP(3, (20, 17), outputs, batch_norm=batch_norm, dropout=0.0, bias_init="normal")
    x = torch.randn(40, 3)
    found = mlp(x)
    monkeypatch.setattr(kernels, "enabled", False)
    expected = mlp.layers(x)
    assert torch.equal(found, expected) or enabled
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_equals_the_formula():
    mlp = MLP(3, (5, 4), 2)
    first, second, last = (layer for layer in mlp.layers if isinstance(layer, nn.Linear))
    x = torch.randn(6, 3)
    h = (x @ first.weight.T + first.bias).clamp(min=0)
    h = (h @ second.weight.T + second.bias).clamp(min=0)
    torch.testing.assert_close(mlp(x), h @ last.weight.T + last.bias)


def test_without_outputs_it_ends_with_the_last_hidden_layer():
    mlp = MLP(3, (5,), 0)
    assert mlp.width == 5
    assert mlp(torch.randn(6, 3)).min() == 0.0  # a ReLU is last


def test_without_hidden_layers_it_is_linear_or_nothing():
    x = torch.randn(6, 3)
    assert [type(layer) for layer in MLP(3, (), 1).layers] == [nn.Linear]
    assert torch.equal(MLP(3, (), 0)(x), x)


def test_dropout_works_in_training_only():
    mlp = MLP(3, (500,), 0, dropout=0.4)
    x = torch.randn(1, 3)
    expected = mlp.eval()(x)
    dropped = mlp.train()(x)
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], expected[kept] / 0.6)
    share = kept.sum() / (expected != 0).sum()
    assert share == pytest.approx(0.6, abs=0.15)  # five standard deviations of about 250 draws


@pytest.mark.parametrize("init", ["xavier_normal", "xavier_uniform"])
def test_weights_have_the_variance_of_glorot_and_bengio(init):
    layer = linear(400, 300, weight_init=init)
    assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / 700), rel=0.02)
    assert (layer.weight.abs().max() <= math.sqrt(6 / 700)) == (init == "xavier_uniform")
    assert not layer.bias.any()


def test_blocks_are_initialised_one_by_one():
    fused = linear(64, 48, blocks=3)
    assert fused.weight.shape == (144, 64)
    assert fused.bias.shape == (144,)
    # of one matrix 144 x 64 the standard deviation would be sqrt(2 / 208) = 0.098 instead of 0.134
    assert fused.weight.std().item() == pytest.approx(math.sqrt(2 / 112), rel=0.04)


def test_normal_biases():
    hidden = linear(400, 300, bias_init="normal").bias
    assert hidden.std().item() == pytest.approx(math.sqrt(2 / 700), rel=0.2)
    outputs = torch.cat([linear(2, 1, bias_init="normal").bias for _ in range(300)])
    assert outputs.std().item() == pytest.approx(1.0, rel=0.2)
    assert linear(2, 3, bias=False).bias is None


@pytest.mark.parametrize("bad", [{"hidden": [0]}, {"dropout": 1.0}, {"dropout": -0.1}, {"hidden": 400}])
def test_settings_out_of_range_are_refused(bad):
    with pytest.raises(ValidationError):
        MLPSettings(**bad)
