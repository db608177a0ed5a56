"""What every model declares for tuning: its space holds its defaults, and every draw from it is a model."""

from __future__ import annotations

import pytest
import torch

from recsys_zoo import create
from recsys_zoo.nn.embedding import Embedding
from recsys_zoo.runs import RunConfig
from recsys_zoo.space import Space, space_of
from recsys_zoo.zoo import model_class, resolve
from tests import toys
from tests.dice import Dice

from .harness import CTR, RETRIEVAL, SCORERS

TUNED = [name for name in RETRIEVAL if resolve(name)[1].searches("model.")]  # popularity has no setting
X = toys.inputs(toys.MIXED, 8)


def space(name: str) -> Space:
    has_tables = hasattr(resolve(name)[1], "embedding")
    model = {"name": name} | ({"embedding": {"dim": 4}} if has_tables else {})
    return space_of(RunConfig(data="toy", model=model).resolved())


@pytest.mark.parametrize("name", CTR)
def test_draws_are_models(name):
    found = space(name)
    assert {"train.lr", "train.table_l2"} <= set(found.tuned)
    for seed in range(20):
        values = found.draw(Dice(seed))
        cfg = found.configure(values)
        for setting, value in values.items():
            group = cfg.model if setting.startswith("model.") else cfg.train.model_dump(mode="json")
            for part in setting.split(".")[1:]:
                group = group[part]
            assert group == value, setting
        settings = {key: value for key, value in cfg.model.items() if key != "name"}
        with torch.no_grad():
            assert create(name, toys.MIXED, **settings).eval()(X).isfinite().all()


@pytest.mark.parametrize("name", TUNED)
def test_draws_are_models_that_rank(name):
    found = space(name)
    assert any(setting.startswith("train.") for setting in found.tuned) == (name not in SCORERS)
    assert ("train.table_l2" in found.tuned) == ("embedding" in found.base.model)
    for seed in range(10):
        cfg = found.configure(found.draw(Dice(seed)))
        settings = {key: value for key, value in cfg.model.items() if key != "name"}
        assert create(name, toys.ranking(5, 4), seed=1, **settings).num_items == 4


@pytest.mark.parametrize("name", CTR + TUNED)
def test_declared_ranges_hold_the_defaults(name):
    """As they are declared, before a space is widened to hold a recipe's own values, as those of a preset's
    training."""
    found = space(name)
    own = getattr(model_class(name.partition(".")[0]), "preset_training", {}).get(name.partition(".")[2], {})
    declared = {**resolve(name)[1].searches("model."), **found.base.train.searches("train.")}
    for setting, value in found.own_values().items():
        if setting.removeprefix("train.") in own:
            continue
        search = declared[setting]
        if search.choices:
            assert value in search.choices, setting
        elif not (value == 0 and search.zero):
            assert search.low <= value <= search.high, setting
            steps = (value - search.low) / search.step if search.step else 0
            assert abs(steps - round(steps)) < 1e-9, setting


@pytest.mark.parametrize("name", sorted(set(TUNED) - set(SCORERS)))
def test_the_decay_of_a_net_is_tuned_where_there_is_one(name):
    model = create(name, toys.ranking(5, 4), seed=1)
    inside = {id(p) for part in model.modules() if isinstance(part, Embedding) for p in part.parameters()}
    assert ("train.net_l2" in space(name).tuned) == any(id(p) not in inside for p in model.parameters())
