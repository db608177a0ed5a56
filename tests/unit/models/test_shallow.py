"""LR and FM against their equations."""

from __future__ import annotations

import pytest
import torch

from recsys_zoo import create
from recsys_zoo.batch import Inputs
from recsys_zoo.errors import InputError
from tests import toys

NO_NUMERIC = torch.zeros(1, 0)


def test_lr_hand_example():
    """w = (0.2, -0.1), b = 0.3: logit 0.4."""
    model = create("lr", toys.one_hot_schema(2, 3))
    model.linear.embedding.load_rows("c0", torch.tensor([[0.0], [0.2], [9.0]]))
    model.linear.embedding.load_rows("c1", torch.tensor([[0.0], [9.0], [-0.1]]))
    with torch.no_grad():
        model.linear.bias.fill_(0.3)
    assert model(Inputs(torch.tensor([[1, 2]]), NO_NUMERIC, {})).item() == pytest.approx(0.4)


def three_fields(model) -> Inputs:
    """Fields with vectors (1, 2), (3, -1), (0, 1) and no first-order weights."""
    for name, vector in (("c0", [1.0, 2.0]), ("c1", [3.0, -1.0]), ("c2", [0.0, 1.0])):
        model.embedding.load_rows(name, torch.tensor([[0.0, 0.0], vector]))
        model.linear.embedding.load_rows(name, torch.zeros(2, 1))
    return Inputs(torch.ones(1, 3, dtype=torch.int32), NO_NUMERIC, {})


def test_fm_hand_example():
    model = create("fm", toys.one_hot_schema(3, 2), embedding={"dim": 2})
    assert model(three_fields(model)).item() == pytest.approx(2.0)


def test_fm_equals_the_double_loop():
    model = create("fm", toys.MIXED, embedding={"dim": 5, "init_std": 0.5})
    x = toys.inputs(toys.MIXED, 20)
    e = model.embedding(x)
    pairs = sum((e[:, i] * e[:, j]).sum(1) for i in range(4) for j in range(i + 1, 4))
    torch.testing.assert_close(model(x), model.linear(x) + pairs)


def test_fm_without_vectors_is_lr():
    fm, lr = (create(name, toys.MIXED, seed=1, embedding={"init_std": 0.5}) for name in ("fm", "lr"))
    lr.linear.load_state_dict(fm.linear.state_dict())
    for parameter in fm.embedding.parameters():
        torch.nn.init.zeros_(parameter)
    x = toys.inputs(toys.MIXED, 20)
    torch.testing.assert_close(fm(x), lr(x), rtol=0, atol=0)


def test_fm_does_not_depend_on_the_order_of_columns():
    model = create("fm", toys.one_hot_schema(5, 7), embedding={"dim": 3, "init_std": 0.5})
    order = [3, 1, 4, 0, 2]
    other = create("fm", toys.one_hot_schema(5, 7), embedding={"dim": 3})
    for place, source in enumerate(order):
        for layer in (lambda m: m.embedding, lambda m: m.linear.embedding):
            layer(other).load_rows(f"c{place}", layer(model).matrix(f"c{source}"))
    x = toys.inputs(toys.one_hot_schema(5, 7), 20)
    torch.testing.assert_close(other(Inputs(x.ids[:, order], x.numeric, {})), model(x))


def test_fm_has_n_times_d_plus_1_parameters_and_a_bias():
    assert create("fm", toys.frappe_shape(), embedding={"dim": 10}).num_parameters() == 5389 * 11 + 1


@pytest.mark.parametrize("name", ["fm", "deepfm", "autoint"])
def test_models_of_vector_products_need_equal_widths(name):
    with pytest.raises(InputError, match="equal width"):
        create(name, toys.MIXED, embedding={"dim": 4, "widths": {"user": 6}})


@pytest.mark.parametrize("name", ["lr", "dnn", "wide_deep", "dcnv2"])
def test_other_models_take_any_widths(name):
    model = create(name, toys.MIXED, embedding={"dim": 4, "widths": {"user": 6, "tags": 3}})
    assert model(toys.inputs(toys.MIXED, 5)).shape == (5,)
