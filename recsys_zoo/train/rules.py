"""Rules by which weights move: Adam, Adagrad and SGD, the same for dense weights and for rows of tables."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn


class Adam:
    """Adam with bias correction (Kingma & Ba, ICLR 2015), as torch.optim.Adam."""

    moments: ClassVar[dict[str, str]] = {"mean": "exp_avg", "square": "exp_avg_sq"}  # ours -> torch's
    rests = False  # whether a gradient of 0 leaves a weight where it is
    betas, eps = (0.9, 0.999), 1e-8
    kernel = "adam_rows"  # of native/table_rows.cpp

    def optimizer(self, weights: Iterable[nn.Parameter], lr: float, graph: bool) -> torch.optim.Optimizer:
        """torch's, for dense weights; graph: it is to be captured as a CUDA graph."""
        options = {"betas": self.betas, "eps": self.eps, "fused": True, "capturable": graph}
        return torch.optim.Adam(list(weights), lr, **options)

    def move(
        self, weight: Tensor, grad: Tensor, moments: list[Tensor], lr: float | Tensor, count: Tensor
    ) -> None:
        """One step in place; `count` is its number, from 1."""
        # The kernel of torch.optim.Adam(fused=True): table rows and dense weights follow the same arithmetic.
        torch._fused_adam_(
            [weight],
            [grad],
            *([moment] for moment in moments),
            [],
            [count],
            lr=lr,
            beta1=self.betas[0],
            beta2=self.betas[1],
            weight_decay=0.0,
            eps=self.eps,
            amsgrad=False,
            maximize=False,
        )

    def numbers(self, lr: float, count: float) -> tuple[float, ...]:
        """What the kernel wants to know."""
        (beta1, beta2), eps = self.betas, self.eps
        return lr / (1 - beta1**count), math.sqrt(1 - beta2**count), beta2, 1 - beta1, 1 - beta2, eps


class Adagrad:
    """Adagrad (Duchi et al., JMLR 2011), as torch.optim.Adagrad: sums of squares begin at 0."""

    moments: ClassVar[dict[str, str]] = {"square": "sum"}
    rests = True
    eps = 1e-10
    kernel = "adagrad_rows"

    def optimizer(self, weights: Iterable[nn.Parameter], lr: float, graph: bool) -> torch.optim.Optimizer:
        """As of Adam."""
        return torch.optim.Adagrad(list(weights), lr, eps=self.eps)

    def move(
        self, weight: Tensor, grad: Tensor, moments: list[Tensor], lr: float | Tensor, count: Tensor
    ) -> None:
        """As of Adam."""
        square = moments[0].addcmul_(grad, grad)
        weight.sub_(lr * grad / (square.sqrt() + self.eps))

    def numbers(self, lr: float, count: float) -> tuple[float, ...]:
        """As of Adam."""
        return lr, self.eps


class SGD:
    """Plain gradient descent, without momentum."""

    moments: ClassVar[dict[str, str]] = {}
    rests = True
    kernel = "sgd_rows"

    def optimizer(self, weights: Iterable[nn.Parameter], lr: float, graph: bool) -> torch.optim.Optimizer:
        """As of Adam."""
        return torch.optim.SGD(list(weights), lr, fused=True)

    def move(
        self, weight: Tensor, grad: Tensor, moments: list[Tensor], lr: float | Tensor, count: Tensor
    ) -> None:
        """As of Adam."""
        weight.sub_(lr * grad)

    def numbers(self, lr: float, count: float) -> tuple[float, ...]:
        """As of Adam."""
        return (lr,)


RULES: dict[str, Any] = {"adam": Adam(), "adagrad": Adagrad(), "sgd": SGD()}
