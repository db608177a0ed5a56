"""What a model is: settings, a card and a forward. Models know nothing of losses, trainers and devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..batch import Inputs
from ..card import Card
from ..config import Frozen
from ..nn.embedding import Embedding, EmbeddingConfig
from ..schema import Schema

# A loss term beside the task's: a scalar, or, for terms that need the labels, which a model never sees, a
# function of the task's loss and of its loss of any logits: term(loss, loss_of) -> scalar.
LossOf = Callable[[Tensor], Tensor]
Term = Tensor | Callable[[Tensor, LossOf], Tensor]


def scalars(terms: dict[str, Term], loss: Tensor, loss_of: LossOf) -> dict[str, Tensor]:
    """The terms of `Model.train_forward` as scalars."""
    return {k: term if isinstance(term, Tensor) else term(loss, loss_of) for k, term in terms.items()}


class ModelConfig(Frozen):
    """Settings every model has."""

    embedding: EmbeddingConfig = EmbeddingConfig()


class Model(nn.Module):
    """Base of the zoo's networks: built from settings and a schema, returns logits."""

    card: ClassVar[Card]
    Config: ClassVar[type[ModelConfig]] = ModelConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    whole_table: ClassVar[bool] = False  # True: reads `Embedding.matrix` in training, so tables need autograd

    def __init__(self, cfg: ModelConfig, schema: Schema) -> None:
        super().__init__()
        self.cfg, self.schema = cfg, schema

    @property
    def name(self) -> str:
        """The registry name."""
        return type(self).__module__.rpartition(".")[2]

    def train_forward(self, x: Inputs) -> tuple[Tensor, dict[str, Term]]:
        """Logits and further loss terms by name, each added to the task's loss."""
        return self(x), {}

    @torch.no_grad()
    def explain(self, x: Inputs) -> dict[str, Tensor]:
        """Tensors that explain the logits (attention maps ...); empty where the model has none."""
        return {}

    def num_parameters(self) -> int:
        """Learnt numbers; padding rows of tables are not counted."""
        padding = sum(
            t.weight.shape[1] for m in self.modules() if isinstance(m, Embedding) for t in m.tables()
        )
        return sum(p.numel() for p in self.parameters()) - padding


class CTRModel(Model):
    """forward(Inputs) -> logits [B] of a click; the probability is their sigmoid."""
