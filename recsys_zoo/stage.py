"""Stages of a training: which parameters move, for how long, from which weights."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from .config import Frozen


class Stage(Frozen):
    """One stage; each rebuilds optimiser and compiled step, so moments never leak from one stage to the
    next."""

    name: str = Field("train", description="appears in logs and in the training state")
    train: str = Field(".*", description="regular expression of the parameter names that move")
    epochs: int = Field(0, ge=0, description="at most so many epochs; 0: the run's `epochs`")
    lr: float = Field(0.0, ge=0, description="learning rate; 0: the run's `lr`")
    start_from: Literal["last", "best"] = Field(
        "last",
        description="weights the stage begins with: the ones at hand, or the best of the stage before",
    )

    @field_validator("train")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return value
