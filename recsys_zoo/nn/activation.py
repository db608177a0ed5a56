"""ReLU with dropout behind it."""

from __future__ import annotations

import ctypes

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import kernels


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

    def after(self, linear: nn.Linear, x: Tensor) -> Tensor:
        """self(linear(x)); in training the kernel adds the bias, and sums its gradient, on its way."""
        if self.training and leaves_bias(linear, x) and kernels.built("relu_dropout"):
            seed = kernels.seed(self.rate)
            return _linear_relu_dropout(x, linear.weight, linear.bias, seed, self.rate)
        return self(linear(x))

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


def relu_dropout(rate: float) -> list[nn.Module]:
    """ReLU and dropout for an nn.Sequential, with as many places as modules of their own would take there.

    Names of parameters count the places.
    """
    return [ReLUDropout(rate), *[nn.Identity()] * bool(rate)]


def watched(linear: nn.Linear) -> bool:
    """Whether somebody wants to see the layer itself called."""
    return bool(linear._forward_hooks or linear._forward_pre_hooks)


def leaves_bias(linear: nn.Linear, x: Tensor) -> bool:
    """Whether linear(x), x [B, inputs], has a bias that a kernel behind it can add, and nobody watches it."""
    if watched(linear):
        return False
    alike = kernels.takes(x) and linear.bias is not None and kernels.takes(linear.bias)
    return alike and x.dim() == 2 and not torch.is_autocast_enabled("cpu")


def _call(name: str, tensors: tuple[Tensor, ...], seed: Tensor, rate: float) -> None:
    """A function of the kernel over blocks of LANES numbers of its tensors."""
    function = getattr(kernels.library("relu_dropout"), name)
    pointers = [ctypes.c_void_p(t.data_ptr()) for t in tensors]
    count, settings = ctypes.c_int64(tensors[0].numel()), kernels.dropout_settings(seed, rate)
    blocks = -(-tensors[0].numel() // kernels.LANES)
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


def _call_columns(name: str, tensors: tuple[Tensor, ...], seed: Tensor, rate: float) -> None:
    """A function of the kernel over vectors of LANES columns; the first tensor is [B, width]."""
    function = getattr(kernels.library("relu_dropout"), name)
    kernels.over_columns(function, tensors, kernels.dropout_settings(seed, rate))


@torch.library.custom_op("recsys_zoo::linear_relu_dropout", mutates_args=(), device_types="cpu")
def _linear_relu_dropout(x: Tensor, weight: Tensor, bias: Tensor, seed: Tensor, rate: float) -> Tensor:
    """One operation, so that the product can be overwritten while it is in the cache."""
    out = F.linear(x, weight)
    _call_columns("forward_biased", (out, bias.contiguous()), seed, rate)
    return out


@torch.library.custom_op("recsys_zoo::linear_relu_dropout_backward", mutates_args=(), device_types="cpu")
def _linear_relu_dropout_backward(
    out: Tensor, gradient: Tensor, seed: Tensor, rate: float
) -> tuple[Tensor, Tensor]:
    """Gradients of the product and of the bias."""
    results = torch.empty_like(out), out.new_empty(out.shape[1])
    _call_columns("backward_biased", (out, gradient.contiguous(), *results), seed, rate)
    return results


@_linear_relu_dropout.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, seed: Tensor, rate: float) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0])


@_linear_relu_dropout_backward.register_fake
def _(out: Tensor, gradient: Tensor, seed: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    return torch.empty_like(out), out.new_empty(out.shape[1])


def _remember_linear(ctx, inputs: tuple[Tensor, Tensor, Tensor, Tensor, float], output: Tensor) -> None:
    x, weight, _, seed, ctx.rate = inputs
    ctx.save_for_backward(x, weight, output, seed)


def _differentiate_linear(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, out, seed = ctx.saved_tensors
    of_product, of_bias = _linear_relu_dropout_backward(out, gradient, seed, ctx.rate)
    of_x = of_product @ weight if ctx.needs_input_grad[0] else None
    of_weight = of_product.t() @ x if ctx.needs_input_grad[1] else None
    return of_x, of_weight, of_bias, None, None


_linear_relu_dropout.register_autograd(_differentiate_linear, setup_context=_remember_linear)
