"""AFM against its equations and its reductions to FM and LR."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from recsys_zoo import create
from recsys_zoo.batch import Inputs
from recsys_zoo.errors import InputError
from recsys_zoo.nn.interaction import pair_sum
from tests import toys

WIDE = {"dim": 5, "init_std": 0.5}
PAIRS = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]


def three_fields(model) -> Inputs:
    for name, vector in (("c0", [1.0, 2.0]), ("c1", [3.0, -1.0]), ("c2", [0.0, 1.0])):
        model.embedding.load_rows(name, torch.tensor([[0.0, 0.0], vector]))
        model.linear.embedding.load_rows(name, torch.zeros(2, 1))
    return Inputs(torch.ones(1, 3, dtype=torch.int32), torch.zeros(1, 0), {})


def test_hand_example():
    """Products (3, -2), (0, 2), (0, -1); W = (1, 0), h = 1: scores 3, 0, 0; q = (1, 1): values 1, 2, -1."""
    model = create("afm", toys.one_hot_schema(3, 2), attention_dim=1, embedding={"dim": 2})
    x = three_fields(model)
    with torch.no_grad():
        model.attention.weight.copy_(torch.tensor([[1.0, 0.0]]))
        model.score.weight.fill_(1.0)
        model.out.weight.fill_(1.0)
    total = math.exp(3) + 2
    weights = torch.tensor([[math.exp(3) / total, 1 / total, 1 / total]])
    torch.testing.assert_close(model.explain(x)["attention"], weights)
    assert model(x).item() == pytest.approx((math.exp(3) + 2 - 1) / total)


def test_equals_the_loop_over_pairs():
    model = create("afm", toys.MIXED, attention_dim=3, embedding=WIDE)
    nn.init.normal_(model.attention.bias)
    x = toys.inputs(toys.MIXED, 20)
    e = model.embedding(x)
    products = [e[:, i] * e[:, j] for i, j in PAIRS]
    layer = model.attention
    scores = [(p @ layer.weight.T + layer.bias).clamp(min=0) @ model.score.weight[0] for p in products]
    total = sum(score.exp() for score in scores)
    pooled = sum((score.exp() / total).unsqueeze(1) * p for score, p in zip(scores, products, strict=True))
    torch.testing.assert_close(model(x), model.linear(x) + pooled @ model.out.weight[0])


def test_without_scores_it_is_the_mean_of_the_pairs_and_without_output_lr():
    """The hand example of the specification: FM's pairs by their number, here 2 / 3."""
    model = create("afm", toys.one_hot_schema(3, 2), embedding={"dim": 2})
    x = three_fields(model)
    nn.init.zeros_(model.score.weight)
    nn.init.ones_(model.out.weight)
    assert model(x).item() == pytest.approx(2 / 3)
    model = create("afm", toys.MIXED, embedding=WIDE)
    nn.init.zeros_(model.score.weight)
    nn.init.ones_(model.out.weight)
    x = toys.inputs(toys.MIXED, 20)
    expected = model.linear(x) + pair_sum(model.embedding(x)) / 6
    torch.testing.assert_close(model(x), expected, rtol=1e-5, atol=1e-5)  # FM takes squares of sums
    nn.init.zeros_(model.out.weight)
    torch.testing.assert_close(model(x), model.linear(x))


def test_order_of_columns_does_not_matter():
    schema, order = toys.one_hot_schema(4, 7), [2, 0, 3, 1]
    model, other = (create("afm", schema, embedding=WIDE) for _ in range(2))
    other.load_state_dict(model.state_dict())
    for place, source in enumerate(order):
        for layer in (lambda m: m.embedding, lambda m: m.linear.embedding):
            layer(other).load_rows(f"c{place}", layer(model).matrix(f"c{source}"))
    x = toys.inputs(schema, 20)
    torch.testing.assert_close(other(Inputs(x.ids[:, order], x.numeric, {})), model(x))


@pytest.mark.parametrize("setting", ["attention_dropout", "dropout"])
def test_each_dropout_acts_in_training_only(setting):
    model = create("afm", toys.MIXED, embedding=WIDE, **{setting: 0.5})
    x = toys.inputs(toys.MIXED, 50)
    assert not torch.equal(model(x), model(x))
    assert torch.equal(model.explain(x)["attention"], model.explain(x)["attention"])
    assert torch.equal(model.eval()(x), model(x))


def test_parameters():
    """FM's, W and c (10 x 8 + 8), h (8) and q (10)."""
    model = create("afm", toys.frappe_shape(), attention_dim=8, embedding={"dim": 10})
    assert model.num_parameters() == 59280 + 88 + 8 + 10


def test_one_field_has_no_pairs():
    model = create("afm", toys.schema(toys.categorical("a", 5)), embedding=WIDE)
    x = toys.inputs(model.schema, 6)
    torch.testing.assert_close(model(x), model.linear(x))
    assert model.explain(x)["attention"].shape == (6, 0)


def test_bad_settings_are_refused():
    with pytest.raises(InputError, match="attention_dim = 0"):
        create("afm", toys.MIXED, attention_dim=0)
    with pytest.raises(InputError, match="equal width"):
        create("afm", toys.MIXED, embedding={"dim": 4, "widths": {"user": 6}})
