"""DLRM: products of pairs, the numbers' vector, reductions and the published count."""

from __future__ import annotations

import pytest
import torch

from recsys_zoo import create
from recsys_zoo.batch import Inputs
from recsys_zoo.errors import InputError
from tests import toys

WIDE = {"dim": 4, "init_std": 0.5}


def make(schema=toys.MIXED, **settings):
    sizes = {"hidden": (6, 5), "bottom_hidden": (3,)}
    return create("dlrm", schema, seed=1, embedding=WIDE, **{**sizes, **settings})


def test_hand_example():
    """Vectors (1, 2), (3, -1), (0, 1): products 1, 2 and -1 in the order of pairs."""
    model = create("dlrm", toys.one_hot_schema(3, 2), hidden=(), embedding={"dim": 2})
    for name, vector in (("c0", [1.0, 2.0]), ("c1", [3.0, -1.0]), ("c2", [0.0, 1.0])):
        model.embedding.load_rows(name, torch.tensor([[0.0, 0.0], vector]))
    with torch.no_grad():
        model.top.layers[0].weight.copy_(torch.tensor([[1.0, 10.0, 100.0]]))
    x = Inputs(torch.ones(1, 3, dtype=torch.int32), torch.zeros(1, 0), {})
    assert model(x).item() == pytest.approx(1.0 + 20.0 - 100.0)


def numbers_vector(model, x: Inputs) -> torch.Tensor:
    inner, outer = model.bottom[0].layers[0], model.bottom[1].layers[0]
    h = (x.numeric @ inner.weight.T + inner.bias).relu()
    return (h @ outer.weight.T + outer.bias).relu()


@pytest.mark.parametrize("interaction", ["dot", "cat"])
def test_equals_the_loop_over_pairs(interaction):
    model = make(interaction=interaction)
    x = toys.inputs(toys.MIXED, 9)
    number = numbers_vector(model, x)
    v = [*model.embedding(x).unbind(1), number]
    assert len(v) == 4
    if interaction == "dot":
        parts = [(v[i] * v[j]).sum(1, keepdim=True) for i in range(4) for j in range(i + 1, 4)]
        parts.append(number)
    else:
        parts = v
    torch.testing.assert_close(model(x), model.top(torch.cat(parts, 1)).squeeze(1))


def test_numbers_have_no_vectors_in_the_table_layer():
    model = make()
    assert model.embedding.num_fields == 3
    assert not model.embedding.numeric


def test_summing_the_products_is_fm_without_its_linear_part():
    schema = toys.one_hot_schema(4, 6)
    model, fm = make(schema, hidden=()), create("fm", schema, embedding=WIDE)
    fm.embedding.load_state_dict(model.embedding.state_dict())
    torch.nn.init.zeros_(fm.linear.embedding.tables()[0].weight)
    torch.nn.init.ones_(model.top.layers[0].weight)
    x = toys.inputs(schema, 9)
    torch.testing.assert_close(model(x), fm(x))


def test_cat_without_numbers_is_dnn():
    schema = toys.one_hot_schema(4, 6)
    model = make(schema, interaction="cat")
    deep = create("dnn", schema, embedding=WIDE, hidden=(6, 5))
    deep.embedding.load_state_dict(model.embedding.state_dict())
    deep.mlp.load_state_dict(model.top.state_dict())
    x = toys.inputs(schema, 9)
    assert torch.equal(model(x), deep(x))


@pytest.mark.parametrize(
    ("schema", "width"),
    [(toys.schema(toys.bag("b", 6, 3)), 4), (toys.schema(toys.numeric("a"), toys.numeric("b")), 4)],
    ids=["one bag", "numbers only"],
)
def test_a_single_vector_goes_to_the_top_itself(schema, width):
    model = make(schema)
    assert model.top.layers[0].in_features == width
    assert (model.embedding is None) == (not schema.of("bag"))
    assert model(toys.inputs(schema, 5)).shape == (5,)


def test_batch_norm_and_dropout_act_in_training_only():
    model = make(batch_norm=True, bottom_dropout=0.5)
    x = toys.inputs(toys.MIXED, 50)
    assert not torch.equal(model(x), model(x))
    model.eval()
    torch.testing.assert_close(model(x.rows(0, 1)), model(x)[:1])


def test_count_of_the_published_run():
    settings = {"hidden": (400, 400, 400), "batch_norm": True, "interaction": "cat"}
    model = create("dlrm", toys.frappe_shape(), embedding={"dim": 10}, **settings)
    assert model.num_parameters() == 417_891


def test_bad_settings_are_refused():
    with pytest.raises(InputError, match="interaction = 'sum'"):
        make(interaction="sum")
    with pytest.raises(InputError, match="equal width"):
        create("dlrm", toys.MIXED, embedding={"dim": 4, "widths": {"user": 6}})
