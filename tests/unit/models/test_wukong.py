"""Wukong: rank-k products, layers and shapes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from recsys_zoo import create
from recsys_zoo.errors import InputError
from recsys_zoo.models.ctr.wukong import FactorisationMachine, WukongConfig, WukongLayer
from tests import toys

SMALL = WukongConfig(fm_fields=3, linear_fields=2, rank=2, fm_hidden=(7,))
FIELDS = torch.tensor([[[1.0, 2.0], [3.0, -1.0], [0.0, 1.0]]])


def test_products_hand_example():
    """FM's fields (1, 2), (3, -1), (0, 1) with Y = (1, 1, 1)^T: (8, 10, 2)."""
    machine = FactorisationMachine(3, 2, WukongConfig(rank=1))
    nn.init.ones_(machine.y)
    torch.testing.assert_close(machine.products(FIELDS), torch.tensor([[[8.0], [10.0], [2.0]]]))


def test_products_with_the_identity_hold_the_pairs_of_fm():
    """Y = I: the upper triangle of X X^T sums to FM's pairs, 2 for the fields above."""
    machine = FactorisationMachine(3, 2, WukongConfig(rank=3))
    with torch.no_grad():
        machine.y.copy_(torch.eye(3))
    products = machine.products(FIELDS)
    torch.testing.assert_close(products, FIELDS @ FIELDS.transpose(1, 2))
    assert products.triu(1).sum().item() == pytest.approx(2.0)


@pytest.mark.parametrize("fields", [4, 5])
def test_layer_equals_its_equations(fields):
    layer = WukongLayer(fields, 6, SMALL).double()
    assert (layer.residual is None) == (fields == 5)
    x = torch.randn(8, fields, 6).double()
    products = (x @ x.transpose(1, 2) @ layer.machine.y).reshape(8, fields * 2)
    inner, outer = layer.machine.mlp.layers[0], layer.machine.mlp.layers[2]
    made = outer(inner(F.layer_norm(products, (fields * 2,))).relu()).relu().reshape(8, 3, 6)
    compressed = torch.einsum("bnd,mn->bmd", x, layer.compress.weight)
    residual = x
    if fields == 4:
        nn.init.normal_(layer.residual.bias)
        residual = torch.einsum("bnd,mn->bmd", x, layer.residual.weight) + layer.residual.bias[:, None]
    expected = F.layer_norm(torch.cat([made, compressed], 1) + residual, (6,))
    torch.testing.assert_close(layer(x), expected)


def test_products_are_of_second_degree():
    machine = FactorisationMachine(4, 6, SMALL)
    x = torch.randn(8, 4, 6)
    torch.testing.assert_close(machine.products(3 * x), 9 * machine.products(x))


def test_model_stacks_layers():
    settings = {"layers": 3, "fm_fields": 3, "linear_fields": 2, "hidden": (5,), "fm_hidden": (7,)}
    model = create("wukong", toys.MIXED, embedding={"dim": 4, "init_std": 0.5}, **settings).eval()
    x = toys.inputs(toys.MIXED, 9)
    h = model.embedding(x)
    assert [layer.residual is None for layer in model.layers] == [False, True, True]
    for layer in model.layers:
        h = layer(h)
    assert h.shape == (9, 5, 4)
    torch.testing.assert_close(model(x), model.mlp(h.reshape(9, 20)).squeeze(1))


def test_parameters_of_the_default_layer():
    """39 fields of width 64 in, 80 out: Y 39 x 8, its norm, MLP 312-32-32-2560, W_L, residual and norm."""
    layer = WukongLayer(39, 64, WukongConfig())
    mlp = 312 * 32 + 32 + 32 * 32 + 32 + 32 * 2560 + 2560
    expected = 312 + 2 * 312 + mlp + 40 * 39 + (80 * 39 + 80) + 2 * 64
    assert sum(p.numel() for p in layer.parameters()) == expected


def test_dropout_and_batch_norm_act_in_training_only():
    model = create("wukong", toys.MIXED, embedding={"dim": 4, "init_std": 0.5}, dropout=0.3)
    x = toys.inputs(toys.MIXED, 50)
    assert not torch.equal(model(x), model(x))
    model.eval()
    torch.testing.assert_close(model(x.rows(0, 1)), model(x)[:1], rtol=1e-5, atol=1e-5)  # other kernels


def test_bad_settings_are_refused():
    with pytest.raises(InputError, match="rank"):
        create("wukong", toys.MIXED, rank=0)
    with pytest.raises(InputError, match="equal width"):
        create("wukong", toys.MIXED, embedding={"dim": 4, "widths": {"user": 6}})
