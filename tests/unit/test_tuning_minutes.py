"""Budgets of minutes: what they end, and when a row may name them."""

from __future__ import annotations

from pathlib import Path

import pytest

from recsys_zoo.board.rows import read_rows

from .cli.conftest import folder, prepared, run  # noqa: F401
from .test_tuning import chosen, recipes, study  # noqa: F401


def test_a_budget_of_minutes_lets_no_trial_begin_later(recipes):  # noqa: F811
    found = study(trials=50, minutes=1e-9)
    assert found.run()
    assert len(found.read()) == 1
    assert study(trials=50, minutes=1e-9).run()
    assert len(found.read()) == 1
    assert "minutes" not in chosen(found)  # it is a budget of trials, not used up


def test_a_budget_of_minutes_alone_stands_in_the_recipe(recipes):  # noqa: F811
    found = study(trials=None, minutes=1e-9)
    assert found.run()
    assert (chosen(found)["minutes"], len(found.read())) == (1e-9, 1)
    assert "all of 1e-09 minutes of" in chosen(found)["choice"]


@pytest.mark.parametrize("stages", [[], ['train.stages=[{name="all", epochs=6}]']])
def test_a_trial_at_work_when_the_minutes_are_over_ends_after_its_epoch(recipes, run, stages):  # noqa: F811
    """Its recipe has as many epochs, and comes to the same value."""
    said: list[str] = []
    found = study(trials=None, minutes=1e-9, set_=["train.epochs=6", *stages], say=said.append)
    assert found.run()
    (trial,) = found.read()
    assert (trial.state, trial.cut, len(trial.valid)) == ("done", True, 1)
    assert "1 epochs" in said[1]
    assert "then the minutes were over" in said[1]
    recipe = chosen(found)["train"]
    assert (recipe["stages"][0] if stages else recipe)["epochs"] == 1
    code, _, err = run("board", "run", found.folder / "recipe.toml", "--seeds", "1", "--rows", "rows.jsonl")
    assert code == 0, err
    (row,) = (row for row in read_rows(Path("rows.jsonl")) if row.role == "model")
    assert (row.epochs, row.metrics["valid.auc"], row.minutes) == (1, trial.value, 1e-9)


def test_a_stopped_trial_goes_on_to_the_end_of_the_minutes(recipes):  # noqa: F811
    found = study(trials=None, minutes=0.5, set_=["train.epochs=6"])
    assert study(trials=1, set_=["train.epochs=6"]).run()
    (whole,) = found.read()
    begun = whole.model_copy(update={"state": "running", "valid": whole.valid[:2], "seconds": 29.9999})
    found.keep(begun)
    assert found.run()
    (trial,) = found.read()
    assert (trial.cut, len(trial.valid)) == (True, 1)  # its state is gone, so it begins again
    assert chosen(found)["minutes"] == 0.5


def test_minutes_that_an_earlier_command_exceeded_are_no_budget(recipes):  # noqa: F811
    assert study(trials=3).run()
    found = study(trials=None, minutes=1e-9)
    assert found.run()
    assert "minutes" not in chosen(found)
    assert chosen(found)["trials"] == 3
