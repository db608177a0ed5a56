"""NFM against its equations and its reductions to FM and LR."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recsys_zoo import create
from recsys_zoo.batch import Inputs
from recsys_zoo.errors import InputError
from tests import toys

WIDE = {"dim": 5, "init_std": 0.5}


def pooled(e: torch.Tensor) -> torch.Tensor:
    return sum(e[:, i] * e[:, j] for i in range(e.shape[1]) for j in range(i + 1, e.shape[1]))


def test_hand_example():
    """Fields (1, 2), (3, -1), (0, 1): z = (3, -1); a last layer of (2, 5) and bias 0.5 gives 1.5."""
    model = create("nfm", toys.one_hot_schema(3, 2), hidden=(), embedding={"dim": 2})
    for name, vector in (("c0", [1.0, 2.0]), ("c1", [3.0, -1.0]), ("c2", [0.0, 1.0])):
        model.embedding.load_rows(name, torch.tensor([[0.0, 0.0], vector]))
        model.linear.embedding.load_rows(name, torch.zeros(2, 1))
    (layer,) = model.mlp.layers
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[2.0, 5.0]]))
        layer.bias.fill_(0.5)
    x = Inputs(torch.ones(1, 3, dtype=torch.int32), torch.zeros(1, 0), {})
    assert model(x).item() == pytest.approx(2 * 3 - 5 * 1 + 0.5)


def test_equals_the_double_loop():
    model = create("nfm", toys.MIXED, hidden=(6, 3), embedding=WIDE)
    for layer in model.mlp.layers:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.bias)
    x = toys.inputs(toys.MIXED, 20)
    h = pooled(model.embedding(x))
    first, _, second, _, last = model.mlp.layers
    for layer in (first, second):
        h = (h @ layer.weight.T + layer.bias).clamp(min=0)
    assert model.linear.bias is None
    # z from squares of sums, the loop sums products
    torch.testing.assert_close(
        model(x), model.linear(x) + (h @ last.weight.T + last.bias)[:, 0], rtol=1e-5, atol=1e-5
    )


def test_with_a_sum_for_mlp_it_is_fm_and_with_a_silent_one_lr():
    model, fm = create("nfm", toys.MIXED, hidden=(), embedding=WIDE), create("fm", toys.MIXED, embedding=WIDE)
    (layer,) = model.mlp.layers
    nn.init.ones_(layer.weight)
    nn.init.constant_(layer.bias, 0.3)
    fm.embedding.load_state_dict(model.embedding.state_dict())
    fm.linear.load_state_dict({**model.linear.state_dict(), "bias": layer.bias.detach()})
    x = toys.inputs(toys.MIXED, 20)
    torch.testing.assert_close(model(x), fm(x))
    nn.init.zeros_(layer.weight)
    torch.testing.assert_close(model(x), fm.linear(x))


def test_order_of_columns_does_not_matter():
    schema, order = toys.one_hot_schema(4, 7), [2, 0, 3, 1]
    model, other = (create("nfm", schema, hidden=(6,), embedding=WIDE) for _ in range(2))
    other.load_state_dict(model.state_dict())
    for place, source in enumerate(order):
        for layer in (lambda m: m.embedding, lambda m: m.linear.embedding):
            layer(other).load_rows(f"c{place}", layer(model).matrix(f"c{source}"))
    x = toys.inputs(schema, 20)
    torch.testing.assert_close(
        other(Inputs(x.ids[:, order], x.numeric, {})), model(x), rtol=1e-5, atol=1e-5
    )  # sums of four in another order, under a square


def test_batch_norm_of_z_standardises_it():
    model = create("nfm", toys.MIXED, hidden=(), pooling_batch_norm=True, embedding=WIDE)
    x = toys.inputs(toys.MIXED, 50)
    z = pooled(model.embedding(x))
    z = (z - z.mean(0)) / torch.sqrt(z.var(0, unbiased=False) + 1e-5)
    (layer,) = model.mlp.layers
    expected = model.linear(x) + z @ layer.weight[0] + layer.bias
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-4)  # division by small deviations
    model.eval()
    torch.testing.assert_close(model(x.rows(0, 1)), model(x)[:1])


@pytest.mark.parametrize("setting", ["pooling_dropout", "dropout"])
def test_each_dropout_acts_in_training_only(setting):
    model = create("nfm", toys.MIXED, hidden=(6,), embedding=WIDE, **{setting: 0.5})
    x = toys.inputs(toys.MIXED, 50)
    assert not torch.equal(model(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


def test_parameters():
    """FM's without its bias, and an MLP of 10, 400, 400, 1; batch norms of 10 and 2 x 400."""
    mlp = 10 * 400 + 400 + 400 * 400 + 400 + 401
    plain = create("nfm", toys.frappe_shape(), hidden=(400, 400), embedding={"dim": 10})
    assert plain.num_parameters() == 59279 + mlp
    settings = {"hidden": (400, 400), "batch_norm": True, "pooling_batch_norm": True}
    normed = create("nfm", toys.frappe_shape(), embedding={"dim": 10}, **settings)
    assert normed.num_parameters() == 59279 + mlp + 4 * 400 + 20


def test_one_field_leaves_lr_and_the_mlp_of_zero():
    model = create("nfm", toys.schema(toys.categorical("a", 5)), hidden=(3,), embedding=WIDE)
    x = toys.inputs(model.schema, 6)
    torch.testing.assert_close(model(x), model.linear(x) + model.mlp(torch.zeros(6, 5))[:, 0])


def test_bad_settings_are_refused():
    with pytest.raises(InputError, match="pooling_dropout = 1"):
        create("nfm", toys.MIXED, pooling_dropout=1)
    with pytest.raises(InputError, match="equal width"):
        create("nfm", toys.MIXED, embedding={"dim": 4, "widths": {"user": 6}})
