"""The optimiser of a stage: one clipping norm and one step over tables and dense weights together."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..models.base import Model
from ..nn.embedding import Embedding
from .config import TrainConfig
from .rules import RULES
from .tables import TableOptimizer, check_empty


class Optimizer:
    """Adam as BARS uses it, or another rule: gradient of loss + L2 terms, clipped by its global norm, then
    the step.

    `pattern` (a regular expression) selects the parameters that move. The clipping norm is that of all of
    them, tables with their whole-table L2 included, and one factor scales all: weight decay after the clip
    would be another optimiser.
    """

    def __init__(self, model: Model, cfg: TrainConfig, lr: float, pattern: str = ".*") -> None:
        device = next(model.parameters()).device
        self.clip, self.rule = cfg.clip_norm, RULES[cfg.optimizer]
        self.count = torch.zeros((), device=device)
        self.tables: dict[str, TableOptimizer] = {}
        self.dense: dict[str, nn.Parameter] = {}
        self.l2: dict[str, float] = {}
        embedded = _embedding_parameters(model)
        frozen = _frozen(model)
        matched = False
        for name, parameter in model.named_parameters():
            moves = re.search(pattern, name) is not None and name not in frozen
            matched = matched or moves
            parameter.requires_grad_(moves)
            if not moves:
                continue
            l2 = cfg.table_l2 if name in embedded else cfg.net_l2
            table = embedded.get(name)
            if table is not None and cfg.table_update != "autograd":
                self.tables[name] = TableOptimizer(
                    table, self.rule, l2, whole=cfg.table_update == "exact"
                )
            else:
                self.dense[name], self.l2[name] = parameter, l2
        if not matched:
            raise InputError(f"stage: no trainable parameter matches {pattern!r}")
        self.moving = self.rule.optimizer(self.dense.values(), lr, cfg.cuda_graph) if self.dense else None
        # a tensor where a step may be captured as a graph, which would keep a number for ever
        captured = device.type != "cpu" and cfg.optimizer == "adam"
        self.lr = torch.full((), lr, device=device) if captured else lr
        self._share_lr()

    def begin(self) -> None:
        """Before the forward pass of a step: no gradient and no lookup may be left over."""
        check_empty(list(self.tables.values()))
        for parameter in self.dense.values():
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> Tensor:
        """After the backward pass: clip and move. Returns the gradient norm before clipping (0-d)."""
        gradients = []
        for name, parameter in self.dense.items():
            l2 = self.l2[name]
            if l2 and parameter.grad is None:
                parameter.grad = parameter * l2
            elif l2:
                parameter.grad.add_(parameter, alpha=l2)
            if parameter.grad is not None:
                gradients.append(parameter.grad)
        squares = [table.collect() for table in self.tables.values()]
        if gradients:
            squares += [norm.square() for norm in torch._foreach_norm(gradients)]
        norm = torch.stack(squares).sum().sqrt()
        factor = (self.clip / (norm + 1e-6)).clamp(max=1.0)
        if gradients:
            torch._foreach_mul_(gradients, factor)
        if self.moving is not None:
            self.moving.step()
        self.count += 1
        for table in self.tables.values():
            table.step(self.lr, self.count, factor)
        return norm

    def set_lr(self, lr: float) -> None:
        """Use another learning rate from the next step on; moments stay."""
        self.lr = self.lr.fill_(lr) if isinstance(self.lr, Tensor) else lr
        self._share_lr()

    def _share_lr(self) -> None:
        for group in self.moving.param_groups if self.moving is not None else ():
            group["lr"] = self.lr

    def state(self) -> dict[str, Tensor]:
        """Moments and step count by parameter name."""
        tensors = {"count": self.count}
        for name, table in self.tables.items():
            tensors |= {f"{name}/{moment}": tensor for moment, tensor in table.moments.items()}
        for name, parameter in self.dense.items():
            held = self.moving.state.get(parameter, {})
            tensors |= {f"{name}/{ours}": held[theirs] for ours, theirs in self._kept() if theirs in held}
        return tensors

    def _kept(self) -> list[tuple[str, str]]:
        """Our names and torch's of what a dense weight has beside itself."""
        return [*self.rule.moments.items(), ("step", "step")]

    @torch.no_grad()
    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `state()` gave."""
        self.count.copy_(tensors["count"])
        for name, table in self.tables.items():
            for moment, tensor in table.moments.items():
                tensor.copy_(tensors[f"{name}/{moment}"])
        for name, parameter in self.dense.items():
            if f"{name}/step" in tensors:
                found = {theirs: tensors[f"{name}/{ours}"] for ours, theirs in self._kept()}
                held = self.moving.state.get(parameter, {})  # Adagrad counts steps on the host from the start
                self.moving.state[parameter] = {
                    theirs: value.to(held[theirs].device if theirs in held else parameter.device)
                    for theirs, value in found.items()
                }

    def release(self) -> None:
        """Give all tables back to autograd; the model is again an ordinary module."""
        for table in self.tables.values():
            table.release()


def _embedding_parameters(model: Model) -> dict[str, object]:
    """Names of the parameters of embedding layers -> their Table (None for vectors of numeric columns)."""
    found: dict[str, object] = {}
    for prefix, module in model.named_modules():
        if isinstance(module, Embedding):
            tables = {id(table.weight): table for table in module.tables()}
            for name, parameter in module.named_parameters(prefix=prefix):
                found[name] = tables.get(id(parameter))
    return found


def _frozen(model: Model) -> set[str]:
    """Names of tables that hold columns listed in `embedding.frozen`: no stage trains them."""
    return {name for name, _ in model.named_parameters() if "_frozen." in name}
