"""xDeepFM and CIN against their equations and their reductions to FM, Wide & Deep and LR."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recsys_zoo import create
from recsys_zoo.errors import InputError
from recsys_zoo.models.ctr.xdeepfm import CIN
from recsys_zoo.nn.interaction import pair_sum
from tests import toys

WIDE = {"dim": 4, "init_std": 0.5}


def network(fields: int, widths: tuple[int, ...]) -> CIN:
    """A CIN in double precision, biases drawn too."""
    cin = CIN(fields, widths).double()
    for layer in cin.layers:
        nn.init.normal_(layer.bias)
    return cin


def test_hand_example():
    """Fields (1, 2), (3, -1), (0, 1), all weights 1: X^1 = (4, 2)^2 = (16, 4), pooled 20."""
    cin = CIN(3, (1,))
    nn.init.ones_(cin.layers[0].weight)
    e = torch.tensor([[[1.0, 2.0], [3.0, -1.0], [0.0, 1.0]]])
    torch.testing.assert_close(cin(e), torch.tensor([[20.0]]))


def test_second_layer_multiplies_by_the_fields_again():
    """X^2 = X^1 * (4, 2) = (64, 8), pooled 72."""
    cin = CIN(3, (1, 1))
    for layer in cin.layers:
        nn.init.ones_(layer.weight)
    e = torch.tensor([[[1.0, 2.0], [3.0, -1.0], [0.0, 1.0]]])
    torch.testing.assert_close(cin(e), torch.tensor([[20.0, 72.0]]))


def test_network_equals_the_loops():
    cin, e = network(4, (3, 2)), torch.randn(7, 4, 5, dtype=torch.float64)
    maps, pooled = e, []
    for layer in cin.layers:
        weight = layer.weight.view(len(layer.weight), maps.shape[1], 4)
        rows = []
        for h in range(len(weight)):
            row = layer.bias[h] + torch.zeros(7, 5, dtype=torch.float64)
            for i in range(maps.shape[1]):
                for j in range(4):
                    row = row + weight[h, i, j] * maps[:, i] * e[:, j]
            rows.append(row)
        maps = torch.stack(rows, 1)
        pooled.append(maps.sum(2))
    torch.testing.assert_close(cin(e), torch.cat(pooled, 1))


@pytest.mark.parametrize("settings", [{"hidden": ()}, {"hidden": (6, 3)}])
def test_model_is_the_sum_of_its_parts(settings):
    model = create("xdeepfm", toys.MIXED, cin=(5, 3), embedding=WIDE, **settings)
    x = toys.inputs(toys.MIXED, 20)
    e = model.embedding(x)
    total = model.linear(x) + model.cin(e) @ model.out.weight[0] + model.out.bias
    if settings["hidden"]:
        wide = create("wide_deep", toys.MIXED, embedding=WIDE, **settings)
        parts = ("linear", "embedding", "mlp")
        wide.load_state_dict({k: v for k, v in model.state_dict().items() if k.startswith(parts)})
        total = total + wide(x) - wide.linear(x)
    assert model.linear.bias is None
    torch.testing.assert_close(model(x), total)


def test_one_map_of_the_pairs_is_fm_and_of_nothing_lr():
    """W the upper triangle of ones, without bias and with an output weight of 1."""
    model = create("xdeepfm.cin", toys.MIXED, cin=(1,), embedding=WIDE)
    nn.init.ones_(model.out.weight)
    (layer,) = model.cin.layers
    with torch.no_grad():
        layer.weight.copy_(torch.ones(4, 4).triu(1).view(1, 16))
    x = toys.inputs(toys.MIXED, 20)
    expected = model.linear(x) + pair_sum(model.embedding(x))
    torch.testing.assert_close(model(x), expected, rtol=1e-5, atol=1e-5)  # FM takes squares of sums
    nn.init.zeros_(layer.weight)
    torch.testing.assert_close(model(x), model.linear(x))


def test_permuting_fields_and_weights_changes_nothing():
    order = torch.tensor([2, 0, 3, 1])
    cin, other = network(4, (3, 2)), network(4, (3, 2))
    other.load_state_dict(cin.state_dict())
    with torch.no_grad():
        first, second = (layer.weight for layer in cin.layers)
        other.layers[0].weight.copy_(first.view(3, 4, 4)[:, order][:, :, order].flatten(1))
        other.layers[1].weight.copy_(second.view(2, 3, 4)[:, :, order].flatten(1))
    e = torch.randn(7, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(other(e[:, order]), cin(e))


def test_layer_k_has_degree_k_plus_1():
    cin, e = CIN(4, (3, 2)).double(), torch.randn(7, 4, 5, dtype=torch.float64)
    factors = torch.tensor([9.0] * 3 + [27.0] * 2, dtype=torch.float64)
    torch.testing.assert_close(cin(3 * e), factors * cin(e))


def test_parameters_equal_those_of_the_published_runs():
    shape, dim = toys.frappe_shape(), {"dim": 10}
    deep = create("xdeepfm", shape, cin=(64,), batch_norm=True, dropout=0.2, embedding=dim)
    cin = create("xdeepfm.cin", shape, cin=(64, 64, 64), embedding=dim)
    assert sum(p.numel() for p in cin.cin.parameters()) == 10 * (10 + 64 + 64) * 64 + 3 * 64
    assert (deep.num_parameters(), cin.num_parameters()) == (429809, 147984)


def test_batch_norm_and_dropout_act_in_training_only():
    settings = {"hidden": (6,), "batch_norm": True, "dropout": 0.5}
    model = create("xdeepfm", toys.MIXED, embedding=WIDE, **settings)
    x = toys.inputs(toys.MIXED, 50)
    assert not torch.equal(model(x), model(x))
    model.eval()
    torch.testing.assert_close(model(x.rows(0, 1)), model(x)[:1])


def test_bad_settings_are_refused():
    with pytest.raises(InputError, match=r"cin = \[\]: .* at least 1 item"):
        create("xdeepfm", toys.MIXED, cin=[])
    with pytest.raises(InputError, match=r"cin\.1 = 0"):
        create("xdeepfm", toys.MIXED, cin=(8, 0))
    with pytest.raises(InputError, match="equal width"):
        create("xdeepfm", toys.MIXED, embedding={"dim": 4, "widths": {"user": 6}})
