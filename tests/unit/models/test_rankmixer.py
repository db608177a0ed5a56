"""RankMixer: token mixing, per-token networks, tokens from any columns."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from recsys_zoo import create
from recsys_zoo.errors import InputError
from recsys_zoo.models.ctr.rankmixer import Block, PerToken, RankMixerConfig, mix
from tests import toys

WIDE = {"dim": 4, "init_std": 0.5}


def test_mixing_hand_example():
    x = torch.tensor([[[1, 2, 3, 4], [5, 6, 7, 8]]])
    assert mix(x).tolist() == [[[1, 2, 5, 6], [3, 4, 7, 8]]]


@pytest.mark.parametrize(("tokens", "width"), [(1, 3), (2, 4), (4, 12), (8, 8)])
def test_mixing_is_an_involution(tokens, width):
    x = torch.randn(5, tokens, width)
    assert torch.equal(mix(mix(x)), x)
    size = width // tokens
    for h in range(tokens):
        heads = [x[:, t, h * size : (h + 1) * size] for t in range(tokens)]
        assert torch.equal(mix(x)[:, h], torch.cat(heads, 1))


def test_each_token_has_a_layer_of_its_own():
    layer, x = PerToken(3, 4, 5), torch.randn(7, 3, 4)
    nn.init.normal_(layer.bias)
    expected = [x[:, t] @ layer.weight[t] + layer.bias[t] for t in range(3)]
    torch.testing.assert_close(layer(x), torch.stack(expected, 1))


def test_block_equals_its_equations():
    block, x = Block(RankMixerConfig(tokens=2, width=6, ratio=3)).double(), torch.randn(7, 2, 6).double()
    s = F.layer_norm(mix(x) + x, (6,))
    inner, outer = block.ffn[0], block.ffn[2]
    assert inner.weight.shape == (2, 6, 18)
    tokens = []
    for t in range(2):
        h = s[:, t] @ inner.weight[t] + inner.bias[t]
        h = 0.5 * h * (1 + torch.erf(h / 2**0.5))
        tokens.append(h @ outer.weight[t] + outer.bias[t])
    torch.testing.assert_close(block(x), F.layer_norm(torch.stack(tokens, 1) + s, (6,)))


@pytest.mark.parametrize("tokens", [1, 2, 3, 5])
def test_tokens_are_equal_parts_filled_up_with_zeros(tokens):
    model = create("rankmixer", toys.MIXED, embedding=WIDE, tokens=tokens, width=30, layers=1)
    nn.init.normal_(model.tokenise.bias)
    x = toys.inputs(toys.MIXED, 9)
    flat = model.embedding.flat(x)
    size = {1: 16, 2: 8, 3: 6, 5: 4}[tokens]
    assert model.padding == size * tokens - 16
    made = []
    for t in range(tokens):
        part = flat[:, t * size : (t + 1) * size]
        weight = model.tokenise.weight[t, : part.shape[1]]
        made.append(part @ weight + model.tokenise.bias[t])
    expected = model.blocks[0](torch.stack(made, 1)).mean(1) @ model.out.weight[0] + model.out.bias
    torch.testing.assert_close(model(x), expected)


def test_initial_weights_are_glorot_normal():
    layer = PerToken(8, 64, 192)
    assert layer.weight.std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.01)  # 98,304 draws
    assert not layer.bias.any()


def test_parameters_grow_as_tokens_times_width_squared():
    """Each block: T (2 k D^2 + k D + D) in the networks of the tokens and 4 D in two norms."""
    block = Block(RankMixerConfig(tokens=4, width=16, ratio=3))
    assert sum(p.numel() for p in block.parameters()) == 4 * (2 * 3 * 256 + 48 + 16) + 64


def test_widths_may_differ():
    model = create("rankmixer", toys.MIXED, embedding={"dim": 4, "widths": {"user": 6, "tags": 3}})
    assert model(toys.inputs(toys.MIXED, 5)).shape == (5,)


def test_width_must_split_into_heads():
    with pytest.raises(
        InputError, match="rankmixer: width=30 is not divisible by tokens=4; choose a multiple of 4"
    ):
        create("rankmixer", toys.MIXED, width=30, tokens=4)
