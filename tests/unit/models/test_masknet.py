"""MaskNet: blocks, both structures, reductions and the published count."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from recsys_zoo import create
from recsys_zoo.errors import InputError
from recsys_zoo.models.ctr.masknet import FieldNorm, MaskBlock, MaskNetConfig
from recsys_zoo.nn.activation import ReLUDropout
from tests import toys

WIDE = {"dim": 4, "init_std": 0.5}


def make(name: str, **settings):
    return create(name, toys.MIXED, seed=1, embedding=WIDE, **{"hidden": (6, 5), **settings})


def test_block_hand_example():
    """v = 1, mask weights 1 then (2, -1): mask (2, -1); h = (3, 4): products (6, -4), W swaps them."""
    block = MaskBlock(1, 2, 2, MaskNetConfig(reduction=0.5, layer_norm=False, mask_start=0.0))
    with torch.no_grad():
        block.mask[0].weight.fill_(1.0)
        block.mask[2].weight.copy_(torch.tensor([[2.0], [-1.0]]))
        block.hidden[0].weight.copy_(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    out = block(torch.tensor([[1.0]]), torch.tensor([[3.0, 4.0]]))
    torch.testing.assert_close(out, torch.tensor([[0.0, 6.0]]))


def test_block_equals_its_equations():
    block = MaskBlock(5, 4, 3, MaskNetConfig(reduction=2)).double()
    for parameter in block.parameters():
        nn.init.normal_(parameter)
    v, h = torch.randn(7, 5).double(), torch.randn(7, 4).double()
    inner, outer, linear, norm = block.mask[0], block.mask[2], block.hidden[0], block.hidden[1]
    assert inner.out_features == 8
    mask = (v @ inner.weight.T + inner.bias).clamp(min=0) @ outer.weight.T + outer.bias
    z = (mask * h) @ linear.weight.T
    z = (z - z.mean(1, keepdim=True)) / (z.var(1, unbiased=False, keepdim=True) + norm.eps).sqrt()
    torch.testing.assert_close(block(v, h), (z * norm.weight + norm.bias).relu())


def test_a_mask_of_one_is_an_ordinary_layer():
    block = MaskBlock(5, 4, 3, MaskNetConfig())
    nn.init.zeros_(block.mask[2].weight)
    h = torch.randn(7, 4)
    assert torch.equal(block(torch.randn(7, 5), h), block.hidden(h))


def test_fields_have_norms_of_their_own():
    norm, e = FieldNorm(3, 4), torch.randn(7, 3, 4)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    expected = [F.layer_norm(e[:, i], (4,), norm.weight[i], norm.bias[i]) for i in range(3)]
    torch.testing.assert_close(norm(e), torch.stack(expected, 1))


@pytest.mark.parametrize("embedding_norm", [True, False])
def test_structures(embedding_norm):
    serial = make("masknet.serial", embedding_norm=embedding_norm)
    parallel = make("masknet.parallel", num_blocks=2, block_width=7, embedding_norm=embedding_norm)
    x = toys.inputs(toys.MIXED, 9)
    for model in (serial, parallel):
        e = model.embedding(x)
        v, h = e.reshape(9, 16), (model.norm(e) if embedding_norm else e).reshape(9, 16)
        if model is serial:
            h = model.blocks[1](v, model.blocks[0](v, h))
            out = model.out.layers[0]
            expected = h @ out.weight[0] + out.bias
        else:
            h = torch.cat([model.blocks[0](v, h), model.blocks[1](v, h)], 1)
            for place in (0, 2):
                h = model.out.layers[place](h).relu()
            expected = model.out.layers[4](h).squeeze(1)
        torch.testing.assert_close(model(x), expected)


def test_masks_start_where_the_setting_says():
    for start in (0.0, 1.0):
        model = create("masknet", toys.MIXED, mask_start=start)
        v = model.embedding.flat(toys.inputs(toys.MIXED, 9))
        assert (model.blocks[0].mask(v) - start).abs().max() < 1e-2


@pytest.mark.parametrize("name", ["masknet.serial", "masknet.parallel"])
def test_dropout_acts_in_training_only(name):
    model = make(name, dropout=0.5)
    x = toys.inputs(toys.MIXED, 20)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))
    assert any(isinstance(m, ReLUDropout) and m.rate == 0.5 for m in model.blocks.modules())


def test_count_of_the_published_run():
    model = create(
        "masknet.parallel",
        toys.frappe_shape(),
        embedding={"dim": 10},
        hidden=(400, 400, 400),
        num_blocks=3,
        block_width=50,
        reduction=2,
        embedding_norm=False,
    )
    assert model.num_parameters() == 571_691


def test_bad_settings_are_refused():
    with pytest.raises(InputError, match="structure = 'paralel'"):
        make("masknet", structure="paralel")
    with pytest.raises(InputError, match="reduction"):
        make("masknet", reduction=0)
