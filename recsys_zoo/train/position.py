"""Where a training stands, and what it came to."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass
class Position:
    """Where a training stands: all that is not a tensor and must survive a kill."""

    stage: int = 0
    epoch: int = 0  # epochs finished in this stage
    step: int = 0  # steps taken in the running epoch
    global_step: int = 0
    lr: float = 0.0
    best: float = -math.inf
    best_epoch: int = 0
    best_valid: dict[str, float] = field(default_factory=dict)
    best_constant: bool = False
    misses: int = 0
    loss_sum: float = 0.0
    epochs_done: int = 0
    rows_done: int = 0
    train_s: float = 0.0
    total_s: float = 0.0
    finished: bool = False
    dead: str = ""
    rates: list[float] = field(default_factory=list)  # learning rate of each epoch that is in the weights


@dataclass(frozen=True)
class Fit:
    """What a training came to; `status` is "done", or "dead" with the reason in one sentence."""

    status: str
    reason: str
    epochs: int
    best_epoch: int
    valid: dict[str, float]
    seconds: float
    rows_per_s: float
    lr: float
    rates: tuple[float, ...] = ()  # learning rate of every epoch whose work was kept
