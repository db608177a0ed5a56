"""Every model: what happens to it in training."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import nn

from recsys_zoo.batch import Inputs
from recsys_zoo.nn.embedding import Embedding
from recsys_zoo.nn.norm import BatchNormReLUDropout
from tests import toys
from tests.contract import harness

each = pytest.mark.parametrize("name", harness.CTR)


@each
def test_loss_falls_on_planted_effects(name):
    x, y = toys.planted(toys.MIXED, harness.ROWS)
    history = harness.losses(harness.make(name), x, y, 60)
    assert history[-1] < 0.7 * history[0]


@each
def test_random_labels_are_learnt_by_heart(name):
    """64 rows, 6 columns of 20 values, random labels: AUC 1 within 150 steps of Adam at 1e-2."""
    schema = toys.one_hot_schema(6, 21)
    x = toys.inputs(schema, 64, seed=4)
    y = (torch.rand(64) < 0.5).float()
    model = harness.make(name, schema, embedding={"dim": 8})
    harness.losses(model, x, y, 150)
    with torch.no_grad():
        assert roc_auc_score(y.numpy(), model.eval()(x).numpy()) == 1.0


@each
def test_same_seed_gives_the_same_losses_bit_for_bit(name):
    assert harness.golden_losses(name) == harness.golden_losses(name)


@each
def test_losses_are_the_recorded_ones(name):
    """By gradient steps to 1e-5 anywhere (with narrower instructions they moved by 4e-6), and bit for bit by
    Adam's on a recorded platform."""
    golden = harness.read("golden.json")
    assert name in golden[harness.DESCENT], "write them: python -m tests.contract.golden"
    expected = pytest.approx(golden[harness.DESCENT][name], rel=1e-5, abs=1e-5)
    assert harness.losses_of_descent(name) == expected
    here = golden.get(harness.platform_key(), {})
    if name in here:
        assert harness.golden_losses(name) == here[name]


@each
def test_rows_do_not_see_their_batch_mates(name):
    model, x = harness.trained(name)
    order = torch.randperm(harness.ROWS)
    shuffled = Inputs(x.ids[order], x.numeric[order], {k: v[order] for k, v in x.bags.items()})
    # matrix products of other sizes round differently
    torch.testing.assert_close(model(shuffled), model(x)[order], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(model(x.rows(5, 6)), model(x)[5:6], rtol=1e-5, atol=1e-6)


@each
def test_every_parameter_gets_a_gradient(name):
    model = harness.make(name)
    x, y = toys.planted(toys.MIXED, harness.ROWS)
    F.binary_cross_entropy_with_logits(model.train()(x), y).backward()
    chains = [chain for chain in model.modules() if isinstance(chain, nn.Sequential)]
    pairs = [pair for chain in chains for pair in itertools.pairwise(chain)]
    taken_away = {id(linear.bias) for linear, norm in pairs
                  if isinstance(linear, nn.Linear) and isinstance(norm, BatchNormReLUDropout)}
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert bool(parameter.grad.abs().sum() > 0) == (id(parameter) not in taken_away), key


@each
def test_padding_is_inert(name):
    model, x = harness.trained(name)
    for embedding in (m for m in model.modules() if isinstance(m, Embedding)):
        for table in embedding.tables():
            assert not table.weight[0].any()
    wider = Inputs(x.ids, x.numeric, {k: F.pad(v, (2, 3)) for k, v in x.bags.items()})
    torch.testing.assert_close(model(wider), model(x), rtol=1e-5, atol=1e-6)
    changed = Inputs(x.ids, x.numeric, {k: v.clamp(min=1) for k, v in x.bags.items()})
    assert not torch.allclose(model(changed), model(x), rtol=1e-5, atol=1e-6)  # the bags do count


@each
def test_bf16_is_finite_and_near(name):
    model, x = harness.trained(name)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(x)
        loss = F.binary_cross_entropy_with_logits(logits.float(), torch.ones(harness.ROWS))
    loss.backward()
    # 8 bits of mantissa through a few layers, logits of about 1
    torch.testing.assert_close(logits.float(), model(x), rtol=0.05, atol=0.05)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@each
@pytest.mark.parametrize("store", ["hashed", "quotient_remainder"])
def test_compressed_stores_learn_and_bake(name, store):
    """Forward, backward and bake with vocabularies in fewer rows than values."""
    settings = {"embedding": {"store": {"name": store, "buckets": 3}}}
    x, y = toys.planted(toys.MIXED, harness.ROWS)
    model = harness.make(name, **settings)
    assert model.num_parameters() < harness.make(name).num_parameters()
    history = harness.losses(model, x, y, 80)
    assert history[-1] < 0.9 * history[0]
    expected = model.eval()(x)
    baked = harness.bake(model)
    torch.testing.assert_close(baked(x), expected, rtol=1e-5, atol=1e-6)
    assert baked.num_parameters() == harness.make(name).num_parameters()
