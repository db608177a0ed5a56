"""ReLU with dropout behind it."""

from __future__ import annotations

import ctypes

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import kernels

_LANES = 16  # of a vector in native/dropout.h


class ReLUDropout(nn.Module):
    """max(x, 0), in training with dropout of `rate`; the shape of x stays.

    On a CPU, and where kernels are enabled, a C++ kernel does both in one pass (float32): torch's random
    numbers alone take as long as a product of 400 x 400. It draws other numbers, from a seed of torch's
    generator, and rounds the rate to 2^-32.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.rate:
            return x.relu()
        if kernels.takes(x) and kernels.built("relu_dropout"):
            return _relu_dropout(x, kernels.seed(), self.rate)
        return F.dropout(x.relu(), self.rate)

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


def relu_dropout(rate: float) -> list[nn.Module]:
    """ReLU and dropout for an nn.Sequential, with as many places as modules of their own would take there.

    Names of parameters count the places.
    """
    return [ReLUDropout(rate), *[nn.Identity()] * bool(rate)]


def _call(name: str, tensors: tuple[Tensor, ...], seed: Tensor, rate: float) -> None:
    """A function of the kernel over blocks of 16 numbers of its tensors."""
    function = getattr(kernels.library("relu_dropout"), name)
    pointers = [ctypes.c_void_p(t.data_ptr()) for t in tensors]
    count, settings = ctypes.c_int64(tensors[0].numel()), kernels.dropout_settings(seed, rate)
    blocks = -(-tensors[0].numel() // _LANES)
    kernels.over_rows(
        blocks, lambda a, b: function(*pointers, count, ctypes.c_int64(a), ctypes.c_int64(b), *settings)
    )


@torch.library.custom_op("recsys_zoo::relu_dropout", mutates_args=(), device_types="cpu")
def _relu_dropout(x: Tensor, seed: Tensor, rate: float) -> Tensor:
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    _call("forward", (x.contiguous(), out), seed, rate)
    return out


@torch.library.custom_op("recsys_zoo::relu_dropout_backward", mutates_args=(), device_types="cpu")
def _relu_dropout_backward(out: Tensor, gradient: Tensor, seed: Tensor, rate: float) -> Tensor:
    result = torch.empty_like(out)
    _call("backward", (out, gradient.contiguous(), result), seed, rate)
    return result


@_relu_dropout.register_fake
def _(x: Tensor, seed: Tensor, rate: float) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@_relu_dropout_backward.register_fake
def _(out: Tensor, gradient: Tensor, seed: Tensor, rate: float) -> Tensor:
    return torch.empty_like(out)


def _remember(ctx, inputs: tuple[Tensor, Tensor, float], output: Tensor) -> None:
    _, seed, ctx.rate = inputs
    ctx.save_for_backward(output, seed)


def _differentiate(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
    out, seed = ctx.saved_tensors
    return _relu_dropout_backward(out, gradient, seed, ctx.rate), None, None


_relu_dropout.register_autograd(_differentiate, setup_context=_remember)
