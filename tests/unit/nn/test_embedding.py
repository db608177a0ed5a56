"""The embedding layer: the rows a column reads, and how they are pooled, shared, frozen, replaced, baked."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from recsys_zoo.batch import Inputs
from recsys_zoo.errors import InputError, UnknownName
from recsys_zoo.nn.embedding import Embedding, EmbeddingConfig, FirstOrder
from tests import toys

SCHEMA = toys.schema(
    toys.bag("tags", 8, 4),
    toys.categorical("user", 12),
    toys.numeric("price"),
    toys.categorical("item", 9),
    toys.bag("seen", 9, 3, share_with="item"),
    toys.numeric("age"),
    toys.categorical("last", 9, share_with="item"),
)
STORES = ["dense", "hashed", "quotient_remainder"]


def embedding(**settings) -> Embedding:
    return Embedding(SCHEMA, EmbeddingConfig(**{"dim": 4, "init_std": 0.5, **settings}))


def by_hand(layer: Embedding, x: Inputs) -> list[torch.Tensor]:
    """The vector of each column in schema order, from the matrices of the vocabularies alone."""
    vectors = []
    for column in SCHEMA.columns:
        if column.kind == "numeric":
            place = [c.name for c in SCHEMA.of("numeric")].index(column.name)
            width = str(layer.cfg.widths.get(column.name, layer.cfg.dim))
            among = [c.name for c in SCHEMA.of("numeric") if layer.cfg.widths.get(c.name, 4) == int(width)]
            vectors.append(x.numeric[:, [place]] * layer.numeric[width][among.index(column.name)])
        elif column.kind == "categorical":
            place = [c.name for c in SCHEMA.of("categorical")].index(column.name)
            vectors.append(layer.matrix(column.name)[x.ids[:, place].long()])
        else:
            rows = [[i for i in row if i] for row in x.bags[column.name].tolist()]
            matrix = layer.matrix(column.name)
            zero = torch.zeros(1, matrix.shape[1])
            pooled = [torch.cat([zero, matrix[row]]).sum(0) for row in rows]
            counts = [max(len(row), 1) if layer.cfg.pooling == "mean" else 1 for row in rows]
            vectors.append(torch.stack(pooled) / torch.tensor(counts).unsqueeze(1))
    return vectors


@pytest.mark.parametrize("pooling", ["mean", "sum"])
@pytest.mark.parametrize("store", STORES)
def test_vectors_stand_in_schema_order(store, pooling):
    layer = embedding(store={"name": store, "buckets": 4}, pooling=pooling)
    x = toys.inputs(SCHEMA, 20)
    assert (x.bags["tags"] == 0).all(1).any()  # an empty bag is among them
    expected = torch.stack(by_hand(layer, x), 1)
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer.flat(x), expected.flatten(1))
    assert (layer.num_fields, layer.dim, layer.flat_dim) == (7, 4, 28)


def test_widths_may_differ_where_vectors_are_flattened():
    layer = embedding(widths={"user": 7, "price": 2, "tags": 1})
    x = toys.inputs(SCHEMA, 20)
    expected = torch.cat(by_hand(layer, x), 1)
    assert expected.shape == (20, layer.flat_dim) == (20, 1 + 7 + 2 + 4 + 4 + 4 + 4)
    torch.testing.assert_close(layer.flat(x), expected)
    with pytest.raises(InputError, match=r"equal width, got \[1, 2, 4, 7\]"):
        _ = layer.dim


def test_each_value_has_a_row_of_its_own():
    layer = embedding()
    rows = torch.cat([layer.matrix(name)[1:] for name in ("tags", "user", "item")])
    assert len(rows.unique(dim=0)) == len(rows) == 7 + 11 + 8 == SCHEMA.table_size
    (table,) = layer.tables()
    assert table.weight.shape == (1 + 26, 4)


def test_shared_columns_read_and_train_the_same_rows():
    layer = embedding()
    assert torch.equal(layer.matrix("seen"), layer.matrix("item"))
    x = toys.inputs(SCHEMA, 1)
    x.ids[:] = 2
    x.ids[0, 2] = 5  # user, item, last
    x.bags["seen"][:] = torch.tensor([5, 5, 0])
    layer(x)[0, :, 0].sum().backward()
    grad = layer.tables()[0].weight.grad[:, 0]
    item = layer.groups[layer.group_of["item"]].starts["item"]
    assert grad[item + 5] == 2.0  # once by `last`, once by the mean of `seen`
    assert grad[item + 2] == 1.0


def test_numeric_column_scales_its_vector():
    layer = embedding()
    x = toys.inputs(SCHEMA, 3)
    doubled = Inputs(x.ids, 2 * x.numeric, x.bags)
    price = 2
    assert torch.equal(layer(doubled)[:, price], 2 * layer(x)[:, price])
    missing = Inputs(x.ids, torch.zeros_like(x.numeric), x.bags)
    assert not layer(missing)[:, price].any()


def test_bag_with_one_id_equals_the_one_hot_column():
    layer = embedding()
    x = toys.inputs(SCHEMA, 8)
    x.bags["seen"][:] = 0
    x.bags["seen"][:, 1] = x.ids[:, 1]  # the item, in any place
    e = layer(x)
    assert torch.equal(e[:, 4], e[:, 3])


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_integer_type_does_not_matter(dtype):
    layer = embedding()
    x = toys.inputs(SCHEMA, 8)
    cast = Inputs(x.ids.to(dtype), x.numeric, {k: v.to(dtype) for k, v in x.bags.items()})
    assert torch.equal(layer(cast), layer(x))


@pytest.mark.parametrize("store", STORES)
def test_padding_reads_zero_and_is_never_trained(store):
    layer = embedding(store={"name": store, "buckets": 4})
    sgd = torch.optim.SGD(layer.parameters(), lr=1.0)
    for step in range(3):
        x = toys.inputs(SCHEMA, 16, seed=step)
        x.ids[::3] = 0
        layer(x).square().sum().backward()
        sgd.step()
    for name in ("tags", "user", "item"):
        assert not layer.matrix(name)[0].any()
    for table in layer.tables():
        assert not table.weight[0].any()


@pytest.mark.parametrize("store", STORES)
def test_bake_gives_an_equal_dense_layer(store):
    layer = embedding(
        store={"name": store, "buckets": 4, "min_vocab": 8}, widths={"user": 6}, frozen=("item",)
    )
    x = toys.inputs(SCHEMA, 16)
    torch.manual_seed(3)
    expected_draw = torch.rand(1)
    torch.manual_seed(3)
    baked = layer.eval().bake()
    assert torch.equal(torch.rand(1), expected_draw)  # baking takes no random number from training
    torch.testing.assert_close(baked.flat(x), layer.flat(x), rtol=0, atol=0)
    assert sum(len(t.weight) - 1 for t in baked.tables()) == SCHEMA.table_size
    assert not baked.training
    assert [t.weight.requires_grad for t in baked.tables()].count(False) == 1


def test_a_layer_of_some_columns():
    whole = embedding()
    layer = Embedding(SCHEMA, whole.cfg, columns=["seen", "age", "user"])
    for name in ("user", "item"):
        layer.load_rows(name, whole.matrix(name))
    with torch.no_grad():
        layer.numeric["4"].copy_(whole.numeric["4"][1:])
    x = toys.inputs(SCHEMA, 8)
    assert torch.equal(layer(x), whole(x)[:, [1, 4, 5]])
    assert "tags" not in layer.group_of
    with pytest.raises(UnknownName, match="tags"):
        layer.matrix("tags")


def test_frozen_columns_are_not_trained():
    layer = embedding(frozen=("item",))
    trained = [t for t in layer.tables() if t.weight.requires_grad]
    assert [len(t.weight) for t in trained] == [1 + 7 + 11]
    layer.flat(toys.inputs(SCHEMA, 8)).sum().backward()
    assert [t.weight.grad is None for t in layer.tables()].count(True) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frozen": ("seen",)}, "freeze 'item'"),
        ({"frozen": ("price",)}, "'price' has no rows"),
        ({"frozen": ("usr",)}, r"did you mean \['user'\]"),
        ({"widths": {"itm": 3}}, r"did you mean \['item'\]"),
        ({"widths": {"seen": 3}}, "'seen' shares rows with 'item'"),
    ],
)
def test_settings_that_cannot_be_met_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        embedding(**settings)


@pytest.mark.parametrize("bad", [{"dim": 0}, {"widths": {"user": 0}}, {"init_std": -1.0}, {"pooling": "max"}])
def test_settings_out_of_range_are_refused(bad):
    with pytest.raises(ValidationError):
        EmbeddingConfig(**bad)


def test_pretrained_rows():
    layer = embedding()
    values = torch.randn(9, 4)
    layer.load_rows("seen", values)
    assert torch.equal(layer.matrix("item")[1:], values[1:])
    assert not layer.matrix("item")[0].any()  # padding stays zero whatever the file says
    with pytest.raises(InputError, match=r"shape \(8, 4\), the table needs \(9, 4\)"):
        layer.load_rows("item", values[1:])
    with pytest.raises(InputError, match="dense"):
        embedding(store={"name": "hashed", "buckets": 3}).load_rows("item", values)


@pytest.mark.parametrize("std", [1e-4, 0.3])
def test_initial_rows_are_normal(std):
    schema = toys.schema(toys.categorical("a", 4001), toys.numeric("b"))
    layer = Embedding(schema, EmbeddingConfig(dim=16, init_std=std))
    assert layer.matrix("a")[1:].std().item() == pytest.approx(std, rel=0.02)
    assert layer.matrix("a").mean().abs() < std / 10


def test_whole_table_reads_are_refused_where_they_would_lose_gradients():
    layer = embedding()
    layer.tables()[0].taped = True
    with pytest.raises(ValueError, match="autograd"):
        layer.train().matrix("user")
    layer.eval().matrix("user")
    with torch.no_grad():
        layer.train().matrix("user")


def test_first_order_term_by_hand():
    linear = FirstOrder(SCHEMA, EmbeddingConfig(dim=4, widths={"user": 6}, init_std=0.5))
    with torch.no_grad():
        linear.bias.fill_(0.25)
    x = toys.inputs(SCHEMA, 6)
    weights = {name: linear.embedding.matrix(name).squeeze(1).tolist() for name in ("tags", "user", "item")}
    price, age = linear.embedding.numeric["1"].squeeze(1).tolist()
    for row, logit in enumerate(linear(x).tolist()):
        user, item, last = x.ids[row].tolist()
        expected = 0.25 + weights["user"][user] + weights["item"][item] + weights["item"][last]
        expected += price * x.numeric[row, 0].item() + age * x.numeric[row, 1].item()
        for bag, owner in (("tags", "tags"), ("seen", "item")):
            present = [weights[owner][i] for i in x.bags[bag][row].tolist() if i]
            expected += sum(present) / max(len(present), 1)
        assert logit == pytest.approx(expected, abs=1e-5)
    assert FirstOrder(SCHEMA, EmbeddingConfig(), bias=False).bias is None
    assert math.prod(linear.embedding.widths) == 1
