"""Batch normalisation, alone or with ReLU and dropout behind it."""

from __future__ import annotations

import ctypes

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import kernels
from .activation import leaves_bias, watched


class BatchNorm(nn.BatchNorm1d):
    """nn.BatchNorm1d of [B, width]: the same parameters, buffers and values to rounding.

    ValueError for a training batch of one row.
    In training on a CPU, and where kernels are enabled, a C++ kernel does it (float32, its sums in double).
    """

    rate, relu = 0.0, False  # of what follows the norm in the kernel

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 2 and kernels.takes(x) and self._takes(*x.shape):
            return self._all(x, None)
        return super().forward(x)

    def _takes(self, rows: int, width: int) -> bool:
        """Whether this is for the kernel; what is left to torch includes what it refuses."""
        fits = self.training and rows > 1 and width == self.num_features
        return fits and kernels.takes(self.weight) and kernels.built("batch_norm", RELU=int(self.relu))

    def _all(self, x: Tensor, shift: Tensor | None) -> Tensor:
        seed = kernels.seed(self.rate)
        y, moments = _norm(x, self.weight, self.bias, shift, seed, self.eps, self.rate, self.relu)
        with torch.no_grad():
            self._track(moments, len(x), shift)
        return y

    def _track(self, moments: Tensor, rows: int, shift: Tensor | None) -> None:
        """Moving averages, of the unbiased variance, as nn.BatchNorm1d keeps them."""
        mean, variance = moments if shift is None else (moments[0] + shift, moments[1])
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
        self.running_var.lerp_((variance * (rows / (rows - 1))).to(self.running_var), self.momentum)


class BatchNormReLUDropout(BatchNorm):
    """BatchNorm, ReLU and, in training, dropout of `rate`; the kernel does all three.

    It drops as the kernel of `ReLUDropout` does.
    """

    relu = True

    def __init__(self, width: int, rate: float) -> None:
        super().__init__(width)
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 2 and kernels.takes(x) and self._takes(*x.shape):
            return self._all(x, None)
        return F.dropout(nn.BatchNorm1d.forward(self, x).relu(), self.rate, self.training)

    def after(self, linear: nn.Linear, x: Tensor) -> Tensor:
        """self(linear(x)); in training the bias goes to the moving mean alone.

        Nothing else depends on it: its gradient is 0, where sums over rows leave what rounding makes of 0 and
        Adam makes steps of that, which the moving mean follows late (benchmarks/norm_bias.py).
        """
        if leaves_bias(linear, x) and self._takes(len(x), linear.out_features):
            return self._all(F.linear(x, linear.weight), linear.bias)
        if self.training and linear.bias is not None and not watched(linear):
            return self(F.linear(x, linear.weight, linear.bias.detach() + 0 * linear.bias))
        return self(linear(x))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, rate={self.rate}"


def batch_norm_relu_dropout(width: int, rate: float) -> list[nn.Module]:
    """Batch normalisation, ReLU and dropout for an nn.Sequential; places as in `relu_dropout`."""
    return [BatchNormReLUDropout(width, rate), *[nn.Identity()] * (2 if rate else 1)]


def _call(name: str, tensors: tuple[Tensor, ...], eps: float, seed: Tensor, rate: float, relu: bool) -> None:
    """A function of the kernel over vectors of columns; the first tensor is [B, width]."""
    function = getattr(kernels.library("batch_norm", RELU=int(relu)), name)
    kernels.over_columns(function, tensors, (*kernels.dropout_settings(seed, rate), ctypes.c_double(eps)))


@torch.library.custom_op("recsys_zoo::batch_norm", mutates_args=(), device_types="cpu")
def _norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    shift: Tensor | None,
    seed: Tensor,
    eps: float,
    rate: float,
    relu: bool,
) -> tuple[Tensor, Tensor]:
    """y [B, width]; mean and biased variance, float64 [2, width]. A shift of x changes neither, so it is not
    added; it is here to have its gradient of 0."""
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    moments = x.new_empty(2, x.shape[1], dtype=torch.float64)
    inputs = (x.contiguous(), weight.contiguous(), bias.contiguous())
    _call("forward", (*inputs, out, *moments), eps, seed, rate, relu)
    return out, moments


@torch.library.custom_op("recsys_zoo::batch_norm_backward", mutates_args=(), device_types="cpu")
def _norm_backward(
    x: Tensor,
    weight: Tensor,
    out: Tensor,
    moments: Tensor,
    gradient: Tensor,
    seed: Tensor,
    eps: float,
    rate: float,
    relu: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x [B, width], weight and bias [width]; out is read with a ReLU alone."""
    like_x = torch.empty_like(x, memory_format=torch.contiguous_format)
    results = (like_x, x.new_empty(x.shape[1]), x.new_empty(x.shape[1]))
    inputs = (x.contiguous(), weight.contiguous(), out, gradient.contiguous(), *moments)
    _call("backward", (*inputs, *results), eps, seed, rate, relu)
    return results


@_norm.register_fake
def _(x, weight, bias, shift, seed, eps, rate, relu) -> tuple[Tensor, Tensor]:
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    return out, x.new_empty(2, x.shape[1], dtype=torch.float64)


@_norm_backward.register_fake
def _(x, weight, out, moments, gradient, seed, eps, rate, relu) -> tuple[Tensor, Tensor, Tensor]:
    like_x = torch.empty_like(x, memory_format=torch.contiguous_format)
    return like_x, x.new_empty(x.shape[1]), x.new_empty(x.shape[1])


def _remember(ctx, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, _, shift, seed, *ctx.settings = inputs
    out, moments = output if ctx.settings[-1] else (x, output[1])  # y tells where a ReLU passed, no more
    ctx.shifted = shift is not None
    ctx.mark_non_differentiable(moments)
    ctx.save_for_backward(x, weight, out, moments, seed)


def _differentiate(ctx, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, out, moments, seed = ctx.saved_tensors
    results = _norm_backward(x, weight, out, moments, gradient, seed, *ctx.settings)
    return *results, torch.zeros_like(weight) if ctx.shifted else None, *[None] * 4


_norm.register_autograd(_differentiate, setup_context=_remember)
