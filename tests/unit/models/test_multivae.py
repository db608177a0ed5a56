"""MultiVAE against loops and a dense network, its case Mult-DAE, and what it is to do without items."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from recsys_zoo import create
from recsys_zoo.batch import UserLists
from recsys_zoo.models.retrieval.multivae import MultiVAE
from recsys_zoo.runs import RunConfig, train
from recsys_zoo.tasks.ranking import ListExamples, RankingTask
from recsys_zoo.train.callbacks import Callback
from recsys_zoo.train.config import TrainConfig
from recsys_zoo.train.trainer import Trainer
from tests import toys
from tests.unit.tasks.test_ranking import ITEMS, data

LISTS = toys.lists([[1, 0, 1, 1, 0], [0, 1, 0, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 1, 1]])
USERS = 4


def made(**settings) -> MultiVAE:
    """A small network whose biases and weights are all different from 0."""
    model = create("multivae", toys.ranking(USERS, 5), seed=1, **{"hidden": [4], "latent": 3, **settings})
    g = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=g) / 2)
    return model


def batch(lists=LISTS) -> UserLists:
    return ListExamples(lists).batch(torch.arange(int((lists.counts > 0).sum())))


def layer(linear, x: list[float]) -> list[float]:
    w, b = linear.weight.tolist(), linear.bias.tolist()
    return [sum(a * v for a, v in zip(row, x, strict=True)) + c for row, c in zip(w, b, strict=True)]


def loop(model: MultiVAE, noise: Tensor) -> dict[str, float]:
    """Both terms, number by number; without dropout."""
    likelihood = divergence = 0.0
    first, bias = model.first.tolist(), model.first_bias.tolist()
    for user in range(USERS):
        own = LISTS.items[LISTS.offsets[user] : LISTS.offsets[user + 1]].tolist()
        h = [sum(first[i][d] for i in own) / math.sqrt(len(own)) + b for d, b in enumerate(bias)]
        for linear in model.encoder:
            h = layer(linear, [math.tanh(v) for v in h])
        mu, log_variance = h[: model.cfg.latent], h[model.cfg.latent :]
        z = [m + math.exp(s / 2) * e for m, s, e in zip(mu, log_variance, noise[user].tolist(), strict=True)]
        for linear in model.decoder[:-1]:
            z = [math.tanh(v) for v in layer(linear, z)]
        logits = layer(model.decoder[-1], z)
        norm = math.log(sum(map(math.exp, logits)))
        likelihood -= sum(logits[i] - norm for i in own) / USERS
        # KL(N(m, s^2) || N(0, 1)) of each dimension
        divergence += sum((m * m + math.exp(s) - 1 - s) / 2 for m, s in zip(mu, log_variance, strict=True))
    return {"multinomial": likelihood, "divergence": divergence / USERS}


@pytest.mark.parametrize("hidden", [[4], [6, 4]], ids=str)
def test_the_loss_is_that_of_a_loop(hidden):
    model = made(hidden=hidden, dropout=0.0, beta=0.7, anneal_steps=0).train()
    torch.manual_seed(5)
    with torch.no_grad():
        found = model.losses(batch())
    torch.manual_seed(5)
    expected = loop(model, torch.randn(USERS, 3))
    assert float(found["multinomial"]) == pytest.approx(expected["multinomial"], rel=1e-5)
    assert float(found["divergence"]) == pytest.approx(0.7 * expected["divergence"], rel=1e-5)


def test_gradients_are_those_of_a_dense_network():
    model = made(dropout=0.0, variational=False).train()
    sum(model.losses(batch()).values()).backward()
    found = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    x = toys.matrix(LISTS, 5).float()
    h = torch.nn.functional.normalize(x) @ model.first + model.first_bias
    logits = model.decode(model.encoder[0](h.tanh()))
    (-(x * logits.log_softmax(1)).sum() / USERS).backward()
    for ours, parameter in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(ours, parameter.grad)


def test_hand_example():
    """One hidden unit, code and way back, weights 1 where nothing else is said: items 1 and 3 of three.

    x / |x| = (1, 0, 1) / sqrt 2 meets weights (1, 2, 3): h = 4 / sqrt 2; mu = 2 tanh h; the logits are
    (1, -1, 0) tanh mu + (0, 0, 0.5).
    """
    model = create("multivae", toys.ranking(1, 3), hidden=[1], latent=1, variational=False)
    values = [[[1.0], [2], [3]], [0.0], [[2.0]], [0.0], [[1.0]], [0.0], [[1.0], [-1], [0]], [0.0, 0, 0.5]]
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), values, strict=True):
            parameter.copy_(torch.tensor(value))
    found = model.eval().score_lists(toys.lists([[1, 0, 1]]))
    back = math.tanh(2 * math.tanh(4 / math.sqrt(2)))
    torch.testing.assert_close(found, torch.tensor([[back, -back, 0.5]]))


def test_without_weight_and_width_of_the_code_it_is_the_dae():
    """beta = 0 and sigma = e^-40: loss and gradients of Mult-DAE with the same weights, dropout included."""
    vae, dae = made(beta=0.0, anneal_steps=0).train(), made(variational=False).train()
    k = vae.cfg.latent
    with torch.no_grad():
        vae.encoder[-1].weight[k:], vae.encoder[-1].bias[k:] = 0, -80
        shared = vae.state_dict()
        for name, value in dae.state_dict().items():
            value.copy_(shared[name][: len(value)] if value.ndim else shared[name])
    losses = []
    for model in (vae, dae):
        torch.manual_seed(3)
        loss = sum(model.losses(batch()).values())
        loss.backward()
        losses.append(float(loss.detach()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    for name, parameter in dae.named_parameters():
        gradient = vae.get_parameter(name).grad[: len(parameter)]
        torch.testing.assert_close(gradient, parameter.grad)
    wide = made(beta=0.0, anneal_steps=0).train()
    torch.manual_seed(3)
    assert float(sum(wide.losses(batch()).values()).detach()) != pytest.approx(losses[1], rel=1e-3)


def test_nobody_without_an_item_makes_a_score_infinite():
    model = made().train()
    empty = UserLists(torch.full((2, 3), -1), torch.ones(2))
    with torch.no_grad():
        terms = model.losses(empty)
    assert float(terms["multinomial"]) == 0
    assert all(bool(term.isfinite()) for term in terms.values())
    scores = model.eval().score_lists(toys.lists([[0, 0, 0, 0, 0], [1, 0, 0, 0, 0]]))
    assert scores.isfinite().all()
    expected = model.decode(model.encoder[0](model.first_bias.tanh()[None])[:, :3])
    torch.testing.assert_close(scores[:1], expected.detach())


def test_dropout_hides_items_from_the_encoder_alone(monkeypatch):
    model = made(dropout=0.5, variational=False).train()
    with torch.no_grad():
        model.decoder[-1].weight.zero_()
        model.decoder[-1].bias.zero_()
    sizes = LISTS.counts.double().mean()
    loss = float(model.losses(batch())["multinomial"].detach())
    assert loss == pytest.approx(float(sizes * math.log(5)), rel=1e-6)
    seen: list[Tensor] = []
    plain = torch.nn.functional.embedding_bag

    def watch(*args, per_sample_weights, **more):
        seen.append(per_sample_weights)
        return plain(*args, per_sample_weights=per_sample_weights, **more)

    monkeypatch.setattr(torch.nn.functional, "embedding_bag", watch)
    torch.manual_seed(0)
    for _ in range(400):
        model.code(LISTS.items, LISTS.counts)
    weight = torch.stack(seen).double()
    kept = 2 / LISTS.counts.double().sqrt().repeat_interleave(LISTS.counts)  # hidden, or twice the value
    assert bool(((weight == 0) | torch.isclose(weight, kept)).all())
    assert float((weight == 0).double().mean()) == pytest.approx(0.5, abs=0.03)  # 4400 draws: 4 deviations


def test_the_weight_of_the_divergence_grows_with_the_steps():
    model = made(beta=0.2, anneal_steps=10)
    found = []
    for _ in range(4):
        found.append(float(model.divergence_weight()))
        model.after_step()
    assert found == pytest.approx([0, 0.1, 0.2, 0.2])
    assert float(made(beta=0.2, anneal_steps=0).divergence_weight()) == pytest.approx(0.2)


def test_parts_of_a_batch_make_the_same_step():
    held = data()
    found = []
    for part in (0, 17):
        model = create("multivae.dae", held.schema, seed=1, hidden=[8], latent=4, dropout=0.0)
        model.prepare(held.lists("train"))
        task = RankingTask(held, 0, valid="valid", lists=True)
        cfg = TrainConfig(batch_size=50, micro_batch=part, lr=0.01, epochs=1, monitor="recall@20",
                          device="cpu")
        Trainer(task, cfg).fit(model)
        found.append(model)
    for one, two in zip(*(model.parameters() for model in found), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["multivae", "multivae.dae"])
def test_a_run_learns_the_blocks(tmp_path, name):
    cfg = RunConfig.parse({
        "model": {"name": name, "hidden": [32], "latent": 8, "dropout": 0.2},
        "train": {"batch_size": 50, "lr": 0.02, "epochs": 15, "device": "cpu", "save_every_s": 60.0}}, "run")
    row = train(cfg, data(), tmp_path, say=lambda line: None, callbacks=[Callback()])
    floor = train(RunConfig.parse({"model": {"name": "popularity"}}, "run"), data(), tmp_path / "floor",
                  say=lambda line: None, callbacks=[Callback()])
    assert row.status == "done"
    assert row.metrics["test.ndcg@20"] > floor.metrics["test.ndcg@20"] + 0.1
    widths = 8 if name == "multivae.dae" else 16
    assert row.params == 2 * 32 * ITEMS + 32 + ITEMS + 32 * widths + widths + 8 * 32 + 32
