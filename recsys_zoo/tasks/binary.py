"""Binary labels: click-through rate and conversion, one label at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from ..batch import Batch
from ..data.store import Prepared, Split
from ..errors import InputError, unknown_name
from ..losses.pointwise import binary_cross_entropy
from ..metrics.binary import evaluate_binary
from ..models.base import CTRModel, scalars
from .base import Evaluation, Loss


class BinaryTask:
    """Joins CTR models to the mean binary cross-entropy and the exact binary metrics of a prepared data set.

    `label` picks one of several label columns (default: the first).
    """

    watched = "valid"

    def __init__(self, data: Prepared, label: str = "") -> None:
        names = data.schema.labels
        if data.schema.interactions:
            raise InputError(
                f"{data.schema.dataset}: interactions have no label of clicks to learn or audit; prepare the "
                "files with labels for that"
            )
        if not names:
            raise InputError(
                "the data have no label column; name one under `labels` in the schema file and prepare again"
            )
        if label and label not in names:
            raise unknown_name("label", label, names)
        self.data, self.label = data, label or names[0]
        self.place = names.index(self.label)

    @property
    def train(self) -> Split:
        """The examples to learn from."""
        return self.data.split("train")

    @property
    def valid(self) -> Split:
        """The examples that pick the best epoch."""
        return self.data.split("valid")

    def labels(self, batch: Batch) -> Tensor:
        """[B] of the chosen label."""
        return batch.labels if batch.labels.ndim == 1 else batch.labels[:, self.place]

    def loss(self, model: CTRModel, batch: Batch) -> Loss:
        """Weighted mean cross-entropy plus the model's own terms."""
        logits, terms = model.train_forward(batch.inputs)

        def loss_of(logits: Tensor) -> Tensor:
            return binary_cross_entropy(logits.float(), self.labels(batch), batch.weight)

        main = loss_of(logits)
        parts = scalars(terms, main, loss_of)
        return Loss(main + sum(parts.values()), {"logloss": main, **parts})

    @torch.no_grad()
    def scores(self, model: CTRModel, split: Split, batch_size: int, precision: str = "fp32") -> Tensor:
        """Click probabilities [rows] of a split (float32, on the CPU), in row order."""
        device = next(model.parameters()).device
        training = model.training
        model.eval()
        found = []
        for start in range(0, len(split), batch_size):
            batch = split.batch(slice(start, start + batch_size)).to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                logits = model(batch.inputs)
            found.append(torch.sigmoid(logits.float()))
        model.train(training)
        return torch.cat(found).cpu()  # a GPU is waited for once

    def evaluate(
        self, model: CTRModel, split: Split, batch_size: int, precision: str = "fp32"
    ) -> Evaluation:
        """The metrics of a split, none when a score is not finite."""
        scores = self.scores(model, split, batch_size, precision)
        if not bool(torch.isfinite(scores).all()):
            return Evaluation({}, None)
        constant = float(scores[0]) if bool(scores.min() == scores.max()) else None
        return Evaluation(self.metrics(scores, split), constant)

    def metrics(self, scores: Tensor, split: Split) -> dict[str, float]:
        """AUC, logloss, calibration, and gAUC where the data have groups."""
        labels = torch.from_numpy(split.labels[:, self.place].copy())
        group = None if split.group is None else torch.from_numpy(split.group[:].copy())
        return evaluate_binary(scores, labels, group)
