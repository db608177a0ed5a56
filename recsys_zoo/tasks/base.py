"""What the trainer knows of a task: examples, a loss of a batch, and metrics of a validation part."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor


class Loss(NamedTuple):
    """The scalar to descend, and its parts by name (detached use only)."""

    total: Tensor
    parts: dict[str, Tensor]


class Evaluation(NamedTuple):
    """Metrics by name, none when a score is not finite; the score that all examples have, if they do."""

    metrics: dict[str, float]
    constant: float | None


class Examples(Protocol):
    """Examples by number; a batch is a pytree of tensors with a length and `rows` (see batch.py)."""

    mib: float
    device: torch.device

    def __len__(self) -> int: ...

    def batch(self, rows: Tensor) -> Any:
        """Those of these numbers [B]."""

    def on(self, device: torch.device) -> Examples:
        """The same on a device."""

    def first(self, rows: int) -> Examples:
        """The first ones."""


class Task(Protocol):
    """A family of models joined to a loss and to metrics. watched: the split that `valid` is taken from."""

    watched: str

    @property
    def train(self) -> Examples: ...

    @property
    def valid(self) -> Examples: ...

    def loss(self, model: Any, batch: Any) -> Loss: ...

    def evaluate(self, model: Any, examples: Any, batch_size: int, precision: str) -> Evaluation: ...
