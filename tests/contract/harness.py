"""What the contract tests do to a model: train it, bake it, flatten its inputs. New models need no edit."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_zoo import create, list_models
from recsys_zoo.batch import Inputs
from recsys_zoo.models.base import Model, Scorer, scalars
from recsys_zoo.models.vectors import VectorModel
from recsys_zoo.nn.embedding import Embedding
from recsys_zoo.schema import Schema
from recsys_zoo.zoo import model_class
from tests import toys

CTR = list_models(family="ctr")
RETRIEVAL = list_models(family="retrieval")
SCORERS = [name for name in RETRIEVAL if issubclass(model_class(name), Scorer)]
VECTORS = [name for name in RETRIEVAL if issubclass(model_class(name), VectorModel)]
LISTS = [name for name in RETRIEVAL if getattr(model_class(name), "learns_lists", False)]
ROWS = 64
DESCENT = "gradient descent"  # of golden.json, beside the platforms
NUMERICS = Path(__file__).parent.parent / "numerics"


def make(name: str, schema: Schema = toys.MIXED, **settings) -> Model:
    """The model with narrow embeddings, else its defaults, from a fixed seed."""
    settings["embedding"] = {"dim": 4, **settings.get("embedding", {})}
    return create(name, schema, seed=1, **settings)


def told(model: Model) -> Model:
    """The model; one that reads the columns of items is given some."""
    if hasattr(model, "content"):
        model.content.give(*toys.tokens(model.num_items))
    return model


def shapes(model: nn.Module) -> dict[str, list[int]]:
    """The names and shapes of a state dict."""
    return {key: list(tensor.shape) for key, tensor in model.state_dict().items()}


def training_loss(model: Model, x: Inputs, y: Tensor) -> Tensor:
    """Mean cross-entropy and the model's own terms."""
    logits, terms = model.train_forward(x)

    def loss_of(logits: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, y)

    loss = loss_of(logits)
    return loss + sum(scalars(terms, loss, loss_of).values())


def losses(model: Model, x: Inputs, y: Tensor, steps: int, optimizer: type = torch.optim.Adam) -> list[float]:
    """Train on the whole batch with plain Adam, or gradient steps; the loss before each step."""
    stepper = optimizer(model.parameters(), lr=1e-2)
    history = []
    model.train()
    for _ in range(steps):
        loss = training_loss(model, x, y)
        stepper.zero_grad()
        loss.backward()
        stepper.step()
        history.append(float(loss.detach()))
    return history


def trained(name: str, schema: Schema = toys.MIXED, **settings) -> tuple[Model, Inputs]:
    """A model after a few steps (away from its initial symmetry), in evaluation mode, and its inputs."""
    model = make(name, schema, **settings)
    x, y = toys.planted(schema, ROWS)
    losses(model, x, y, 5)
    return model.eval(), x


def bake(model: nn.Module) -> nn.Module:
    """Put every embedding layer's dense equal in its place."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Embedding):
                setattr(parent, name, child.bake())
    return model


class Flat(nn.Module):
    """The model behind named tensors, one a bag; inputs of width 0 are left out."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model
        self.schema = model.schema

    def forward(self, columns: dict[str, Tensor]) -> Tensor:
        rows = next(iter(columns.values()))
        empty = rows.new_zeros((rows.shape[0], 0))
        bags = {c.name: columns[c.name] for c in self.schema.of("bag", "sequence")}
        return self.model(Inputs(columns.get("ids", empty), columns.get("numeric", empty), bags))


def flat(x: Inputs) -> dict[str, Tensor]:
    """The inputs of Flat."""
    named = {"ids": x.ids, "numeric": x.numeric, **x.bags}
    return {name: tensor for name, tensor in named.items() if tensor.shape[1]}


def platform_key() -> str:
    """What rounding depends on: torch version, instruction set, threads, and the processor's model."""
    version, capability = torch.__version__.partition("+")[0], torch.backends.cpu.get_cpu_capability()
    return f"{version} {capability} threads={torch.get_num_threads()} {_processor()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return "unknown"
    fields = dict(line.replace("\t", "").split(":", 1) for line in lines if ":" in line)
    return "-".join(fields.get(k, "").strip() for k in ("vendor_id", "cpu family", "model"))


def golden_losses(name: str, optimizer: type = torch.optim.Adam) -> list[float]:
    """Losses of three steps on the planted toy."""
    x, y = toys.planted(toys.MIXED, ROWS)
    return losses(make(name), x, y, 3, optimizer)


def losses_of_descent(name: str) -> list[float]:
    """The same by gradient steps, which processors agree on: Adam's first steps have the length of the rate
    whatever the gradient, and rounding has the sign of some in its hand (FinalNet: 8e-4 of the loss)."""
    return golden_losses(name, torch.optim.SGD)


def read(file: str) -> dict:
    return json.loads((NUMERICS / file).read_text())
