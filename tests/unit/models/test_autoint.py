"""AutoInt and AutoInt+: equations, hand example, presets and attention maps."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from recsys_zoo import create
from recsys_zoo.batch import Inputs
from recsys_zoo.errors import InputError
from recsys_zoo.models.ctr.autoint import AutoIntConfig, InteractingLayer
from recsys_zoo.zoo import resolve
from tests import toys

WIDE = {"dim": 4, "init_std": 0.5}
PRESETS = ["autoint.paper", "autoint.official", "autoint.fuxi", "autoint.fuxi with norm"]


def config(name: str, **settings) -> AutoIntConfig:
    if name.endswith(" with norm"):
        name, settings = name.removesuffix(" with norm"), {"norm": "pre_relu", "scale": True, **settings}
    return resolve(name, {"heads": 2, "attention_dim": 8, **settings})[1]


def layer_and_input(name: str, inputs: int, **settings) -> tuple[InteractingLayer, torch.Tensor]:
    layer = InteractingLayer(inputs, config(name, **settings)).double()
    for key, parameter in layer.named_parameters():
        if key.endswith("bias") or key.startswith("norm"):
            nn.init.normal_(parameter)  # so that forgetting one of them shows
    return layer, torch.randn(3, 5, inputs, dtype=torch.float64)


def by_equations(layer: InteractingLayer, e: torch.Tensor) -> torch.Tensor:
    """One layer for one row e [F, inputs], head by head, in the form its settings name."""
    cfg = layer.cfg
    maps = dict(zip("qkv", layer.project.weight.split(8), strict=True))
    biases = dict(zip("qkv", layer.project.bias.split(8) if cfg.proj_bias else [0.0] * 3, strict=True))
    act = torch.relu if cfg.proj_relu else (lambda t: t)
    q, k, v = (act(e @ maps[part].T + biases[part]) for part in "qkv")
    heads = []
    for own in (slice(0, 4), slice(4, 8)):
        scores = q[:, own] @ k[:, own].T / (math.sqrt(4) if cfg.scale else 1.0)
        heads.append(torch.softmax(scores, 1) @ v[:, own])
    z = torch.cat(heads, 1)
    if cfg.res == "always" or (cfg.res == "if_needed" and e.shape[1] != 8):
        z = z + act(F.linear(e, layer.residual.weight, layer.residual.bias))
    elif cfg.res == "if_needed":
        z = z + e
    if cfg.norm == "none":
        return z.relu()
    order = (
        (lambda t: layer_norm(layer, t).relu())
        if cfg.norm == "pre_relu"
        else (lambda t: layer_norm(layer, t.relu()))
    )
    return order(z)


def layer_norm(layer: InteractingLayer, z: torch.Tensor) -> torch.Tensor:
    variance = z.var(1, unbiased=False, keepdim=True)
    standard = (z - z.mean(1, keepdim=True)) / torch.sqrt(variance + layer.cfg.norm_eps)
    return standard * layer.norm.weight + layer.norm.bias


@pytest.mark.parametrize("inputs", [4, 8])
@pytest.mark.parametrize("name", PRESETS)
def test_layer_equals_its_equations(name, inputs):
    layer, x = layer_and_input(name, inputs)
    expected = torch.stack([by_equations(layer, row) for row in x])
    torch.testing.assert_close(layer(x, 0.0), expected)


@pytest.mark.parametrize("name", PRESETS)
def test_permuting_fields_permutes_the_layer(name):
    layer, x = layer_and_input(name, 4)
    order = torch.randperm(5)
    torch.testing.assert_close(layer(x[:, order], 0.0), layer(x, 0.0)[:, order])


def test_without_queries_attention_is_uniform():
    layer, x = layer_and_input("autoint.paper", 4)
    with torch.no_grad():
        layer.project.weight[:8] = 0.0
    out, weights = layer.explain(x)
    torch.testing.assert_close(weights, torch.full_like(weights, 1 / 5))
    values = x @ layer.project.weight[16:].T
    expected = values.mean(1, keepdim=True) + x @ layer.residual.weight.T
    torch.testing.assert_close(out, expected.relu())


def test_hand_example():
    """Fields (1, 0) and (1, 2), all matrices the identity: weights and output on paper."""
    model = create(
        "autoint.paper", toys.one_hot_schema(2, 2), layers=1, heads=1, attention_dim=2, embedding={"dim": 2}
    ).double()
    model.embedding.load_rows("c0", torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
    model.embedding.load_rows("c1", torch.tensor([[0.0, 0.0], [1.0, 2.0]]))
    with torch.no_grad():
        model.layers[0].project.weight.copy_(torch.eye(2).repeat(3, 1))
        model.layers[0].residual.weight.copy_(torch.eye(2))
    x = Inputs(torch.ones(1, 2, dtype=torch.int32), torch.zeros(1, 0), {})
    attention = model.explain(x)["attention"]
    assert attention.shape == (1, 1, 1, 2, 2)
    # scores [[1, 1], [1, 5]]: 1 / (1 + e^4) = 0.01799
    expected = torch.tensor([[0.5, 0.5], [0.01799, 0.98201]], dtype=torch.float64)
    torch.testing.assert_close(attention[0, 0, 0], expected, rtol=0, atol=5e-6)
    out = model.layers[0](model.embedding(x), 0.0)
    expected = torch.tensor([[[2.0, 1.0], [2.0, 3.96403]]], dtype=torch.float64)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)


def test_without_layers_it_is_linear_in_the_vectors():
    model = create("autoint", toys.MIXED, layers=0, embedding=WIDE)
    x = toys.inputs(toys.MIXED, 9)
    torch.testing.assert_close(model(x), model.embedding.flat(x) @ model.out.weight[0] + model.out.bias)
    assert model.explain(x) == {}


@pytest.mark.parametrize("preset", ["paper", "official", "fuxi"])
def test_autoint_plus_adds_the_mlp_and_wide_the_first_order_term(preset):
    plus = create(f"autoint.plus.{preset}", toys.MIXED, wide=True, embedding=WIDE)
    plain = create(f"autoint.{preset}", toys.MIXED, embedding=WIDE)
    own = {k: v for k, v in plus.state_dict().items() if not k.startswith(("mlp", "linear"))}
    plain.load_state_dict(own)
    x = toys.inputs(toys.MIXED, 9)
    expected = plain(x) + plus.mlp(plus.embedding.flat(x)).squeeze(1) + plus.linear(x)
    torch.testing.assert_close(plus(x), expected)
    assert plus.linear.bias is None


def test_bag_with_one_id_equals_the_one_hot_column():
    schema = toys.schema(toys.categorical("a", 6), toys.categorical("b", 9))
    bagged = toys.schema(toys.categorical("a", 6), toys.bag("b", 9, 4))
    one, other = (create("autoint", s, seed=1, embedding=WIDE) for s in (schema, bagged))
    other.load_state_dict(one.state_dict())
    x = toys.inputs(schema, 9)
    bag = F.pad(x.ids[:, 1:], (1, 2))
    assert torch.equal(other(Inputs(x.ids[:, :1], x.numeric, {"b": bag})), one(x))


def test_missing_number_is_a_zero_vector():
    schema = toys.schema(toys.numeric("a"), toys.categorical("b", 9))
    model = create("autoint", schema, embedding=WIDE)
    x = toys.inputs(schema, 9)
    silent = Inputs(x.ids, torch.zeros(9, 1), {})
    assert not model.embedding(silent)[:, 0].any()
    nn.init.zeros_(model.embedding.numeric["4"])
    assert torch.equal(model(silent), model(x))


def criteo_shape():
    fields = [toys.numeric(f"i{n}") for n in range(13)] + [toys.categorical(f"c{n}", 3) for n in range(26)]
    return toys.schema(*fields)


def test_parameters_of_the_authors_criteo_run():
    """3 layers of 64 on 39 fields of width 16: 40,513 outside the table; an MLP of 400, 400 adds 410,801."""
    counts = {}
    for name in ("autoint.official", "autoint.plus.official"):
        model = create(name, criteo_shape())
        counts[name] = sum(p.numel() for k, p in model.named_parameters() if not k.startswith("embedding."))
    assert counts == {"autoint.official": 40_513, "autoint.plus.official": 40_513 + 410_801}


def test_initial_weights_of_the_presets():
    official, fuxi = (create(f"autoint.{p}", criteo_shape(), layers=2) for p in ("official", "fuxi"))
    assert official.embedding.matrix("c0")[1:].std() > 1e-3 > fuxi.embedding.matrix("c0")[1:].std()
    bound = math.sqrt(6 / (64 + 64))
    weights = {"official": official.layers[1].project.weight, "fuxi": fuxi.layers[1].project.weight}
    assert bound / 1.01 < weights["official"].abs().max() <= bound  # Glorot uniform
    assert weights["fuxi"].abs().max() > bound  # normal
    assert weights["fuxi"].std().item() == pytest.approx(math.sqrt(2 / 128), rel=0.03)
    assert not official.layers[0].project.bias.any()
    assert official.out.bias.item() != 0.0
    assert fuxi.out.bias.item() == 0.0


def test_residual_has_weights_only_where_the_width_changes():
    model = create("autoint.fuxi", toys.MIXED, layers=3, attention_dim=8)
    assert [layer.residual is None for layer in model.layers] == [False, True, True]
    without = create("autoint.fuxi", toys.MIXED, layers=3, attention_dim=8, res="none")
    assert all(layer.residual is None for layer in without.layers)
    layer, x = layer_and_input("autoint.paper", 8, res="none")
    torch.testing.assert_close(layer(x, 0.0), torch.stack([by_equations(layer, row) for row in x]))


def test_attention_maps_are_those_before_dropout_in_any_mode():
    model = create(
        "autoint", toys.MIXED, layers=2, heads=4, embedding=WIDE, attention_dropout=0.5, embedding_dropout=0.5
    )
    x = toys.inputs(toys.MIXED, 9)
    maps = model.eval().explain(x)["attention"]
    assert maps.shape == (2, 9, 4, 4, 4)
    assert not maps.requires_grad
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, 9, 4, 4))
    assert torch.equal(model.train().explain(x)["attention"], maps)
    assert model.training
    first = model.layers[0].explain(model.embedding(x))[1]
    torch.testing.assert_close(
        maps[0, 2, 1, 3, 0], first[1, 2, 0, 3]
    )  # row 2, head 1: field 3 draws from field 0


@pytest.mark.parametrize("setting", ["attention_dropout", "embedding_dropout", "dropout"])
def test_each_dropout_acts_in_training_only(setting):
    model = create("autoint.plus", toys.MIXED, embedding=WIDE, **{setting: 0.5})
    still = create("autoint.plus", toys.MIXED, embedding=WIDE)
    x = toys.inputs(toys.MIXED, 9)
    assert not torch.equal(model(x), model(x))
    assert torch.equal(still(x), still(x))
    assert torch.equal(model.eval()(x), model(x))


def test_width_must_split_into_heads():
    with pytest.raises(
        InputError, match="attention_dim=10 is not divisible by heads=4; choose a multiple of 4"
    ):
        create("autoint", toys.MIXED, attention_dim=10, heads=4)
