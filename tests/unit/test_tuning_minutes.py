"""Budgets of minutes: what they end, and when a row may name them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from recsys_zoo import tuning
from recsys_zoo.board.rows import read_rows
from recsys_zoo.trials import Budget, Trial

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


def trial(number: int, seconds: float, value: float, **more) -> Trial:
    told = {"number": number, "settings": {"n": number}, "state": "done", "seconds": seconds, "value": value,
            "valid": ({"auc": value},), "cut": True}
    return Trial(**told | more)


def test_minutes_alone_are_shared_in_turns_and_the_best_has_the_second_half():
    budget = Budget(None, 8.0)  # turns of one minute
    first = [trial(0, 60, 0.5), trial(1, 61, 0.7), trial(2, 60, 0.6)]
    assert budget.goes_on(first) is None
    assert budget.begins(first)
    at_work = {"state": "running", "cut": False}
    assert [budget.stops([*first[:2], trial(2, s, 0.9, **at_work)], 2) for s in (59, 60)] == [False, True]
    four = [*first, trial(3, 60, 0.4)]
    assert budget.goes_on(four).number == 1
    goes_on = [t if t.number != 1 else trial(1, 200, 0.8, **at_work) for t in four]
    assert not budget.stops(goes_on, 1)
    at_the_end = [t if t.number != 1 else trial(1, 300, 0.8, **at_work) for t in four]
    assert budget.stops(at_the_end, 1)
    finished = [t if t.number != 1 else trial(1, 200, 0.8, cut=False) for t in four]
    assert budget.goes_on(finished).number == 2
    both = [*finished[:2], trial(2, 70, 0.6, cut=False), finished[3]]
    assert budget.goes_on(both) is None  # what is left is below the median: a new one
    assert budget.begins(both)
    assert budget.goes_on([*finished[:2], trial(2, 200, 0.6), finished[3]]) is None


def test_a_new_trial_of_the_second_half_stops_after_its_turn_unless_it_is_the_best_of_the_unfinished():
    budget = Budget(None, 8.0)
    whole = trial(0, 250, 0.9, cut=False)
    assert budget.goes_on([whole]) is None
    for value, stops in ((0.6, False), (0.4, True)):
        at_work = trial(2, 61, value, state="running", cut=False)
        assert budget.stops([whole, trial(1, 60, 0.5), at_work], 2) == stops
        assert budget.stops([whole, trial(1, 60, 0.7, cut=False), at_work], 2)  # below the median


def test_a_copy_of_an_earlier_trial_does_not_go_on():
    copied = trial(1, 0, 0.7, same_as=0)
    assert Budget(None, 1.0).goes_on([trial(0, 40, 0.7, cut=False), copied]) is None


@pytest.mark.parametrize("budget", [Budget(9, 8.0), Budget(9)])
def test_counted_trials_have_no_turns(budget):
    trials = [trial(0, 300, 0.5), trial(1, 100, 0.1, state="running", cut=False)]
    assert budget.goes_on(trials) is None
    assert not budget.stops(trials, 1)


def test_the_best_trial_goes_on_from_its_state(recipes, run, monkeypatch):  # noqa: F811
    """By a clock on which an epoch takes 30 s: two in a turn, then the best has what is left. Its recipe,
    trained without a stop, comes to the same value."""
    ticks = iter(range(0, 10**6, 30))
    said: list[str] = []
    found = study(trials=None, minutes=8.0, pruner="none", say=said.append, only=["train.lr"], seed=2,
                  set_=["train.epochs=50", "train.patience=50", "train.plateau_factor=1"])
    with monkeypatch.context() as patch:
        patch.setattr(tuning, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
        assert found.run()
    trials = found.read()
    assert sorted(len(t.valid) for t in trials) == [2, 2, 2, 10]
    assert all(t.cut for t in trials)
    best = max(trials, key=lambda t: t.value)
    assert len(best.valid) == 10
    assert sum("goes on" in line for line in said) == 1
    assert sum("its turn was over" in line for line in said) == 4
    assert chosen(found)["minutes"] == 8.0
    code, _, err = run("board", "run", found.folder / "recipe.toml", "--seeds", "2", "--rows", "rows.jsonl")
    assert code == 0, err
    (row,) = (row for row in read_rows(Path("rows.jsonl")) if row.role == "model")
    assert (row.epochs, row.metrics["valid.auc"]) == (10, best.value)
