"""DNN, Wide & Deep, DeepFM and DCN-V2 against their equations and their reductions to each other."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recsys_zoo import create
from recsys_zoo.batch import Inputs
from recsys_zoo.errors import InputError
from recsys_zoo.models.ctr.dcnv2 import CrossMixture, CrossNet
from tests import toys

WIDE = {"dim": 4, "init_std": 0.5}


def make(name: str, **settings):
    return create(name, toys.MIXED, seed=1, embedding=WIDE, **{"hidden": (6, 5), **settings})


def take(target: nn.Module, source: nn.Module) -> None:
    """Copy the parts that both models have."""
    parts = dict(source.named_children())
    for name, part in target.named_children():
        if name in parts:
            part.load_state_dict(parts[name].state_dict())


def silence(mlp) -> None:
    for parameter in mlp.layers[-1].parameters():
        nn.init.zeros_(parameter)


def test_dnn_equals_the_formula():
    model = make("dnn")
    x = toys.inputs(toys.MIXED, 9)
    h = model.embedding(x).reshape(9, 16)
    for layer in model.mlp.layers:
        if isinstance(layer, nn.Linear):
            h = h @ layer.weight.T + layer.bias
            h = h.clamp(min=0) if layer.out_features > 1 else h
    torch.testing.assert_close(model(x), h[:, 0])


def test_without_hidden_layers_dnn_is_linear_in_the_vectors():
    model = make("dnn", hidden=())
    x = toys.inputs(toys.MIXED, 9)
    (layer,) = model.mlp.layers
    torch.testing.assert_close(model(x), model.embedding.flat(x) @ layer.weight[0] + layer.bias)


def test_wide_deep_is_the_sum_of_its_parts():
    model, deep = make("wide_deep"), make("dnn")
    take(deep, model)
    x = toys.inputs(toys.MIXED, 9)
    assert model.linear.bias is None
    torch.testing.assert_close(model(x), model.linear(x) + deep(x))


def test_deepfm_is_the_sum_of_its_parts():
    model, deep, fm = make("deepfm"), make("dnn"), create("fm", toys.MIXED, embedding=WIDE)
    take(deep, model)
    fm.embedding.load_state_dict(model.embedding.state_dict())
    fm.linear.load_state_dict({**model.linear.state_dict(), "bias": torch.zeros(1)})
    x = toys.inputs(toys.MIXED, 9)
    torch.testing.assert_close(model(x), fm(x) + deep(x))
    silence(model.mlp)
    torch.testing.assert_close(model(x), fm(x))


def test_wide_deep_with_a_silent_mlp_is_lr():
    model, lr = make("wide_deep"), create("lr", toys.MIXED)
    silence(model.mlp)
    lr.linear.load_state_dict({**model.linear.state_dict(), "bias": torch.zeros(1)})
    x = toys.inputs(toys.MIXED, 9)
    torch.testing.assert_close(model(x), lr(x))


def test_cross_layer_hand_example():
    """x0 = (1, 2), W = [[1, 0], [1, -1]], b = (0.1, 0): (2.1, 0)."""
    cross = CrossNet(2, 1)
    with torch.no_grad():
        cross.layers[0].weight.copy_(torch.tensor([[1.0, 0.0], [1.0, -1.0]]))
        cross.layers[0].bias.copy_(torch.tensor([0.1, 0.0]))
    torch.testing.assert_close(cross(torch.tensor([[1.0, 2.0]])), torch.tensor([[2.1, 0.0]]))


def test_cross_layers_equal_the_recursion():
    cross, x0 = CrossNet(5, 3), torch.randn(7, 5)
    x = x0
    for layer in cross.layers:
        nn.init.normal_(layer.bias)
        x = torch.stack([x0[:, i] * (x @ layer.weight[i] + layer.bias[i]) for i in range(5)], 1) + x
    torch.testing.assert_close(cross(x0), x)


def test_cross_layers_with_equal_rows_are_those_of_the_first_dcn():
    """x_{l+1} = x_0 (w_l . x_l) + x_l, without bias."""
    cross, x0 = CrossNet(5, 3).double(), torch.randn(7, 5, dtype=torch.float64)
    x = x0
    for layer in cross.layers:
        with torch.no_grad():
            layer.weight.copy_(layer.weight[:1].expand(5, 5))
        x = x0 * (x @ layer.weight[0]).unsqueeze(1) + x
    torch.testing.assert_close(cross(x0), x)


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_cross_layers_are_a_polynomial_of_degree_layers_plus_1(layers):
    """The (layers + 2)-th difference of t -> cross(t x) vanishes, the one before does not."""
    cross, x = CrossNet(4, layers).double(), torch.randn(1, 4, dtype=torch.float64)
    values = cross(torch.arange(layers + 4, dtype=torch.float64).unsqueeze(1) * x)
    for _ in range(layers + 1):
        values = values.diff(dim=0)
    assert values.abs().min() > 1e-6
    torch.testing.assert_close(values.diff(dim=0), torch.zeros(2, 4, dtype=torch.float64), rtol=0, atol=1e-8)


@pytest.mark.parametrize("share_gates", [True, False])
def test_low_rank_mixture_equals_the_loops(share_gates):
    """Expert by expert, with its bias inside as the paper writes it."""
    cross, x0 = CrossMixture(5, 3, 2, 4, share_gates), torch.randn(7, 5)
    assert len(cross.gates) == (1 if share_gates else 3)
    x = x0
    for place in range(3):
        nn.init.normal_(cross.bias[place])
        gates = torch.softmax(x @ cross.gates[0 if share_gates else place].weight.T, 1)
        total = x
        for k in range(2):
            v, c, u = cross.down[place].weight[4 * k : 4 * k + 4], cross.inner[place][k], cross.up[place][k]
            expert = x0 * (torch.tanh(torch.tanh(x @ v.T) @ c) @ u + cross.bias[place])
            total = total + gates[:, k : k + 1] * expert
        x = total
    torch.testing.assert_close(cross(x0), x)


def test_parameters_of_the_low_rank_mixture():
    """layers x (2 K r width + K r^2 + width) and K width of the gates, as FuxiCTR has them."""
    cross = CrossMixture(100, 3, 4, 32, True)
    counted = sum(p.numel() for p in cross.parameters())
    assert counted == 3 * (2 * 4 * 32 * 100 + 4 * 32 * 32 + 100) + 4 * 100


@pytest.mark.parametrize("structure", ["crossnet_only", "stacked", "parallel", "stacked_parallel"])
def test_structures_of_dcnv2(structure):
    model = make("dcnv2", structure=structure, stacked_hidden=(7,), layers=2)
    x = toys.inputs(toys.MIXED, 9)
    x0 = model.embedding.flat(x)
    crossed = model.cross(x0)
    relu = torch.relu
    joined = {
        "crossnet_only": lambda: [crossed],
        "stacked": lambda: [relu(model.stacked.layers[0](crossed))],
        "parallel": lambda: [crossed, relu(model.parallel.layers[2](relu(model.parallel.layers[0](x0))))],
        "stacked_parallel": lambda: [relu(model.stacked.layers[0](crossed)), model.parallel(x0)],
    }[structure]()
    widths = {"crossnet_only": [16], "stacked": [7], "parallel": [16, 5], "stacked_parallel": [7, 5]}
    assert [part.shape[1] for part in joined] == widths[structure]
    expected = torch.cat(joined, 1) @ model.out.weight[0] + model.out.bias
    torch.testing.assert_close(model(x), expected)


def test_dcnv2_ignores_networks_its_structure_has_not():
    model = make("dcnv2", structure="crossnet_only")
    assert {key.partition(".")[0] for key in model.state_dict()} == {"embedding", "cross", "out"}


def test_unknown_structures_are_refused():
    with pytest.raises(InputError, match="structure = 'paralel'"):
        make("dcnv2", structure="paralel")
    with pytest.raises(InputError, match="stacked_hidden"):
        make("dcnv2", stacked_hidden=(0,))


@pytest.mark.parametrize("name", ["dnn", "wide_deep", "deepfm", "dcnv2"])
def test_batch_norm_and_dropout_act_in_training_only(name):
    model = make(name, batch_norm=True, dropout=0.3)
    x = toys.inputs(toys.MIXED, 50)
    assert not torch.equal(model(x), model(x))  # other masks
    model.eval()
    one = Inputs(x.ids[:1], x.numeric[:1], {k: v[:1] for k, v in x.bags.items()})
    torch.testing.assert_close(model(one), model(x)[:1])
    assert torch.equal(model(x), model(x))
