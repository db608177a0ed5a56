"""FinalNet: interaction layers, field gate, self-distillation, degree and published counts."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from recsys_zoo import create
from recsys_zoo.errors import InputError
from recsys_zoo.models.ctr.finalnet import FactorisedInteraction, FieldGate
from recsys_zoo.nn.activation import ReLUDropout
from tests import toys

WIDE = {"dim": 4, "init_std": 0.5}


def make(name: str = "finalnet", **settings):
    sizes = {"hidden": (6, 8), "second_hidden": (10,)}
    return create(name, toys.MIXED, seed=1, embedding=WIDE, **{**sizes, **settings})


def test_interaction_hand_example():
    """x = (1, 2), W x + b = (3, -1 | 2, 4): concat (3, -1, 6, -4), sum (9, -5)."""
    for residual, width, expected in (("concat", 4, [3.0, -1.0, 6.0, -4.0]), ("sum", 2, [9.0, -5.0])):
        layer = FactorisedInteraction(2, width, residual)
        with torch.no_grad():
            layer.linear.weight.copy_(torch.tensor([[1.0, 1], [1, -1], [0, 1], [2, 0]]))
            layer.linear.bias.copy_(torch.tensor([0.0, 0, 0, 2]))
        torch.testing.assert_close(layer(torch.tensor([[1.0, 2.0]])), torch.tensor([expected]))


@pytest.mark.parametrize("residual", ["concat", "sum"])
def test_blocks_equal_their_equations(residual):
    model = make(residual=residual, activation="relu", field_gate=True).eval()
    nn.init.normal_(model.gate.linear.weight)
    x = toys.inputs(toys.MIXED, 9)
    e = model.embedding(x)
    gates = torch.einsum("bfd,gf->bgd", e, model.gate.linear.weight) + model.gate.linear.bias[:, None]
    h = torch.cat([e, e * gates], 1).reshape(9, 32)
    for place in (0, 3):
        linear, norm = model.block[place].linear, model.block[place + 1]
        h2, h1 = (h @ linear.weight.T + linear.bias).chunk(2, 1)
        h = torch.cat([h2, h1 * h2], 1) if residual == "concat" else h2 + h1 * h2
        h = (h / (1 + norm.eps) ** 0.5).relu()  # fresh running statistics: mean 0, variance 1
    out = model.block[6]
    first = h @ out.weight[0] + out.bias
    second = model.second_block(e.reshape(9, 16)).squeeze(1)
    assert not any(isinstance(layer, ReLUDropout) for layer in model.second_block)
    torch.testing.assert_close(model(x), (first + second) / 2)


def test_gate_starts_as_a_copy():
    e = torch.randn(3, 5, 2)
    assert torch.equal(FieldGate(5)(e), torch.cat([e, e], 1))


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_each_layer_doubles_the_degree(layers):
    """The (2^layers + 1)-th difference of t -> block(t x) vanishes, the one before does not."""
    model = make("finalnet.one", hidden=(6,) * layers, batch_norm=False).double()
    x = torch.randn(1, 16, dtype=torch.float64)
    degree = 2**layers
    t = torch.linspace(-1, 1, degree + 3, dtype=torch.float64).unsqueeze(1)
    values = model.block(t * x)
    for _ in range(degree):
        values = values.diff(dim=0)
    assert values.abs().min() > 1e-9
    # differences of order 9 of values of about 1 lose 2^9 units in the last place
    torch.testing.assert_close(values.diff(dim=0), torch.zeros(2, 1, dtype=torch.float64), rtol=0, atol=1e-12)


def test_distillation_terms_are_those_of_the_paper_and_teach_towards_the_mean():
    model = make(batch_norm=False).double()
    x = toys.inputs(toys.MIXED, 9)
    x.numeric = x.numeric.double()
    logits, parts = model.train_forward(x)
    y1, y2 = model.block_logits(x)
    torch.testing.assert_close(logits, (y1 + y2) / 2)
    p = torch.sigmoid(logits).float().double()  # the terms are computed in single precision
    for name, y in (("first_distilled", y1), ("second_distilled", y2)):
        q = torch.sigmoid(y)
        expected = -(p * q.log() + (1 - p) * (1 - q).log()).mean()
        assert parts[name].item() == pytest.approx(expected.item(), rel=1e-5)
    gradient = torch.autograd.grad(parts["first_distilled"], model.block[-1].bias)[0]
    # p gets no gradient: d/dy1 = (p1 - p) / rows
    assert gradient.item() == pytest.approx((torch.sigmoid(y1) - p).mean().item(), rel=1e-4)


def test_one_block_has_no_further_terms():
    model = make("finalnet.one")
    logits, parts = model.train_forward(toys.inputs(toys.MIXED, 9))
    assert parts == {}
    assert model.second_block is None
    assert logits.shape == (9,)


def test_equal_blocks_lose_only_the_entropy():
    model = make(batch_norm=False, hidden=(10,))
    model.second_block.load_state_dict(model.block.state_dict())
    logits, parts = model.train_forward(toys.inputs(toys.MIXED, 9))
    p = logits.sigmoid()
    entropy = F.binary_cross_entropy(p, p)
    torch.testing.assert_close(parts["first_distilled"], entropy)
    torch.testing.assert_close(parts["second_distilled"], entropy)


@pytest.mark.parametrize(
    ("name", "settings", "published"),
    [
        ("finalnet.one", {"hidden": (400, 400)}, 256_791),
        ("finalnet.two", {"hidden": (400, 400), "second_hidden": (400,), "field_gate": True}, 338_502),
    ],
)
def test_counts_of_the_published_runs(name, settings, published):
    """FuxiCTR 2 counts ten padding rows of width 10."""
    model = create(name, toys.frappe_shape(), embedding={"dim": 10}, **settings)
    assert model.num_parameters() + 100 == published


def test_odd_widths_cannot_be_concatenated():
    with pytest.raises(InputError, match="width 7 has no halves to concatenate; choose an even number"):
        make(hidden=(7,))
    assert make(hidden=(7,), residual="sum")(toys.inputs(toys.MIXED, 3)).shape == (3,)
