"""Every scorer: how it is built, fitted, saved and refused, and that it ranks better than popularity."""

from __future__ import annotations

import json

import pytest
import torch
from pydantic import BaseModel
from safetensors.torch import load_file, save_file

from recsys_zoo import create
from recsys_zoo.errors import InputError
from recsys_zoo.evaluation.full_rank import full_ranking
from recsys_zoo.itemlists import ItemLists
from recsys_zoo.metrics.ranking import recall
from recsys_zoo.models.base import Scorer
from recsys_zoo.zoo import model_class, resolve
from tests import toys
from tests.contract import harness

USERS, ITEMS = 24, 15
SCHEMA = toys.ranking(USERS, ITEMS)
each = pytest.mark.parametrize("name", harness.SCORERS)


def fitted(name: str, train: ItemLists | None = None, users: int = USERS, items: int = ITEMS,
           seed: int = 1) -> Scorer:
    model = harness.told(create(name, toys.ranking(users, items), seed=seed))
    model.fit(toys.random_lists(users, items, 0.3) if train is None else train)
    return model


def scores(model: Scorer) -> torch.Tensor:
    return model.score(torch.arange(model.num_users))


def test_there_are_scorers():
    assert "popularity" in harness.SCORERS


@each
def test_scores_have_a_row_a_user_and_a_column_an_item(name):
    model = fitted(name)
    found = model.score(torch.tensor([3, 0, 3]))
    assert found.shape == (3, ITEMS)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    assert found.isfinite().all()
    torch.testing.assert_close(found[0], found[2], rtol=1e-5, atol=1e-6)
    assert model.score(torch.arange(0)).shape == (0, ITEMS)
    assert model.name == name


@each
def test_scores_are_the_callers_own(name):
    model = fitted(name)
    expected = scores(model).clone()
    scores(model).fill_(torch.nan)
    assert torch.equal(scores(model), expected)


@each
def test_scores_do_not_depend_on_the_batch(name):
    model = fitted(name)
    together = scores(model)
    for users in (torch.tensor([7]), torch.tensor([5, 7, 1])):
        torch.testing.assert_close(model.score(users), together[users], rtol=1e-5, atol=1e-6)


@each
def test_a_saved_state_gives_equal_scores(name, tmp_path):
    model = fitted(name)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    other = create(name, SCHEMA, seed=2)
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(scores(other), scores(model))
    refitted = fitted(name, toys.random_lists(USERS, ITEMS, 0.6, seed=3))
    assert not torch.equal(scores(refitted), scores(model))
    refitted.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(scores(refitted), scores(model))


@each
def test_a_state_of_other_sizes_is_refused(name):
    state = fitted(name).state_dict()
    with pytest.raises(RuntimeError, match=r"fitted on \[24, 15\] users and items; .* counts 9 and 8"):
        create(name, toys.ranking(9, 8)).load_state_dict(state)


@each
def test_lists_of_anybody_are_scored_as_those_of_users_of_the_fit(name):
    train = toys.random_lists(USERS, ITEMS, 0.3)
    settings = {"block": 256} if name == "ials" else {}  # smaller ones leave its users not solved wholly
    model = harness.told(create(name, SCHEMA, seed=1, **settings))
    with pytest.raises(InputError, match=f"{name} is not fitted"):
        model.score_lists(train)
    model.fit(train)
    if not model.folds:
        with pytest.raises(InputError, match=f"{name}: ranks for the users of its training alone"):
            model.score_lists(train)
        return
    before, users = scores(model), torch.tensor([5, 0, 7])
    found = model.score_lists(train.rows(users))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, before[users], rtol=1e-4, atol=1e-5)
    other = toys.lists([[0] * ITEMS, [1] + [0] * (ITEMS - 1), [1] * ITEMS])
    assert model.score_lists(other).isfinite().all()
    assert model.score_lists(train.rows(users[:0])).shape == (0, ITEMS)
    with pytest.raises(InputError, match=f"{name}: the lists name items up to 15, but the schema counts 15"):
        model.score_lists(ItemLists.of(torch.tensor([0]), torch.tensor([15]), 1, 16))
    assert torch.equal(scores(model), before)


def test_most_scorers_fold():
    able = {name for name in harness.SCORERS if model_class(name).folds}
    assert able >= {"popularity", "itemknn", "slim", "ease", "gfcf", "bspm", "ials"}


@each
def test_an_unfitted_state_stays_unfitted(name):
    model = create(name, SCHEMA)
    model.load_state_dict(create(name, SCHEMA).state_dict())
    with pytest.raises(InputError, match=f"{name} is not fitted: call fit"):
        model.score(torch.arange(2))


@each
def test_names_in_the_state_dict_are_stable(name):
    """Saved models must load in later versions; tests/contract/golden.py writes the list anew."""
    assert harness.shapes(create(name, toys.ranking(12, 9))) == harness.read("state_names.json")[name]


@each
def test_the_same_seed_gives_the_same_scores_and_leaves_the_global_state_alone(name):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first, second = fitted(name), fitted(name)
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(scores(first), scores(second))


@each
def test_other_seeds_give_the_same_where_nothing_is_drawn(name):
    models = [fitted(name, seed=seed) for seed in (1, 2)]
    assert torch.equal(*map(scores, models)) == (not models[0].seeded)


@each
def test_a_second_fit_forgets_the_first(name):
    model = fitted(name, toys.random_lists(USERS, ITEMS, 0.6, seed=3))
    other = scores(model)
    model.fit(toys.random_lists(USERS, ITEMS, 0.3))
    once = scores(fitted(name))
    assert torch.equal(scores(model), once)
    assert not torch.equal(other, once)


@each
@pytest.mark.parametrize("rows", [[[1]], [[0]], [[1, 1, 1]], [[1], [0]], [[0, 0], [0, 0]], [[1, 0], [0, 1]],
                                  [[1, 1, 0], [0, 0, 0], [1, 0, 0], [1, 1, 0]]], ids=str)
def test_small_and_empty_lists_give_finite_scores(name, rows):
    model = fitted(name, toys.lists(rows), len(rows), len(rows[0]))
    assert scores(model).shape == (len(rows), len(rows[0]))
    assert scores(model).isfinite().all()


def blocks() -> tuple[ItemLists, ItemLists]:
    """60 users of 4 tastes; of 10 items of their own each has some in train and the others held out."""
    g = torch.Generator().manual_seed(0)
    own = torch.arange(60)[:, None] % 4 == torch.arange(40) % 4
    train = torch.where(own, torch.rand(60, 40, generator=g) < 0.5, torch.rand(60, 40, generator=g) < 0.03)
    return toys.lists(train.int().tolist()), toys.lists((own & ~train).int().tolist())


@each
def test_planted_tastes_are_found(name):
    train, held_out = blocks()
    model = fitted(name, train, 60, 40)
    found = float(recall(full_ranking(model.score, held_out, train, 40).ranks, 5).mean())
    chance = 5 / 35  # of about 35 unseen items
    if name == "popularity":
        assert found < 2 * chance
    else:
        assert found > 4 * chance


@each
def test_other_sizes_and_numbers_are_refused(name):
    model = create(name, SCHEMA)
    with pytest.raises(InputError, match=f"{name}: lists of 23 users, but the schema counts 24"):
        model.fit(toys.random_lists(23, ITEMS, 0.3))
    with pytest.raises(InputError, match=r"an item 15 .* counts 15: number items from 0 to 14"):
        model.fit(ItemLists.of(torch.tensor([0]), torch.tensor([15]), USERS, 16))
    model = fitted(name)
    for users in ([24], [-1]):
        with pytest.raises(InputError, match="are not all among 0 to 23"):
            model.score(torch.tensor(users))


@each
def test_schemas_without_users_or_items_are_refused(name):
    schema = SCHEMA.model_copy(update={"item": ""})
    with pytest.raises(InputError, match="the schema of 'toy' names no column as the item: write"):
        create(name, schema)
    with pytest.raises(InputError, match=r"the schema .* no column as the user"):
        create(name, toys.MIXED)
    with pytest.raises(InputError, match=f"{name}: the item column has no value"):
        create(name, toys.ranking(3, 0))


@each
def test_card_is_complete(name):
    card = resolve(name)[0].card
    assert card.family == "retrieval"
    assert all((card.name, card.title, card.authors, card.equations))
    assert 1950 < card.year < 2100
    assert card.url.startswith("https://")
    assert card.published or any("number" in note for note in card.notes)
    for row in card.published:
        assert row.source.startswith("reczoo/BARS@")
        assert row.board in row.source
        assert all(0 < value < 1 for value in row.metrics.values())


@each
def test_settings_are_described_searched_and_survive_json(name):
    cls, cfg = resolve(name)
    for key, field in cls.Config.model_fields.items():
        assert isinstance(field.annotation, type) is False or not issubclass(field.annotation, BaseModel)
        assert field.description, f"{name}: {key} has no description"
    assert cls.Config.parse(json.loads(cfg.model_dump_json()), name) == cfg
    for key, search in cfg.searches().items():
        value = getattr(cfg, key)
        if search.choices:
            assert value in search.choices, key
        elif not (search.zero and value == 0):
            assert search.low <= value <= search.high, key
    with pytest.raises(InputError, match="no setting named 'embedding'"):
        create(name, SCHEMA, embedding={"dim": 4})


@each
def test_what_was_fitted_is_counted(name):
    model = fitted(name)
    stored = sum(t.numel() for t in model.state_dict().values() if t.is_floating_point())
    assert model.num_parameters() == stored > 0
