"""A small model with everything the table updates must survive: two widths, shared bag, numerics, dense
layers."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from recsys_zoo.batch import Inputs
from recsys_zoo.models.base import CTRModel, ModelConfig
from recsys_zoo.nn.embedding import Embedding, EmbeddingConfig, FirstOrder
from recsys_zoo.schema import Column, Schema
from recsys_zoo.train.config import TrainConfig
from recsys_zoo.train.optim import Optimizer

SCHEMA = Schema(
    dataset="toy",
    labels=("y",),
    columns=(
        Column(name="user", kind="categorical", vocab_size=60, side="user"),
        Column(name="item", kind="categorical", vocab_size=40, side="item"),
        Column(name="price", kind="numeric"),
        Column(name="seen", kind="bag", vocab_size=40, max_len=4, share_with="item"),
    ),
)


class Toy(CTRModel):
    """First-order term (width 1) + linear layer on flattened vectors; the bag shares the item's rows."""

    def __init__(self, cfg: ModelConfig, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.linear = FirstOrder(schema, cfg.embedding)
        self.embedding = Embedding(schema, cfg.embedding)
        self.hidden = nn.Linear(self.embedding.flat_dim, 16)
        self.dropout = nn.Dropout(0.2)
        self.out = nn.Linear(16, 1)

    def forward(self, x: Inputs) -> Tensor:
        h = self.dropout(torch.relu(self.hidden(self.embedding.flat(x))))
        return self.out(h).squeeze(-1) + self.linear(x)


def toy(seed: int = 0, **embedding) -> Toy:
    torch.manual_seed(seed)
    return Toy(ModelConfig(embedding=EmbeddingConfig(**{"dim": 6, "init_std": 0.1, **embedding})), SCHEMA)


def inputs(rows: int, seed: int) -> tuple[Inputs, Tensor]:
    """Inputs with many duplicate ids, empty bags among them; ids above 30 of the user column never occur."""
    g = torch.Generator().manual_seed(seed)
    ids = torch.stack(
        [torch.randint(1, 30, (rows,), generator=g), torch.randint(1, 40, (rows,), generator=g)], 1
    )
    bag = torch.randint(1, 40, (rows, 4), generator=g) * (torch.rand(rows, 4, generator=g) < 0.6)
    labels = (torch.rand(rows, generator=g) < 0.4).float()
    return Inputs(ids.int(), torch.randn(rows, 1, generator=g), {"seen": bag.int()}), labels


def ours(model: Toy, steps: int, **settings) -> list[float]:
    """Train a copy-free model for some steps with our optimiser; the gradient norms of the steps."""
    cfg = TrainConfig(**settings)
    optimizer = Optimizer(model, cfg, cfg.lr)
    norms = []
    model.train()
    for step in range(steps):
        x, y = inputs(64, step)
        optimizer.begin()
        torch.nn.functional.binary_cross_entropy_with_logits(model(x), y).backward()
        norms.append(float(optimizer.step()))
    optimizer.release()
    return norms


def oracle(
    model: Toy, steps: int, lr: float, clip: float, table_l2: float, net_l2: float = 0.0,
    optimizer: str = "adam",
) -> list[float]:
    """The same by plain torch: L2 terms in the loss, clip_grad_norm_, torch's optimiser, not fused."""
    embedded = {id(p) for m in (model.embedding, model.linear.embedding) for p in m.parameters()}
    kinds = {"adam": torch.optim.Adam, "adagrad": torch.optim.Adagrad, "sgd": torch.optim.SGD}
    theirs = kinds[optimizer](model.parameters(), lr=lr, foreach=False)
    norms = []
    model.train()
    for step in range(steps):
        x, y = inputs(64, step)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(x), y)
        for p in model.parameters():
            loss = loss + (table_l2 if id(p) in embedded else net_l2) / 2 * p.square().sum()
        theirs.zero_grad()
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), clip)))
        theirs.step()
    return norms


def difference(a: nn.Module, b: nn.Module) -> float:
    """Largest absolute difference of two models' parameters."""
    return max(
        float((p - q).detach().abs().max()) for p, q in zip(a.parameters(), b.parameters(), strict=True)
    )


def twins(**embedding) -> tuple[Toy, Toy]:
    model = toy(**embedding)
    return model, copy.deepcopy(model)
