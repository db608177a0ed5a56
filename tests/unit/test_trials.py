"""What the record of trials leads to: the next settings, pruning, the choice."""

from __future__ import annotations

import math

import pytest

from recsys_zoo.runs import RunConfig
from recsys_zoo.space import Space, space_of
from recsys_zoo.trials import PRUNE_AFTER, RANDOM_FIRST, Trial, best_of, lags, propose


@pytest.fixture
def space() -> Space:
    return space_of(RunConfig(data="toy", model={"name": "dcnv2"}).resolved())


def trial(number: int, value: float | None = None, settings: dict | None = None, **more) -> Trial:
    epochs = () if value is None else ({"auc": value},)
    return Trial(**{"number": number, "settings": settings or {}, "state": "done", "value": value,
                    "valid": epochs, **more})


def grow(space: Space, count: int, sampler: str, score) -> list[Trial]:
    """A study whose trials score by their settings."""
    trials = [trial(0, score(space.own_values()), space.own_values())]
    while len(trials) < count:
        settings = propose(space, trials, sampler)
        trials.append(trial(len(trials), score(settings), settings))
    return trials


def far_from(settings: dict) -> float:
    """Best at lr 5e-3 with a dropout of 0.3."""
    off = abs(math.log(settings["train.lr"] / 5e-3)) + abs(settings["model.dropout"] - 0.3)
    return 1 - 0.1 * off


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_same_record_leads_to_the_same_settings(space, sampler):
    trials = grow(space, 10, sampler, far_from)
    for number in (1, 4, 9):
        read = [Trial.parse(t.model_dump(mode="json"), "line") for t in trials[:number]]
        assert propose(space, read, sampler) == trials[number].settings
    assert len({str(t.settings) for t in trials}) == 10
    other = space_of(space.base.model_copy(update={"train": space.base.train.model_copy(update={"seed": 2})}))
    assert propose(other, trials[:1], sampler) != trials[1].settings


def test_random_draws_do_not_look_at_the_trials(space):
    found = [grow(space, RANDOM_FIRST + 6, "random", score) for score in (far_from, lambda settings: 0.5)]
    assert [t.settings for t in found[0]] == [t.settings for t in found[1]]


def test_tpe_learns_from_the_trials(space):
    """Its later draws lie nearer to the optimum than its first ones, which are random."""
    trials = grow(space, 40, "tpe", far_from)
    early = sum(t.value for t in trials[1 : 1 + RANDOM_FIRST]) / RANDOM_FIRST
    late = sum(t.value for t in trials[-10:]) / 10
    assert late > early + 0.03
    assert best_of(trials).value > 0.97


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_every_state_can_be_told(space, sampler):
    """Running beside this process, pruned, dead, failed before an epoch, and a recipe off the grid."""
    off = {**space.own_values(), "model.dropout": 0.123, "model.hidden": [3]}
    trials = [trial(0, 0.5, off), trial(1, 0.4, off, state="pruned"), trial(2, None, off, state="running"),
              trial(3, math.nan, off, state="dead"), trial(4, None, off, state="failed", reason="no memory")]
    trials += [trial(5 + k, 0.5, space.own_values()) for k in range(RANDOM_FIRST)]
    assert propose(space, trials, sampler)


def curve(number: int, *values: float, state: str = "done", same_as: int | None = None) -> Trial:
    valid = tuple({"auc": value} for value in values)
    return Trial(number=number, settings={}, state=state, value=max(values), valid=valid, same_as=same_as)


def test_a_trial_below_the_median_of_as_many_epochs_is_pruned():
    """After PRUNE_AFTER = 4 epochs and the one that follows; the median of 1, 2, 3 and 4 tenths is 0.25."""
    assert PRUNE_AFTER == 4
    before = [curve(k, *[0.0] * 4, 0.1 * (k + 1)) for k in range(4)]
    assert lags([*before, curve(4, *[0.0] * 4, 0.24, state="running")], 4, "auc")
    assert not lags([*before, curve(4, *[0.0] * 4, 0.26, state="running")], 4, "auc")
    assert not lags([*before, curve(4, 0.3, *[0.0] * 4, state="running")], 4, "auc")  # its best so far counts
    assert not lags([*before, curve(4, *[0.0] * 4, state="running")], 4, "auc")  # too early
    assert not lags([*before[:3], curve(3, *[0.0] * 5, state="running")], 3, "auc")  # too few before it
    pruned = [t.model_copy(update={"state": "pruned"}) for t in before[:1]]
    assert not lags([*pruned, *before[1:], curve(4, *[0.0] * 5, state="running")], 4, "auc")


def test_pruning_by_logloss_prunes_what_is_high():
    def losses(number: int, last: float, state: str = "done") -> Trial:
        valid = tuple({"logloss": value} for value in (0.9, 0.9, 0.9, 0.9, last))
        return Trial(number=number, settings={}, state=state, value=-last, valid=valid)

    before = [losses(k, 0.1 * (k + 1)) for k in range(4)]
    assert lags([*before, losses(4, 0.26, "running")], 4, "logloss")
    assert not lags([*before, losses(4, 0.24, "running")], 4, "logloss")


def test_the_best_finished_trial_is_chosen_and_the_first_of_equal_ones():
    trials = [trial(0, 0.7), trial(1, 0.8), trial(2, 0.8)]
    trials += [trial(3, 0.9, state="pruned"), trial(4, state="failed")]
    assert best_of(trials).number == 1
    assert best_of(trials[3:]) is None
