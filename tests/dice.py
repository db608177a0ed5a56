"""Draws from a tuning space without a sampler: a trial that answers by dice, or as it is told."""

from __future__ import annotations

import math
import random
from typing import Any


class Dice:
    """Answers like a trial of optuna, evenly at random; keeps the names it was asked for."""

    def __init__(self, seed: int) -> None:
        self.rng, self.asked = random.Random(seed), []

    def suggest_categorical(self, name: str, choices: Any) -> str:
        self.asked.append(name)
        return self.rng.choice(list(choices))

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        self.asked.append(name)
        return self.rng.randrange(low, high + 1, step)

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float:
        self.asked.append(name)
        if step:
            return low + step * self.rng.randrange(math.floor((high - low) / step + 1e-9) + 1)
        if log:
            return math.exp(self.rng.uniform(math.log(low), math.log(high)))
        return self.rng.uniform(low, high)


class Answers(Dice):
    """Dice that give some settings the value they are told, as TOML writes it."""

    def __init__(self, **told: Any) -> None:
        super().__init__(0)
        self.told = told

    def suggest_categorical(self, name: str, choices: Any) -> str:
        answer = super().suggest_categorical(name, choices)
        told = self.told.get(name.rpartition(".")[2], answer)
        assert told in choices
        return told
