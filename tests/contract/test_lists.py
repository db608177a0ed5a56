"""Every model of whole lists: built, trained, saved, and better than chance on blocks of users and items."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from recsys_zoo import create
from recsys_zoo.batch import UserLists
from recsys_zoo.errors import InputError
from recsys_zoo.evaluation.full_rank import full_ranking
from recsys_zoo.itemlists import ItemLists
from recsys_zoo.metrics.ranking import recall
from recsys_zoo.models.base import RankingModel, Scorer
from recsys_zoo.models.vectors import VectorModel
from recsys_zoo.tasks.ranking import ListExamples
from recsys_zoo.zoo import model_class, resolve
from tests import toys
from tests.contract import harness
from tests.contract.test_vectors import ITEMS, USERS, blocks, scores

each = pytest.mark.parametrize("name", harness.LISTS)


def made(name: str, train: ItemLists, users: int = USERS, items: int = ITEMS, seed: int = 1) -> RankingModel:
    model = create(name, toys.ranking(users, items), seed=seed, hidden=[16], latent=8)
    model.prepare(train)
    return model


def batch(train: ItemLists) -> UserLists:
    """All users with an item."""
    examples = ListExamples(train)
    return examples.batch(torch.arange(len(examples)))


def trained(name: str, train: ItemLists, steps: int = 100) -> tuple[RankingModel, list[float]]:
    model = made(name, train).train()
    torch.manual_seed(0)
    adam, history = torch.optim.Adam(model.parameters(), lr=0.02), []
    for _ in range(steps):
        loss = sum(model.losses(batch(train)).values())
        adam.zero_grad()
        loss.backward()
        adam.step()
        model.after_step()
        history.append(float(loss.detach()))
    return model.eval(), history


def test_every_model_that_ranks_is_of_one_kind():
    kinds = [(issubclass(cls, Scorer), issubclass(cls, VectorModel), name in harness.LISTS)
             for name in harness.RETRIEVAL for cls in [model_class(name)]]
    assert all(sum(kind) == 1 for kind in kinds)
    assert "multivae" in harness.LISTS


@each
def test_it_learns_blocks(name):
    train, test = blocks()
    model, history = trained(name, train)
    assert sum(history[-5:]) < sum(history[:5])
    with torch.no_grad():
        found = full_ranking(model.scoring(), test, train, ITEMS)
    assert float(recall(found.ranks, 1).mean()) > 0.75  # chance: one of the eleven items that are left


@each
def test_same_seed_gives_the_same_losses_bit_for_bit(name):
    train, _ = blocks()
    assert trained(name, train, 8)[1] == trained(name, train, 8)[1]


@each
def test_every_parameter_gets_a_gradient(name):
    train, _ = blocks()
    model = made(name, train).train()
    sum(model.losses(batch(train)).values()).backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters())


@each
def test_scores_do_not_depend_on_batch_mates_and_draw_nothing(name):
    train, _ = blocks()
    model, _ = trained(name, train, 5)
    score, users = model.scoring(), torch.tensor([3, 0, 17])
    together = score(users)
    assert together.shape == (3, ITEMS)
    assert torch.equal(score(users), together)
    for row, user in enumerate(users):
        torch.testing.assert_close(score(user[None])[0], together[row])


@each
def test_a_list_of_anybody_is_scored_as_that_of_a_user(name):
    train, _ = blocks()
    model, _ = trained(name, train, 5)
    users = torch.tensor([3, 0])
    torch.testing.assert_close(model.score_lists(train.rows(users)), model.scoring()(users))


@each
def test_save_and_load_give_equal_scores(name, tmp_path):
    train, _ = blocks()
    model, _ = trained(name, train, 5)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    other = made(name, ItemLists.of(*torch.zeros((2, 0), dtype=torch.int64), USERS, ITEMS), seed=2).eval()
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(scores(model), scores(other))


@each
def test_names_in_the_state_dict_are_stable(name):
    """Saved models must load in later versions; tests/contract/golden.py writes the list anew."""
    assert harness.shapes(create(name, toys.ranking(12, 9))) == harness.read("state_names.json")[name]


@each
def test_settings_are_described_survive_json_and_unknown_ones_are_refused(name):
    cls, cfg = resolve(name)
    assert all(field.description for field in cls.Config.model_fields.values())
    assert cls.Config.parse(json.loads(cfg.model_dump_json()), name) == cfg
    with pytest.raises(InputError, match=r"no setting named 'laten'; did you mean \['latent'"):
        create(name, toys.ranking(3, 3), laten=2)


@each
def test_one_user_one_item_and_users_without_items(name):
    single = ItemLists.of(torch.tensor([0]), torch.tensor([0]), 1, 1)
    model = made(name, single, users=1, items=1).eval()
    assert scores(model).shape == (1, 1)
    few = ItemLists.of(torch.tensor([2, 2]), torch.tensor([0, 1]), USERS, ITEMS)
    assert scores(made(name, few).eval()).isfinite().all()


@each
def test_bf16_is_finite(name):
    train, _ = blocks()
    model = made(name, train).train()
    with torch.autocast("cpu", torch.bfloat16):
        terms = model.losses(batch(train))
    assert all(bool(term.isfinite()) for term in terms.values())
    sum(terms.values()).backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters())


@each
def test_card_is_complete(name):
    card = resolve(name)[0].card
    assert card.family == "retrieval"
    assert all((card.title, card.authors, card.url, card.equations))
