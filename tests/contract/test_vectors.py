"""Every model of vectors: built, trained, saved, and better than chance on blocks of users and items."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from recsys_zoo import create
from recsys_zoo.batch import Pairs
from recsys_zoo.errors import InputError
from recsys_zoo.evaluation.full_rank import full_ranking
from recsys_zoo.itemlists import ItemLists
from recsys_zoo.metrics.ranking import recall
from recsys_zoo.models.vectors import VectorModel
from recsys_zoo.tasks.negatives import Negatives
from recsys_zoo.zoo import resolve
from tests import toys
from tests.contract import harness

USERS, ITEMS = 24, 15
each = pytest.mark.parametrize("name", harness.VECTORS)


def made(name: str, train: ItemLists, users: int = USERS, items: int = ITEMS, seed: int = 1) -> VectorModel:
    cfg = resolve(name)[1]
    settings = {"embedding": {"dim": 8, "init_std": 0.3}, "negatives": 4}
    settings = {key: value for key, value in settings.items() if getattr(cfg, key, 0)}
    model = harness.told(create(name, toys.ranking(users, items), seed=seed, **settings))
    model.prepare(train)
    return model


def batches(model: VectorModel, train: ItemLists, steps: int, size: int = 32) -> list[Pairs]:
    """Random batches of pairs with negatives, from a fixed seed."""
    g, count = torch.Generator().manual_seed(0), model.negatives
    negatives, (user, item) = Negatives(train, model.num_items), train.pairs()
    found = []
    for _ in range(steps):
        rows = torch.randint(len(user), (size,), generator=g)
        neg = negatives.draw(user[rows], count, g) if count else torch.zeros(size, 0, dtype=torch.int64)
        found.append(Pairs(user[rows], item[rows], neg, torch.ones(size)))
    return found


def rates(model: VectorModel) -> list[dict]:
    """Tables are small and quick here; perceptrons overfit at their rate."""
    layers = [getattr(model, name) for name in ("user_table", "item_table") if hasattr(model, name)]
    tables = {id(p) for layer in layers for p in layer.parameters()}
    return [{"params": [p], "lr": 0.05 if id(p) in tables else 0.005} for p in model.parameters()]


def trained(name: str, train: ItemLists, steps: int = 60, **more) -> tuple[VectorModel, list[float]]:
    model = made(name, train, **more).train()
    torch.manual_seed(0)
    adam, history = torch.optim.Adam(rates(model)), []
    for batch in batches(model, train, steps):
        loss = sum(model.losses(batch).values())
        adam.zero_grad()
        loss.backward()
        adam.step()
        history.append(float(loss.detach()))
    return model.eval(), history


def blocks() -> tuple[ItemLists, ItemLists]:
    """Users of three kinds with most of the items of their kind; one of those is held out."""
    pairs = [(u, i) for u in range(USERS) for i in range(ITEMS) if u % 3 == i % 3]
    held = {(u, (u * 3 + u % 3) % ITEMS) for u in range(USERS)}
    train, test = ([p for p in pairs if (p in held) is part] for part in (False, True))
    return tuple(ItemLists.of(*torch.tensor(part).t(), USERS, ITEMS) for part in (train, test))


def scores(model: VectorModel) -> torch.Tensor:
    return model.scoring()(torch.arange(model.num_users))


@each
def test_it_learns_blocks(name):
    train, test = blocks()
    model, history = trained(name, train)
    assert sum(history[-5:]) < sum(history[:5])
    found = full_ranking(model.scoring(), test, train, ITEMS)
    assert float(recall(found.ranks, 1).mean()) > 0.75  # chance: one of the eleven items that are left


@each
def test_same_seed_gives_the_same_losses_bit_for_bit(name):
    train, _ = blocks()
    assert trained(name, train, 8)[1] == trained(name, train, 8)[1]


@each
def test_every_parameter_gets_a_gradient(name):
    train, _ = blocks()
    model = made(name, train)
    adam = torch.optim.Adam(model.parameters())
    for batch in batches(model, train, 2):  # at the first one that of the features of CML has no slope
        sum(model.losses(batch).values()).backward()
        adam.step()
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters())


@each
def test_scores_do_not_depend_on_batch_mates(name):
    train, _ = blocks()
    model, _ = trained(name, train, 5)
    score, users = model.scoring(), torch.tensor([3, 0, 17])
    together = score(users)
    assert together.shape == (3, ITEMS)
    for row, user in enumerate(users):
        torch.testing.assert_close(score(user[None])[0], together[row])


@each
def test_lists_of_others_are_refused_in_a_sentence(name):
    train, _ = blocks()
    with pytest.raises(InputError, match="ranks for the users of its training alone, and not for others by"):
        made(name, train).score_lists(train)


@each
def test_save_and_load_give_equal_scores(name, tmp_path):
    train, _ = blocks()
    model, _ = trained(name, train, 5)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    other = made(name, ItemLists.of(*torch.zeros((2, 0), dtype=torch.int64), USERS, ITEMS), seed=2)
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(scores(model), scores(other))


@each
def test_settings_survive_json_and_unknown_ones_are_refused(name):
    cls, cfg = resolve(name)
    assert cls.Config.parse(json.loads(cfg.model_dump_json()), name) == cfg
    known = "negatives" if hasattr(cfg, "negatives") else "temperature"
    wrong = known[:-2] + known[-1]
    with pytest.raises(InputError, match=rf"no setting named '{wrong}'; did you mean \['{known}'"):
        create(name, toys.ranking(3, 3), **{wrong: 2})


@each
def test_one_user_one_item_and_users_without_items(name):
    single = ItemLists.of(torch.tensor([0]), torch.tensor([0]), 1, 1)
    model = made(name, single, users=1, items=1)
    assert scores(model).shape == (1, 1)
    few = ItemLists.of(torch.tensor([2, 2]), torch.tensor([0, 1]), USERS, ITEMS)
    assert scores(made(name, few)).isfinite().all()


@each
def test_bf16_is_finite(name):
    train, _ = blocks()
    model = made(name, train)
    with torch.autocast("cpu", torch.bfloat16):
        assert all(bool(term.isfinite()) for term in model.losses(batches(model, train, 1)[0]).values())


@each
def test_card_is_complete(name):
    card = resolve(name)[0].card
    assert card.family == "retrieval"
    assert all((card.title, card.authors, card.url, card.equations))
