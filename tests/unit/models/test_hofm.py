"""HOFM against its equations and its reductions to FM and LR."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import nn

from recsys_zoo import create
from recsys_zoo.batch import Inputs
from recsys_zoo.errors import InputError
from recsys_zoo.models.ctr.hofm import anova
from tests import toys

WIDE = {"dim": 5, "init_std": 0.5}


def by_combinations(e: torch.Tensor, order: int) -> torch.Tensor:
    total = e.new_zeros(len(e))
    for chosen in combinations(range(e.shape[1]), order):
        total = total + e[:, list(chosen)].prod(1).sum(1)
    return total


def test_hand_example():
    """Fields (1, 2), (3, -1), (0, 1): pairs 2, the triple 1*3*0 + 2*(-1)*1 = -2."""
    e = torch.tensor([[[1.0, 2.0], [3.0, -1.0], [0.0, 1.0]]])
    assert [anova(e, order).item() for order in (1, 2, 3, 4)] == [6.0, 2.0, -2.0, 0.0]
    model = create("hofm", toys.one_hot_schema(3, 2), embedding={"dim": 2})
    for place, name in enumerate(("c0", "c1", "c2")):
        model.linear.embedding.load_rows(name, torch.tensor([[0.0], [0.25]]))
        for factor, embedding in zip((1.0, 2.0), model.embeddings, strict=True):
            embedding.load_rows(name, torch.stack([torch.zeros(2), factor * e[0, place]]))
    x = Inputs(torch.ones(1, 3, dtype=torch.int32), torch.zeros(1, 0), {})
    assert model(x).item() == pytest.approx(3 * 0.25 + 2 - 2 * 2**3)


@pytest.mark.parametrize("order", [2, 3, 4, 5])
def test_kernel_equals_the_sum_over_combinations_and_has_its_degree(order):
    e = torch.randn(7, 6, 3, dtype=torch.float64)
    torch.testing.assert_close(anova(e, order), by_combinations(e, order))
    torch.testing.assert_close(anova(3 * e, order), 3**order * anova(e, order))


@pytest.mark.parametrize("share", [False, True])
def test_model_equals_the_sum_over_combinations(share):
    model = create("hofm", toys.MIXED, order=4, share=share, embedding=WIDE)
    x = toys.inputs(toys.MIXED, 20)
    layers = [model.embeddings[0]] * 3 if share else model.embeddings
    total = model.linear(x)
    for order, embedding in zip((2, 3, 4), layers, strict=True):
        total = total + by_combinations(embedding(x), order)
    torch.testing.assert_close(model(x), total)


def test_of_order_two_it_is_fm_and_without_vectors_lr():
    model, fm = create("hofm", toys.MIXED, order=2, embedding=WIDE), create("fm", toys.MIXED, embedding=WIDE)
    fm.embedding.load_state_dict(model.embeddings[0].state_dict())
    fm.linear.load_state_dict(model.linear.state_dict())
    x = toys.inputs(toys.MIXED, 20)
    torch.testing.assert_close(model(x), fm(x), rtol=1e-5, atol=1e-5)  # FM takes squares of sums
    for parameter in model.embeddings.parameters():
        nn.init.zeros_(parameter)
    torch.testing.assert_close(model(x), fm.linear(x))


def test_order_of_columns_does_not_matter():
    e = torch.randn(7, 6, 3, dtype=torch.float64)
    torch.testing.assert_close(anova(e[:, torch.randperm(6)], 3), anova(e, 3))


@pytest.mark.parametrize(("settings", "tables"), [({}, 2), ({"order": 4}, 3), ({"share": True}, 1)])
def test_parameters(settings, tables):
    """n weights, a bias, and n d for each order above the first."""
    model = create("hofm", toys.frappe_shape(), embedding={"dim": 10}, **settings)
    assert model.num_parameters() == 5390 + tables * 53890


def test_orders_above_the_number_of_fields_add_nothing():
    schema = toys.one_hot_schema(2, 5)
    model = create("hofm", schema, order=4, embedding=WIDE)
    low = create("hofm", schema, order=2, embedding=WIDE)
    low.load_state_dict({k: v for k, v in model.state_dict().items() if k in low.state_dict()})
    x = toys.inputs(schema, 9)
    assert torch.equal(model(x), low(x))


def test_bad_settings_are_refused():
    with pytest.raises(InputError, match="order = 1"):
        create("hofm", toys.MIXED, order=1)
    with pytest.raises(InputError, match="equal width"):
        create("hofm", toys.MIXED, embedding={"dim": 4, "widths": {"user": 6}})
