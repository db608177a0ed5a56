"""EulerNet: products of complex numbers by orders, equal to powers; initial orders and the logged count."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recsys_zoo import create
from recsys_zoo.errors import InputError
from recsys_zoo.models.ctr.eulernet import EulerLayer, EulerNetConfig
from tests import toys

WIDE = {"dim": 4, "init_std": 0.5}
PLAIN = EulerNetConfig(layer_norm=False)


def layer_of(fields: int, neurons: int, width: int, cfg: EulerNetConfig = PLAIN) -> EulerLayer:
    layer = EulerLayer(fields, neurons, width, cfg).double()
    nn.init.zeros_(layer.modulus_bias)
    nn.init.zeros_(layer.phase_bias)
    return layer


def test_hand_example():
    """Orders (1, 1) on e = (0.3, 0.4), mu = 1: e^{0.3 i} e^{0.4 i} = cos 0.7 + i sin 0.7."""
    layer, e = layer_of(2, 1, 1), torch.tensor([[[0.3], [0.4]]], dtype=torch.float64)
    nn.init.ones_(layer.orders)
    real, imaginary = layer.explicit(e.cos(), e.sin())
    # the 1e-8 inside the logarithm
    assert real.item() == pytest.approx(0.76484, abs=5e-6)
    assert imaginary.item() == pytest.approx(0.64422, abs=5e-6)


def test_explicit_part_is_the_product_of_powers():
    layer = layer_of(3, 5, 4)
    nn.init.uniform_(layer.orders, -1.0, 1.0)
    z = torch.polar(torch.rand(7, 3, 4).double() + 0.5, torch.rand(7, 3, 4).double() * 2 - 1)
    real, imaginary = layer.explicit(z.real, z.imag)
    expected = []
    for orders in layer.orders:
        product = torch.ones(7, 4, dtype=torch.complex128)
        for j, order in enumerate(orders):
            product = product * z[:, j] ** order.item()
        expected.append(product)
    # 1e-8 beside |z|^2 >= 1/4, times three orders up to 1
    torch.testing.assert_close(torch.complex(real, imaginary), torch.stack(expected, 1), rtol=1e-7, atol=1e-7)


def test_biases_scale_and_turn():
    layer = layer_of(2, 2, 3)
    z = torch.randn(7, 2, 3, dtype=torch.complex128)
    before = torch.complex(*layer.explicit(z.real, z.imag))
    nn.init.normal_(layer.modulus_bias)
    nn.init.normal_(layer.phase_bias)
    after = torch.complex(*layer.explicit(z.real, z.imag))
    factor = torch.polar(layer.modulus_bias.exp(), layer.phase_bias)
    torch.testing.assert_close(after, before * factor)


@pytest.mark.parametrize("layer_norm", [True, False])
def test_layer_adds_the_implicit_part(layer_norm):
    layer = layer_of(3, 2, 4, EulerNetConfig(layer_norm=layer_norm))
    r, p = torch.randn(7, 3, 4).double(), torch.randn(7, 3, 4).double()
    found = layer(r, p)
    for out, explicit, part in zip(found, layer.explicit(r, p), (r, p), strict=True):
        z = explicit + layer.implicit(part.reshape(7, 12)).relu().reshape(7, 2, 4)
        if layer_norm:
            z = (z - z.mean(2, keepdim=True)) / (z.var(2, unbiased=False, keepdim=True) + 1e-5).sqrt()
        torch.testing.assert_close(out, z)


def test_orders_start_as_the_identity_or_nearly_one_hot():
    assert torch.equal(EulerLayer(3, 3, 2, PLAIN).orders, torch.eye(3))
    orders = EulerLayer(10, 52, 2, PLAIN).orders
    torch.testing.assert_close(orders.sum(1), torch.ones(52))
    assert (orders.max(1).values > 0.9).float().mean() > 0.7


def test_model_equals_its_equations():
    model = create("eulernet", toys.MIXED, embedding=WIDE, neurons=(4, 3))
    nn.init.uniform_(model.modulus, 0.5, 2.0)
    x = toys.inputs(toys.MIXED, 9)
    e = model.embedding(x)
    r, p = model.modulus * e.cos(), model.modulus * e.sin()
    for layer in model.layers:
        r, p = layer(r, p)
    assert r.shape == (9, 3, 4)
    expected = (r + p).reshape(9, 12) @ model.out.weight[0] + 2 * model.out.bias
    torch.testing.assert_close(model(x), expected)


@pytest.mark.parametrize("setting", ["explicit_dropout", "implicit_dropout"])
def test_each_dropout_acts_in_training_only(setting):
    model = create("eulernet", toys.MIXED, embedding=WIDE, **{setting: 0.5})
    x = toys.inputs(toys.MIXED, 9)
    assert not torch.equal(model(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


def test_an_empty_product_is_one():
    layer = layer_of(3, 2, 4)
    nn.init.zeros_(layer.orders)
    real, imaginary = layer.explicit(torch.randn(7, 3, 4).double(), torch.randn(7, 3, 4).double())
    assert torch.equal(real, torch.ones_like(real))
    assert not imaginary.any()


def test_parameters_of_the_code_of_the_published_run():
    """The log on Frappe_x1 counts 108,889: 5,399 rows of width 10 and 54,651 + 248 (see the card)."""
    model = create("eulernet", toys.frappe_shape(), embedding={"dim": 10}, neurons=(52,))
    network = sum(p.numel() for k, p in model.named_parameters() if not k.startswith("embedding."))
    orders, implicit, biases, norms = 10 * 52, 100 * 520 + 520, 2 * 520, 2 * 20
    assert network == 10 + orders + implicit + biases + norms + 521 == 108_889 - 5399 * 10 - 4 * (10 + 52)


def test_bad_settings_are_refused():
    with pytest.raises(InputError, match="neurons"):
        create("eulernet", toys.MIXED, neurons=(0,))
    with pytest.raises(InputError, match="equal width"):
        create("eulernet", toys.MIXED, embedding={"dim": 4, "widths": {"user": 6}})
