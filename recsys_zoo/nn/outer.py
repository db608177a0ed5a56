"""A linear layer on the outer products of two vectors of a place, some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

_NUMBERS = 1 << 18  # products made at once: 1 MiB in fp32, for the second-level cache of a core


def project_outer(x: Tensor, y: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """F.linear of the outer products: x [B, D, R], y [B, D, F], weight [N, R F], bias [N] -> [B, D, N].

    Column r F + f of the weight belongs to x_r y_f. On a CPU the R F products of a place are made where they
    are used, in the backward pass again, and never kept: B D R F numbers less in memory, in both passes, and
    faster than memory gives them back. Values are those of F.linear to rounding; a second derivative is
    missing.
    """
    if x.device.type == "cpu" and not torch.is_autocast_enabled("cpu") and not torch.compiler.is_exporting():
        return _project(x, y, _turned(weight, y.shape[-1])) + bias
    return F.linear((x.unsqueeze(-1) * y.unsqueeze(-2)).flatten(-2), weight, bias)


def _turned(weight: Tensor, fields: int) -> Tensor:
    """[N, R F] -> [N, F R]: the longer vector last, along which a CPU multiplies."""
    return weight.unflatten(1, (-1, fields)).transpose(1, 2).flatten(1)


def _parts(x: Tensor, y: Tensor) -> Iterator[slice]:
    """Rows of x and y whose products fit."""
    rows = max(1, _NUMBERS // (x.shape[1] * y.shape[1]))
    return (slice(start, start + rows) for start in range(0, len(x), rows))


@torch.library.custom_op("recsys_zoo::project_outer", mutates_args=(), device_types="cpu")
def _project(x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    x, y, shape = x.flatten(0, 1), y.flatten(0, 1), x.shape
    out, turned = x.new_empty(len(x), len(weight)), weight.t()
    for part in _parts(x, y):
        products = y[part, :, None] * x[part, None, :]  # [rows, F, R]
        torch.mm(products.flatten(1), turned, out=out[part])
    return out.view(*shape[:2], len(weight))


@torch.library.custom_op("recsys_zoo::project_outer_backward", mutates_args=(), device_types="cpu")
def _project_backward(
    x: Tensor, y: Tensor, weight: Tensor, gradient: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    shapes = x.shape, y.shape
    x, y, gradient = x.flatten(0, 1), y.flatten(0, 1), gradient.flatten(0, 1)
    dx, dy, d_weight = torch.empty_like(x), torch.empty_like(y), torch.zeros_like(weight)
    for part in _parts(x, y):
        long, short = x[part, None, :], y[part, :, None]
        products = short * long
        d_weight.addmm_(gradient[part].t(), products.flatten(1))
        d_products = torch.mm(gradient[part], weight).view_as(products)
        torch.sum(torch.mul(d_products, short, out=products), 1, out=dx[part])
        torch.sum(torch.mul(d_products, long, out=products), 2, out=dy[part])
    return dx.view(shapes[0]), dy.view(shapes[1]), d_weight


@_project.register_fake
def _(x, y, weight):
    return x.new_empty(*x.shape[:2], len(weight))


@_project_backward.register_fake
def _(x, y, weight, gradient):
    return x.new_empty(x.shape), y.new_empty(y.shape), torch.empty_like(weight)


def _remember(ctx, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate(ctx, gradient: Tensor) -> tuple[Tensor, ...]:
    return _project_backward(*ctx.saved_tensors, gradient)


_project.register_autograd(_differentiate, setup_context=_remember)
