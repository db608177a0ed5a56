"""GDCN: gated cross layers, both structures and the reduction to DCN-V2."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recsys_zoo import create
from recsys_zoo.errors import InputError
from recsys_zoo.models.ctr.gdcn import GatedCross
from tests import toys

WIDE = {"dim": 4, "init_std": 0.5}


def make(name: str = "gdcn", **settings):
    return create(name, toys.MIXED, seed=1, embedding=WIDE, **{"hidden": (6, 5), **settings})


def test_hand_example():
    """x0 = (1, 2), W = [[1, 0], [1, -1]], b = (0.1, 0) as for DCN-V2, gate 1/2: (1.55, 1)."""
    layer, x0 = GatedCross(2), torch.tensor([[1.0, 2.0]])
    with torch.no_grad():
        layer.cross.weight.copy_(torch.tensor([[1.0, 0.0], [1.0, -1.0]]))
        layer.cross.bias.copy_(torch.tensor([0.1, 0.0]))
        layer.gate.weight.zero_()
    torch.testing.assert_close(layer(x0, x0), torch.tensor([[1.55, 1.0]]))


def crosses(model, x: torch.Tensor) -> torch.Tensor:
    x0 = x
    for layer in model.layers:
        columns = []
        for i in range(x.shape[1]):
            gate = 1 / (1 + torch.exp(-(x @ layer.gate.weight[i])))
            columns.append(x0[:, i] * (x @ layer.cross.weight[i] + layer.cross.bias[i]) * gate + x[:, i])
        x = torch.stack(columns, 1)
    return x


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("structure", ["parallel", "stacked"])
def test_structures_equal_their_equations(structure, layers):
    model = make(f"gdcn.{structure}", layers=layers)
    x = toys.inputs(toys.MIXED, 9)
    x0 = model.embedding.flat(x)
    crossed, mlp = crosses(model, x0), model.mlp.layers

    def deep(h: torch.Tensor) -> torch.Tensor:
        return mlp[2](mlp[0](h).relu()).relu()

    last = torch.cat([crossed, deep(x0)], 1) if structure == "parallel" else deep(crossed)
    assert last.shape[1] == (21 if structure == "parallel" else 5)
    torch.testing.assert_close(model(x), last @ model.out.weight[0] + model.out.bias)


@pytest.mark.parametrize("structure", ["parallel", "stacked"])
def test_with_a_constant_gate_it_is_dcnv2_of_half_the_weights(structure):
    model = make(f"gdcn.{structure}", layers=2)
    other = make("dcnv2", structure=structure, layers=2, stacked_hidden=(6, 5))
    other.embedding.load_state_dict(model.embedding.state_dict())
    part = other.parallel if structure == "parallel" else other.stacked
    part.load_state_dict(model.mlp.state_dict())
    other.out.load_state_dict(model.out.state_dict())
    with torch.no_grad():
        for gated, plain in zip(model.layers, other.cross.layers, strict=True):
            gated.gate.weight.zero_()
            plain.weight.copy_(0.5 * gated.cross.weight)
            plain.bias.copy_(0.5 * gated.cross.bias)
    x = toys.inputs(toys.MIXED, 9)
    torch.testing.assert_close(model(x), other(x))


def test_stacked_without_hidden_layers_is_linear_in_the_crosses():
    model = make("gdcn.stacked", hidden=())
    x = toys.inputs(toys.MIXED, 9)
    crossed = crosses(model, model.embedding.flat(x))
    torch.testing.assert_close(model(x), crossed @ model.out.weight[0] + model.out.bias)


def test_parameters_and_initial_biases():
    """L (2 w^2 + w) in the crosses of width w = 16; biases in (0, 1), as the authors draw them."""
    model = make(layers=5)
    assert sum(p.numel() for p in model.layers.parameters()) == 5 * (2 * 256 + 16)
    biases = torch.cat([layer.cross.bias for layer in model.layers])
    assert 0 <= biases.min() < 0.1 < 0.9 < biases.max() < 1
    assert all(layer.gate.bias is None for layer in model.layers)


def test_widths_may_differ():
    model = create("gdcn", toys.MIXED, embedding={"dim": 4, "widths": {"user": 6, "tags": 3}})
    assert model(toys.inputs(toys.MIXED, 5)).shape == (5,)


def test_batch_norm_and_dropout_act_in_training_only():
    model = make(batch_norm=True, dropout=0.3)
    assert any(isinstance(layer, nn.BatchNorm1d) for layer in model.mlp.layers)
    x = toys.inputs(toys.MIXED, 50)
    assert not torch.equal(model(x), model(x))
    model.eval()
    torch.testing.assert_close(model(x.rows(0, 1)), model(x)[:1])


def test_bad_settings_are_refused():
    with pytest.raises(InputError, match="structure = 'serial'"):
        make(structure="serial")
    with pytest.raises(InputError, match="layers"):
        make(layers=0)
