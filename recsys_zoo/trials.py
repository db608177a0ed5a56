"""Trials of a study: their record, the choice among them, and what optuna says to them.

optuna keeps nothing: its study is built anew from the record for every question, with a random state that
follows from the seed and the number of the trial. So equal records get equal answers, whatever was killed
between them.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ConfigDict, Field

from .config import Frozen, toml_value
from .errors import InputError
from .space import Space
from .train.trainer import monitored

RANDOM_FIRST = 6  # trials of tpe that are drawn at random before it has something to learn from
MOST = 200  # trials of a study that only has a time limit
TURNS = 8  # of the minutes: after one a trial makes room for others
PRUNE_AFTER = 4  # finished trials, and epochs of a trial, before one is pruned


class Trial(Frozen):
    """One trial: a line of trials.jsonl, written when it begins and again after each epoch."""

    model_config = ConfigDict(ser_json_inf_nan="strings")

    number: int
    settings: dict[str, Any] = Field(description="the tuned settings that are open, by dotted name")
    state: Literal["running", "done", "pruned", "dead", "failed"] = "running"
    value: float | None = Field(None, description="the best of the monitored metric, made large")
    valid: tuple[dict[str, float], ...] = Field((), description="validation metrics of each epoch")
    same_as: int | None = Field(None, description="an earlier trial of the same settings, not trained again")
    reason: str = Field("", description="why it is not done")
    cut: bool = Field(False, description="stopped by the minutes of the study, before its own end")
    seconds: float = 0.0
    when: str = Field("", description="UTC, ISO 8601, of the beginning")
    git: str = ""


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The finished trial with the best value, the earliest of equal ones; None where none is finished."""
    return max((t for t in trials if t.state == "done"), key=lambda t: (t.value, -t.number), default=None)


@dataclass(frozen=True)
class Budget:
    """How much a study may do: a number of trials (None: minutes alone), minutes of training (0: no end).

    No trial begins when the minutes are over, and one at work stops after its epoch. Minutes alone are shared
    by the trials: in their first half each stops after its turn, an eighth; in the second the best of those
    that were stopped goes on from where it was, to its own end, then the next one that is not below the
    median of all, or a new trial. This is successive halving (Jamieson and Talwalkar, AISTATS 2016) in two
    rungs, the second with one place.
    """

    trials: int | None
    minutes: float = 0.0

    @property
    def shared(self) -> bool:
        """Whether trials have turns."""
        return self.trials is None and self.minutes > 0

    def over(self, trials: Sequence[Trial]) -> bool:
        """Whether the trials have had the minutes that there are."""
        return self._spent(trials) >= 60 * self.minutes > 0

    def begins(self, trials: Sequence[Trial]) -> bool:
        """Whether there is one more trial."""
        return len(trials) < (MOST if self.trials is None else self.trials) and not self.over(trials)

    def goes_on(self, trials: Sequence[Trial]) -> Trial | None:
        """The stopped trial that the rest of the minutes is for; None while others have their turns."""
        return best_of(_promising(trials)) if self._halved(trials) and not self.over(trials) else None

    def stops(self, trials: Sequence[Trial], number: int) -> bool:
        """Whether a trial at work stops after its epoch."""
        own = trials[number]
        if not self.shared or self.over(trials) or own.seconds < 60 * self.minutes / TURNS:
            return self.over(trials)
        stopped = own.model_copy(update={"state": "done", "cut": True})
        best = best_of(_promising([stopped if trial is own else trial for trial in trials]))
        return not self._halved(trials) or best is None or best.number != number

    def timed(self, trials: Sequence[Trial]) -> float:
        """The minutes of a budget that has no number of trials beside it and that these trials kept, else 0:
        an earlier command may have given them more. Each process may end one epoch late."""
        epochs = {t.number: t.seconds / max(len(t.valid), 1) for t in trials}
        late = sum(epochs[t.number] for t in trials if t.cut or t is trials[-1])
        late += max((epochs[t.number] for t in trials[:-1] if not t.cut), default=0.0)
        return self.minutes if self.shared and self._spent(trials) - late < 60 * self.minutes else 0.0

    def _halved(self, trials: Sequence[Trial]) -> bool:
        return self.shared and self._spent(trials) >= 30 * self.minutes

    def _spent(self, trials: Sequence[Trial]) -> float:
        return sum(trial.seconds for trial in trials)


def _promising(trials: Sequence[Trial]) -> list[Trial]:
    """Stopped trials whose best value is not below the median of all."""
    made = [trial for trial in trials if trial.value is not None and trial.same_as is None]
    least = statistics.median(trial.value for trial in made) if made else 0.0
    return [trial for trial in made if trial.cut and trial.value >= least]


def propose(space: Space, trials: Sequence[Trial], sampler: str) -> dict[str, Any]:
    """Settings of the next trial, the same for the same trials; sampler "tpe" or "random"."""
    import numpy as np

    optuna = _optuna()
    seed = int(np.random.SeedSequence((space.base.train.seed, len(trials))).generate_state(1)[0])
    if sampler == "tpe":
        drawer = optuna.samplers.TPESampler(seed=seed, n_startup_trials=RANDOM_FIRST, multivariate=False)
    else:
        drawer = optuna.samplers.RandomSampler(seed=seed)
    study = optuna.create_study(direction="maximize", sampler=drawer)
    for trial in trials:
        _tell(study, space, trial)
    return space.draw(study.ask())


def lags(trials: Sequence[Trial], number: int, monitor: str) -> bool:
    """Whether a running trial is to be pruned: its best so far lies below the median that the finished trials
    had after as many epochs (optuna's MedianPruner)."""
    optuna = _optuna()
    pruner = optuna.pruners.MedianPruner(PRUNE_AFTER, PRUNE_AFTER, n_min_trials=PRUNE_AFTER)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    for trial in trials:
        if trial.state == "done" and trial.same_as is None:
            values = _curve(trial, monitor)
            study.add_trial(optuna.trial.create_trial(value=trial.value, intermediate_values=values))
    asked = study.ask()
    for epoch, value in _curve(trials[number], monitor).items():
        asked.report(value, epoch)
    return asked.should_prune()


def _curve(trial: Trial, monitor: str) -> dict[int, float]:
    return {epoch: monitored(metrics, monitor) for epoch, metrics in enumerate(trial.valid)}


def _tell(study: Any, space: Space, trial: Trial) -> None:
    """Add a trial to a study of optuna, with those of its values that lie in their ranges."""
    optuna = _optuna()
    states = optuna.trial.TrialState
    state = {"running": states.RUNNING, "done": states.COMPLETE, "pruned": states.PRUNED}
    told = _Told(trial.settings)
    for name in trial.settings:
        with contextlib.suppress(ValueError):  # the recipe's own value may lie outside of a user's range
            space.suggest(told, name)
    study.add_trial(optuna.trial.create_trial(
        state=state.get(trial.state, states.FAIL), value=trial.value if trial.state == "done" else None,
        params=told.params, distributions=told.distributions,
        intermediate_values=_curve(trial, space.base.train.monitor)))


class _Told:
    """Answers with known settings, and keeps what optuna calls them; ValueError: none of the choices."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings, self.params, self.distributions = settings, {}, {}

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> str:
        setting, is_zero, _ = name.partition(" is 0")
        value = self.settings[setting]
        answer = ("no" if value else "yes") if is_zero else toml_value(value)
        return self._keep(name, answer, _optuna().distributions.CategoricalDistribution(tuple(choices)))

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        known = _optuna().distributions.IntDistribution(low, high, log=log, step=step)
        return self._keep(name, self.settings[name], known)

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float:
        known = _optuna().distributions.FloatDistribution(low, high, log=log, step=step)
        return self._keep(name, self.settings[name], known)

    def _keep(self, name: str, value: Any, distribution: Any) -> Any:
        if distribution._contains(distribution.to_internal_repr(value)):
            self.params[name], self.distributions[name] = value, distribution
        return value


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise InputError("tuning needs optuna: pip install 'recsys-zoo[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
