"""DCNv3: masked crosses of both towers, heads, degree without masks and the counts of the authors' logs."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from recsys_zoo import create
from recsys_zoo.errors import InputError
from recsys_zoo.models.ctr.dcnv3 import CrossTower, DCNv3Config, MaskedCross
from tests import toys
from tests.contract.harness import training_loss

WIDE = {"dim": 4, "init_std": 0.5}


def test_layer_hand_example():
    """x = (1, 2), W = (1, 1), no norm, b = (1, 0): H = 3, mask 3, [3; 9] + b = (4, 9); (1 + 4, 2 + 18)."""
    layer = MaskedCross(2, 0.0, DCNv3Config(layer_norm=False))
    with torch.no_grad():
        layer.linear.weight.fill_(1.0)
        layer.bias.copy_(torch.tensor([1.0, 0.0]))
    x = torch.tensor([[[1.0, 2.0]]])
    torch.testing.assert_close(layer(x, x), torch.tensor([[[5.0, 20.0]]]))


@pytest.mark.parametrize("exponential", [True, False])
@pytest.mark.parametrize("layer_norm", [True, False])
def test_towers_equal_the_recursion(exponential, layer_norm):
    cfg = DCNv3Config(layer_norm=layer_norm, heads=2)
    tower, x0 = CrossTower(6, 3, 0.0, exponential, cfg).double(), torch.randn(7, 2, 6).double()
    logits = []
    for head in range(2):
        x = start = x0[:, head]
        for layer in tower.layers:
            h = x @ layer.linear.weight.T
            mask = (F.layer_norm(h, (3,)) if layer_norm else h).relu()
            x = (x if exponential else start) * (torch.cat([h, h * mask], 1) + layer.bias) + x
        logits.append(x @ tower.out.weight[0] + tower.out.bias)
    torch.testing.assert_close(tower(x0), (logits[0] + logits[1]) / 2)


@pytest.mark.parametrize(("exponential", "layers", "degree"), [(True, 1, 2), (True, 3, 8), (False, 3, 4)])
def test_degree_of_the_towers_without_masks(exponential, layers, degree):
    """Only the half without a mask: its (degree + 1)-th difference in t vanishes, the one before does not."""
    tower = CrossTower(4, layers, 0.0, exponential, DCNv3Config(layer_norm=False)).double()
    with torch.no_grad():
        for layer in tower.layers:
            layer.linear.weight[:, 2:] = 0.0  # H is made from the first half alone
        tower.out.weight[:, 2:] = 0.0
    t = torch.linspace(-1, 1, degree + 3, dtype=torch.float64).reshape(-1, 1, 1)
    values = tower(t * torch.randn(1, 1, 4).double())
    for _ in range(degree):
        values = values.diff(dim=0)
    assert values.abs().min() > 1e-8
    # differences of order 9 of values of about 1 lose 2^9 units in the last place
    torch.testing.assert_close(values.diff(dim=0), torch.zeros(2).double(), rtol=0, atol=1e-11)


def test_logit_is_the_mean_of_the_towers_on_halves_side_by_side():
    model = create("dcnv3", toys.MIXED, embedding=WIDE, heads=2)
    x = toys.inputs(toys.MIXED, 9)
    e = model.embedding(x)
    heads = []
    for head in range(2):
        own = e[:, :, 2 * head : 2 * head + 2]
        heads.append(torch.cat([own[:, :, 0], own[:, :, 1]], 1))
    x0 = torch.stack(heads, 1)
    assert x0.shape == (9, 2, 8)
    torch.testing.assert_close(model(x), (model.deep(x0) + model.shallow(x0)) / 2)


def test_batch_norm_has_a_channel_a_head():
    layer = MaskedCross(6, 0.0, DCNv3Config(heads=2, batch_norm=True, layer_norm=False))
    x = torch.randn(50, 2, 6)
    h = layer.linear(x)
    mean, variance = h.mean((0, 2), keepdim=True), h.var((0, 2), unbiased=False, keepdim=True)
    h = (h - mean) / (variance + 1e-5).sqrt()
    expected = x * (torch.cat([h, h * h.relu()], 2) + layer.bias) + x
    torch.testing.assert_close(layer(x, x), expected)


def test_biases_start_between_0_and_1():
    biases = MaskedCross(1000, 0.0, DCNv3Config()).bias
    assert 0 <= biases.min() < 0.01 < 0.99 < biases.max() < 1


@pytest.mark.parametrize("setting", ["deep_dropout", "shallow_dropout"])
def test_each_dropout_acts_in_training_only(setting):
    model = create("dcnv3", toys.MIXED, embedding=WIDE, **{setting: 0.5})
    x = toys.inputs(toys.MIXED, 9)
    assert not torch.equal(model(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


@pytest.mark.parametrize("weights", ["fixed", "authors"])
def test_tri_bce_equals_its_formula(weights):
    """L + w_d L_d + w_s L_s with w = max(0, L_tower - L), and its gradients with and without that of w."""
    model = create("dcnv3", toys.MIXED, embedding=WIDE, tri_bce=weights)
    x, y = toys.planted(toys.MIXED, 64)
    loss = training_loss(model, x, y)
    e = model.embedding(x).unflatten(2, (1, 2, -1)).permute(0, 2, 3, 1, 4).flatten(2)
    towers = model.deep(e), model.shallow(e)
    mean, *own = (F.binary_cross_entropy_with_logits(z, y) for z in (sum(towers) / 2, *towers))
    expected = mean
    for one in own:
        if one > mean:
            weight = one - mean if weights == "authors" else float((one - mean).detach())
            expected = expected + weight * one
    assert max(own) > mean
    torch.testing.assert_close(loss, expected)
    parameters = list(model.parameters())
    for p, q in zip(*(torch.autograd.grad(v, parameters) for v in (loss, expected)), strict=True):
        torch.testing.assert_close(p, q)


def test_without_tri_bce_there_are_no_terms_beside_the_task_loss():
    model = create("dcnv3", toys.MIXED, tri_bce="none")
    assert model.train_forward(toys.inputs(toys.MIXED, 3))[1] == {}


@pytest.mark.parametrize(
    ("fields", "dim", "settings", "published", "rows"),
    [
        (39, 16, {}, 16_336_626, 910_747),
        (24, 64, {"heads": 4, "batch_norm": True}, 240_735_242, 3_750_999),
    ],
    ids=["criteo_x4", "avazu_x4"],
)
def test_counts_of_the_authors_logs(fields, dim, settings, published, rows):
    """Outside the tables, whose rows (padding included) the logs list by field."""
    schema = toys.one_hot_schema(fields, 2)
    model = create("dcnv3", schema, embedding={"dim": dim}, deep_layers=4, shallow_layers=5, **settings)
    network = sum(p.numel() for k, p in model.named_parameters() if not k.startswith("embedding."))
    assert network == published - rows * dim


def test_vectors_must_split_into_halves_of_heads():
    with pytest.raises(InputError, match=r"embedding\.dim=4 is not divisible by 2 \* heads=6; choose a mul"):
        create("dcnv3", toys.MIXED, embedding={"dim": 4}, heads=3)
    model = create("dcnv3", toys.MIXED, embedding={"dim": 4}, heads=2)
    assert model(toys.inputs(toys.MIXED, 3)).shape == (3,)
