"""FiBiNET: squeeze and excitation, bilinear products, reductions and the published count."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recsys_zoo import create
from recsys_zoo.errors import InputError
from recsys_zoo.models.ctr.fibinet import Bilinear, SqueezeExcitation
from tests import toys

WIDE = {"dim": 4, "init_std": 0.5}
FIELDS = torch.tensor([[[1.0, 3.0], [2.0, -2.0], [0.0, 4.0]]])


def make(**settings):
    return create("fibinet", toys.MIXED, seed=1, embedding=WIDE, **{"hidden": (5,), **settings})


def test_squeeze_hand_example():
    """Fields (1, 3), (2, -2), (0, 4): z = (2, 0, 2); weights 1 down and (1, 0, -1) up give A = (4, 0, 0)."""
    layer = SqueezeExcitation(3, 3)
    with torch.no_grad():
        layer.down.weight.fill_(1.0)
        layer.up.weight.copy_(torch.tensor([[1.0], [0.0], [-1.0]]))
    expected = torch.tensor([[[4.0, 12.0], [0.0, 0.0], [0.0, 0.0]]])
    torch.testing.assert_close(layer(FIELDS), expected)


@pytest.mark.parametrize(("reduction", "units"), [(1, 7), (2, 3), (3, 2), (9, 1)])
def test_hidden_units_of_the_excitation(reduction, units):
    assert SqueezeExcitation(7, reduction).down.weight.shape == (units, 7)


@pytest.mark.parametrize("kind", ["all", "each", "interaction"])
def test_bilinear_equals_the_double_loop(kind):
    layer, e = Bilinear(5, 3, kind), torch.randn(7, 5, 3)
    expected, pair = [], 0
    for i in range(5):
        for j in range(i + 1, 5):
            w = layer.weight[{"all": 0, "each": i, "interaction": pair}[kind]]
            expected.append((e[:, i] @ w) * e[:, j])
            pair += 1
    torch.testing.assert_close(layer(e), torch.stack(expected, 1))


@pytest.mark.parametrize("kind", ["all", "each", "interaction"])
def test_with_the_identity_it_is_the_products_of_pairs(kind):
    layer = Bilinear(3, 2, kind)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(2).expand_as(layer.weight))
    expected = torch.tensor([[[2.0, -6.0], [0.0, 12.0], [0.0, -8.0]]])
    torch.testing.assert_close(layer(FIELDS), expected)


def test_with_identities_and_a_summing_mlp_it_is_twice_fm():
    """W = I, A = 1 and an MLP that sums: each of the two halves is the pairs of FM."""
    model = make(hidden=(), bilinear="each")
    model.excitation = nn.Identity()
    with torch.no_grad():
        model.bilinear.weight.copy_(torch.eye(4).expand(4, 4, 4))
        model.mlp.layers[0].weight.fill_(0.5)
    fm = create("fm", toys.MIXED, embedding=WIDE)
    fm.embedding.load_state_dict(model.embedding.state_dict())
    fm.linear.load_state_dict({**model.linear.state_dict(), "bias": torch.zeros(1)})
    x = toys.inputs(toys.MIXED, 9)
    torch.testing.assert_close(model(x), fm(x))


@pytest.mark.parametrize("shared", [True, False])
def test_model_is_the_sum_of_its_parts(shared):
    model = make(shared=shared)
    x = toys.inputs(toys.MIXED, 9)
    e = model.embedding(x)
    second = model.bilinear if shared else model.second_bilinear
    parts = torch.cat([model.bilinear(e), second(model.excitation(e))], 1)
    assert parts.shape == (9, 12, 4)
    torch.testing.assert_close(model(x), model.linear(x) + model.mlp(parts.reshape(9, 48)).squeeze(1))
    extra = 0 if shared else 6 * 16
    assert model.num_parameters() == make().num_parameters() + extra


def test_with_a_silent_mlp_it_is_lr():
    model, lr = make(), create("lr", toys.MIXED)
    nn.init.zeros_(model.mlp.layers[-1].weight)
    lr.linear.load_state_dict({**model.linear.state_dict(), "bias": torch.zeros(1)})
    x = toys.inputs(toys.MIXED, 9)
    torch.testing.assert_close(model(x), lr(x))


def test_one_column_is_lr():
    schema = toys.schema(toys.categorical("a", 5))
    model, lr = (create(name, schema, seed=1) for name in ("fibinet", "lr"))
    lr.linear.load_state_dict(model.linear.state_dict())
    x = toys.inputs(schema, 9)
    assert torch.equal(model(x), lr(x))


def test_count_of_the_published_run():
    settings = {"hidden": (400, 400, 400), "batch_norm": True, "bilinear": "all", "reduction": 2}
    model = create("fibinet", toys.frappe_shape(), embedding={"dim": 10}, **settings)
    assert model.num_parameters() == 743_480


def test_initial_matrices_are_glorot_normal_each():
    layer = Bilinear(20, 16, "interaction")
    assert layer.weight.std().item() == pytest.approx(0.25, rel=0.02)  # 48,640 draws


def test_bad_settings_are_refused():
    with pytest.raises(InputError, match="bilinear = 'al'"):
        make(bilinear="al")
    with pytest.raises(InputError, match="reduction"):
        make(reduction=0)
