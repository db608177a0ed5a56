"""QNN: quadratic layers, heads, the self-ensemble loss and the counts of the authors' logs."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from recsys_zoo import create
from recsys_zoo.errors import InputError
from recsys_zoo.models.ctr.qnn import QNNConfig, QuadraticLayer
from tests import toys

WIDE = {"dim": 4, "init_std": 0.5}


def make(**settings):
    return create("qnn", toys.MIXED, seed=1, embedding=WIDE, **settings)


def test_layer_hand_example():
    """x = (1, 2), W_1 = I, W_2 = -I, b_2 = (3, 0): maps (1, 2) and (2, 0); x * (3, 2) + x = (4, 6)."""
    layer = QuadraticLayer(1, 2, QNNConfig(rows=2))
    with torch.no_grad():
        layer.linear.weight.copy_(torch.cat([torch.eye(2), -torch.eye(2)]))
        layer.linear.bias.copy_(torch.tensor([0.0, 0.0, 3.0, 0.0]))
    torch.testing.assert_close(layer(torch.tensor([[1.0, 2.0]])), torch.tensor([[4.0, 6.0]]))


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_layer_equals_the_loop(rows, heads):
    """Number n of the output meets number n of the input read head by head, and the maps of its head."""
    layer, x = QuadraticLayer(3, 4, QNNConfig(rows=rows, heads=heads)), torch.randn(7, 12)
    nn.init.normal_(layer.linear.bias)
    h = layer.linear(x).relu()
    columns, size, width = [], 4 // heads, 12 // heads
    for head in range(heads):
        for field in range(3):
            for k in range(size):
                place = field * size + k
                maps = sum(h[:, (head * rows + r) * width + place] for r in range(rows))
                first = x[:, field * 4 + head * size + k]
                columns.append(first * maps + x[:, head * width + place])
    torch.testing.assert_close(layer(x), torch.stack(columns, 1))


def test_closed_maps_leave_a_linear_model():
    model = make()
    for layer in model.layers:
        nn.init.zeros_(layer.linear.weight)
        nn.init.constant_(layer.linear.bias, -1.0)
    x = toys.inputs(toys.MIXED, 9)
    expected = model.embedding.flat(x) @ model.out.weight[0] + model.out.bias
    torch.testing.assert_close(model(x), expected)


def test_open_maps_of_one_row_are_cross_layers_on_themselves():
    """With all maps open: x_{l+1} = x_l * (W x_l + b) + x_l."""
    model = make(rows=1, layers=2).double()
    for layer in model.layers:
        nn.init.constant_(layer.linear.bias, 100.0)
        nn.init.normal_(layer.linear.weight, std=1e-3)
    x = toys.inputs(toys.MIXED, 9)
    x.numeric = x.numeric.double()
    h = model.embedding.flat(x)
    for layer in model.layers:
        h = h * (h @ layer.linear.weight.T + 100.0) + h
    torch.testing.assert_close(model(x), h @ model.out.weight[0] + model.out.bias)


def test_without_dropout_the_passes_are_equal_and_add_the_entropy():
    model = make()
    x = toys.inputs(toys.MIXED, 9)
    logits, parts = model.train_forward(x)
    torch.testing.assert_close(logits, model(x), rtol=1e-5, atol=1e-6)  # through log p and back
    p = logits.sigmoid()
    for name in ("first_distilled", "second_distilled"):
        torch.testing.assert_close(parts[name], F.binary_cross_entropy(p, p))


def test_self_ensemble_is_the_mean_probability_of_two_masks():
    model = make(dropout=0.5, layers=1, rows=1)  # logits of about 1, or 1 - p has no digits
    x = toys.inputs(toys.MIXED, 9)
    torch.manual_seed(5)
    first, second = model(x), model(x)
    assert not torch.equal(first, second)
    torch.manual_seed(5)
    logits, parts = model.train_forward(x)
    p1, p2 = first.sigmoid(), second.sigmoid()
    p = (p1 + p2) / 2
    torch.testing.assert_close(logits.sigmoid(), p)
    for name, q in (("first_distilled", p1), ("second_distilled", p2)):
        torch.testing.assert_close(parts[name], F.binary_cross_entropy(q, p.detach()))
    bias = model.out.bias
    gradient = torch.autograd.grad(parts["first_distilled"], bias, retain_graph=True)[0]
    # p gets no gradient: d/d logit = (p1 - p) / rows
    torch.testing.assert_close(gradient[0], (p1 - p).mean().detach(), rtol=1e-4, atol=1e-7)


def test_large_logits_stay_finite():
    model = make()
    nn.init.constant_(model.out.bias, 1e4)
    logits, parts = model.train_forward(toys.inputs(toys.MIXED, 9))
    assert torch.isfinite(logits).all()
    assert all(torch.isfinite(part) for part in parts.values())
    logits.sum().backward()
    assert torch.isfinite(model.out.bias.grad).all()


def test_self_ensemble_can_be_left_out():
    model = make(self_ensemble=False, dropout=0.5)
    assert model.train_forward(toys.inputs(toys.MIXED, 9))[1] == {}


def test_dropout_acts_in_training_only():
    model = make(dropout=0.5, batch_norm=True).eval()
    x = toys.inputs(toys.MIXED, 9)
    assert torch.equal(model(x), model(x))


@pytest.mark.parametrize(
    ("fields", "settings", "published", "rows"),
    [
        (39, {"layers": 4, "rows": 5}, 22_372_577, 910_747),
        (10, {"layers": 2, "rows": 13, "batch_norm": True}, 764_369, 5_383),
    ],
    ids=["criteo_x4", "frappe_x1"],
)
def test_counts_of_the_authors_logs(fields, settings, published, rows):
    """Outside the tables, whose rows (padding included) the logs list by field."""
    model = create("qnn", toys.one_hot_schema(fields, 2), embedding={"dim": 16}, **settings)
    network = sum(p.numel() for k, p in model.named_parameters() if not k.startswith("embedding."))
    assert network == published - rows * 16


def test_vectors_must_split_into_heads():
    with pytest.raises(InputError, match=r"embedding\.dim=4 is not divisible by heads=3; choose a multiple"):
        make(heads=3)
