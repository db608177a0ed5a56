"""One training step as a module: the only thing that is compiled and wrapped by DDP or FSDP."""

from __future__ import annotations

import torch
from torch import nn

from ..batch import Batch, Pairs
from ..models.base import Model
from ..tasks.base import Loss, Task


class Step(nn.Module):
    """batch -> loss. Methods of the model called beside a DDP forward would give wrong gradients,
    silently."""

    def __init__(self, model: Model, task: Task, precision: str = "fp32") -> None:
        super().__init__()
        self.model, self.task, self.precision = model, task, precision

    def forward(self, batch: Batch | Pairs) -> Loss:
        with torch.autocast(batch.weight.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return self.task.loss(self.model, batch)
