"""FinalMLP: fusion, gates, reductions and the published count."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recsys_zoo import create
from recsys_zoo.errors import InputError
from recsys_zoo.models.ctr.finalmlp import Fusion
from tests import toys

WIDE = {"dim": 4, "init_std": 0.5}
SMALL = {"hidden": (6, 4), "second_hidden": (8,), "heads": 2, "gate_hidden": (5,)}


def make(**settings):
    return create("finalmlp", toys.MIXED, seed=1, embedding=WIDE, **{**SMALL, **settings})


def test_fusion_hand_example():
    """o1 = (1, 2), o2 = (3, 1), W the identity, all else 0: 5."""
    fusion = Fusion(2, 2, 1)
    with torch.no_grad():
        fusion.first.weight.zero_()
        fusion.second.weight.zero_()
        fusion.weight.copy_(torch.eye(2).unsqueeze(0))
    assert fusion(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 1.0]])).item() == 5.0


@pytest.mark.parametrize("heads", [1, 2, 3])
def test_fusion_equals_the_loop_over_heads(heads):
    fusion, o1, o2 = Fusion(6, 12, heads).double(), torch.randn(7, 6).double(), torch.randn(7, 12).double()
    nn.init.normal_(fusion.first.bias)
    nn.init.normal_(fusion.second.bias)
    expected = []
    for a, b in zip(o1, o2, strict=True):
        logit = (fusion.first(a) + fusion.second(b)).squeeze()
        for h in range(heads):
            n, m = 6 // heads, 12 // heads
            logit = logit + a[h * n : h * n + n] @ fusion.weight[h] @ b[h * m : h * m + m]
        expected.append(logit)
    torch.testing.assert_close(fusion(o1, o2), torch.stack(expected))


def test_without_the_bilinear_form_it_is_the_sum_of_two_mlps():
    model = make(gates=False)
    nn.init.zeros_(model.fusion.weight)
    x = toys.inputs(toys.MIXED, 9)
    x0 = model.embedding.flat(x)
    logits = []
    for mlp, out, hidden in (
        (model.mlp, model.fusion.first, (6, 4)),
        (model.second_mlp, model.fusion.second, (8,)),
    ):
        deep = create("dnn", toys.MIXED, embedding=WIDE, hidden=hidden)
        last = {f"layers.{2 * len(hidden)}.{k}": v for k, v in out.state_dict().items()}
        deep.mlp.load_state_dict({**mlp.state_dict(), **last})
        logits.append(deep.mlp(x0).squeeze(1))
    torch.testing.assert_close(model(x), logits[0] + logits[1])


def test_gates_multiply_the_inputs_by_twice_a_sigmoid():
    model = make(context=("user", "tags"), second_context=())
    x = toys.inputs(toys.MIXED, 9)
    x0 = model.embedding.flat(x)
    context = model.gate.embedding.flat(x)
    assert context.shape == (9, 8)
    hidden = (context @ model.gate.mlp.layers[0].weight.T).relu()
    gate = 2 * torch.sigmoid(hidden @ model.gate.mlp.layers[2].weight.T)
    second = 2 * torch.sigmoid(model.second_gate.mlp(model.second_gate.vector))
    expected = model.fusion(model.mlp(x0 * gate), model.second_mlp(x0 * second))
    torch.testing.assert_close(model(x), expected)


def test_gates_start_near_one():
    model = create("finalmlp", toys.MIXED, context=("user",))
    x = toys.inputs(toys.MIXED, 9)
    for gate in (model.gate, model.second_gate):
        assert (gate(x) - 1).abs().max() < 0.1
        assert not torch.equal(gate(x), torch.ones_like(gate(x)))


def test_contexts_have_embeddings_of_their_own():
    model = make(context=("user",))
    tables = [t.weight for e in (model.embedding, model.gate.embedding) for t in e.tables()]
    assert len({t.data_ptr() for t in tables}) == 2


def frappe_of_fuxi_2():
    """Vocabularies of FuxiCTR 2 on Frappe_x1, padding included (from a public log)."""
    sizes = {"user": 956, "item": 4084, "daytime": 9, "weekday": 9, "isweekend": 4, "homework": 5, "cost": 4}
    sizes |= {"weather": 11, "country": 82, "city": 235}
    return toys.schema(*(toys.categorical(name, size) for name, size in sizes.items()))


def test_count_of_the_published_run():
    """253,392 with a padding row of width 10 in each of ten tables and two of the contexts."""
    model = create(
        "finalmlp",
        frappe_of_fuxi_2(),
        embedding={"dim": 10},
        hidden=(400,),
        batch_norm=True,
        second_hidden=(100,),
        second_batch_norm=True,
        heads=5,
        gate_hidden=(400,),
        context=("user",),
        second_context=("item",),
    )
    assert model.num_parameters() + 12 * 10 == 253_392


def test_bad_settings_are_refused():
    with pytest.raises(InputError, match="of hidden, 4, is not divisible by heads=3; choose a multiple of 3"):
        make(heads=3)
    with pytest.raises(InputError, match="second_hidden, 7"):
        make(second_hidden=(7,))
    with pytest.raises(InputError, match="usr"):
        make(context=("usr",))
