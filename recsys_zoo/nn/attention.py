"""Self-attention over the fields of a row."""

from __future__ import annotations

import ctypes

import torch
import torch.nn.functional as F
from torch import Tensor

from . import kernels

_MOST_FIELDS, _MOST_NUMBERS = 128, 1 << 16  # the kernel keeps a row (F x 3 W) and its scores on the stack


def attend(
    projected: Tensor,
    heads: int,
    scale: float = 1.0,
    dropout: float = 0.0,
    *,
    blocks: int = 3,
    skip: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    """Every field attends to every field, head by head: output [B, F, W] of `attend_with_weights`.

    projected [B, F, blocks W]: queries, keys, values and, of four blocks, one that is added to the output, as
    `skip` [B, F, W] is; `relu` follows.

    On a CPU, and where kernels are enabled, a C++ kernel does it all (float32; forward and backward agree
    with the torch operations to rounding; its dropout draws other numbers, from a seed of torch's generator).
    """
    shape = (*projected.shape[:2], projected.shape[2] // blocks)
    alike = skip is None or (kernels.takes(skip) and skip.shape == shape)
    if alike and _has_kernel(projected, heads, scale, blocks, relu):
        seed = kernels.seed(dropout)
        return _field_attention(projected, skip, seed, heads, scale, dropout, blocks, relu)[0]
    factors, *added = projected.split([3 * shape[2], shape[2]][: blocks - 2], 2)
    out = attend_with_weights(factors, heads, scale, dropout)[0]
    for more in added if skip is None else (*added, skip):
        out = out + more
    return out.relu() if relu else out


def project_and_attend(
    x: Tensor,
    weight: Tensor,
    heads: int,
    scale: float = 1.0,
    dropout: float = 0.0,
    *,
    blocks: int = 3,
    residual: bool = False,
    relu: bool = False,
) -> Tensor:
    """`attend` to F.linear(x, weight), and with `residual` x is added: x [B, F, I], weight [blocks W, I].

    The kernel projects some rows at a time and again in the backward pass, so that the projections, which
    take most of the memory of a layer and of the time to reach it, are never written.
    """
    if _has_layer(x, weight, heads, scale, blocks, relu):
        seed = kernels.seed(dropout)
        return _layer(x, weight, seed, heads, scale, dropout, blocks, residual, relu)
    skip = x if residual else None
    return attend(F.linear(x, weight), heads, scale, dropout, blocks=blocks, skip=skip, relu=relu)


def attend_with_weights(
    projected: Tensor, heads: int, scale: float = 1.0, dropout: float = 0.0
) -> tuple[Tensor, Tensor]:
    """The output [B, F, W] and the weights [heads, B, F keys, F queries] before dropout (of rate `dropout`).

    projected [B, F, 3 W] holds queries, keys and values side by side; head h owns the h-th W / heads columns
    of each. scores = scale * <q, k>, weights = softmax over keys, output = weights * values.
    """
    rows, fields, width = projected.shape[0], projected.shape[1], projected.shape[2] // 3
    # Heads outermost: one copy serves all three factors. Keys before queries: on a CPU a softmax over the
    # last dimension is four times slower with fewer than 16 fields, and about equal above.
    split = projected.unflatten(2, (3, heads, width // heads)).permute(2, 3, 0, 1, 4)
    q, k, v = split.reshape(3, heads * rows, fields, width // heads).unbind(0)
    scores = torch.bmm(k, q.transpose(1, 2))
    weights = (scores if scale == 1.0 else scores * scale).softmax(1)  # [H * B, F, F]
    dropped = F.dropout(weights, dropout) if dropout else weights
    out = torch.bmm(dropped.transpose(1, 2), v).view(heads, rows, fields, width // heads)
    return out.permute(1, 2, 0, 3).reshape(rows, fields, width), weights.view(heads, rows, fields, fields)


def _has_kernel(projected: Tensor, heads: int, scale: float, blocks: int, relu: bool) -> bool:
    fields, columns = projected.shape[1:]
    return (
        kernels.takes(projected)
        and scale >= 0  # the kernel takes the largest score before it scales
        and fields <= _MOST_FIELDS
        and fields * columns <= _MOST_NUMBERS
        and kernels.built("field_attention", **_macros(projected, heads, blocks, relu))
    )


def _has_layer(x: Tensor, weight: Tensor, heads: int, scale: float, blocks: int, relu: bool) -> bool:
    fields, columns = x.shape[1], weight.shape[0]
    return (
        kernels.takes(x)
        and not torch.is_autocast_enabled("cpu")
        and scale >= 0
        and fields <= _MOST_FIELDS
        and fields * columns <= _MOST_NUMBERS
        and x.shape[2] % kernels.LANES == 0
        and columns // blocks % kernels.LANES == 0
        and kernels.built("field_attention", **_layer_macros(x, weight, heads, blocks, relu))
    )


def _layer_macros(x: Tensor, weight: Tensor, heads: int, blocks: int, relu: bool) -> dict[str, int]:
    size = weight.shape[0] // blocks // heads
    shape = {"FIELDS": x.shape[1], "HEADS": heads, "SIZE": size, "BLOCKS": blocks, "RELU": int(relu)}
    return {**shape, "INPUTS": x.shape[2]}


def _macros(projected: Tensor, heads: int, blocks: int, relu: bool) -> dict[str, int]:
    fields, columns = projected.shape[1:]
    size = columns // blocks // heads
    return {"FIELDS": fields, "HEADS": heads, "SIZE": size, "BLOCKS": blocks, "RELU": int(relu)}


def _call(
    name: str,
    tensors: tuple[Tensor | None, ...],
    seed: Tensor,
    heads: int,
    scale: float,
    rate: float,
    blocks: int,
    relu: bool,
) -> None:
    """A function of the kernel over the rows of its tensors, `projected` first; None is a null pointer."""
    library = kernels.library("field_attention", **_macros(tensors[0], heads, blocks, relu))
    pointers = [ctypes.c_void_p(None if t is None else t.data_ptr()) for t in tensors]
    settings = (ctypes.c_float(scale), *kernels.dropout_settings(seed, rate))
    function, rows = getattr(library, name), tensors[0].shape[0]
    kernels.over_rows(rows, lambda a, b: function(*pointers, ctypes.c_int64(a), ctypes.c_int64(b), *settings))


def _outputs(projected: Tensor, heads: int, blocks: int) -> tuple[Tensor, Tensor]:
    rows, fields, columns = projected.shape
    out = projected.new_empty(rows, fields, columns // blocks)
    return out, projected.new_empty(rows, heads, fields, -(-fields // kernels.LANES) * kernels.LANES)


@torch.library.custom_op("recsys_zoo::field_attention", mutates_args=(), device_types="cpu")
def _field_attention(
    projected: Tensor,
    skip: Tensor | None,
    seed: Tensor,
    heads: int,
    scale: float,
    rate: float,
    blocks: int,
    relu: bool,
) -> tuple[Tensor, Tensor]:
    out, weights = _outputs(projected, heads, blocks)
    skip = None if skip is None else skip.contiguous()
    tensors = (projected.contiguous(), skip, out, weights)
    _call("forward", tensors, seed, heads, scale, rate, blocks, relu)
    return out, weights


@torch.library.custom_op("recsys_zoo::field_attention_backward", mutates_args=(), device_types="cpu")
def _field_attention_backward(
    projected: Tensor,
    weights: Tensor,
    out: Tensor,
    gradient: Tensor,
    seed: Tensor,
    heads: int,
    scale: float,
    rate: float,
    blocks: int,
    relu: bool,
    skipped: bool,
) -> tuple[Tensor, Tensor]:
    """Gradients of `projected` and, with a ReLU, of what was added as `skip` (else of no numbers)."""
    result = torch.empty_like(projected, memory_format=torch.contiguous_format)
    gradient = gradient.contiguous()
    before = torch.empty_like(gradient) if relu and skipped else None
    tensors = (projected.contiguous(), weights, out, gradient, result, before)
    _call("backward", tensors, seed, heads, scale, rate, blocks, relu)
    return result, gradient.new_empty(0) if before is None else before


@_field_attention.register_fake
def _(projected, skip, seed, heads, scale, rate, blocks, relu):
    return _outputs(projected, heads, blocks)


@_field_attention_backward.register_fake
def _(projected, weights, out, gradient, seed, heads, scale, rate, blocks, relu, skipped):
    result = torch.empty_like(projected, memory_format=torch.contiguous_format)
    return result, gradient.new_empty(gradient.shape if relu and skipped else 0)


def _remember(ctx, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    projected, skip, seed, *ctx.settings = inputs
    ctx.skipped = skip is not None
    ctx.save_for_backward(projected, output[1], output[0], seed)
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)  # no zeros of the size of the weights


def _differentiate(ctx, gradient: Tensor, _: object) -> tuple:
    projected, weights, out, seed = ctx.saved_tensors
    relu = ctx.settings[-1]
    result, before = _field_attention_backward(
        projected, weights, out, gradient, seed, *ctx.settings, ctx.skipped
    )
    added = (before if relu else gradient) if ctx.skipped else None
    return result, added, *[None] * 6


_field_attention.register_autograd(_differentiate, setup_context=_remember)


def _call_layer(
    name: str,
    tensors: tuple[Tensor, ...],
    macros: dict[str, int],
    residual: bool,
    scale: float,
    seed: Tensor,
    rate: float,
) -> list[Tensor]:
    """A function of the kernel over the rows of its tensors, `x` first; backward adds to the last one.

    So every thread has that for itself: they are returned in the order of their rows.
    """
    function = getattr(kernels.library("field_attention", **macros), name)
    settings = (ctypes.c_float(scale), *kernels.dropout_settings(seed, rate))
    *shared, last = tensors
    sums: dict[int, Tensor] = {}

    def part(a: int, b: int) -> None:
        own = last if name == "layer_forward" else torch.zeros_like(last)
        sums[a] = own
        pointers = [ctypes.c_void_p(t.data_ptr()) for t in (*shared, own)]
        function(*pointers, ctypes.c_int32(residual), ctypes.c_int64(a), ctypes.c_int64(b), *settings)

    kernels.over_rows(len(tensors[0]), part)
    return [sums[a] for a in sorted(sums)]


@torch.library.custom_op("recsys_zoo::interacting_layer", mutates_args=(), device_types="cpu")
def _layer(
    x: Tensor,
    weight: Tensor,
    seed: Tensor,
    heads: int,
    scale: float,
    rate: float,
    blocks: int,
    residual: bool,
    relu: bool,
) -> Tensor:
    out = x.new_empty(*x.shape[:2], weight.shape[0] // blocks)
    macros = _layer_macros(x, weight, heads, blocks, relu)
    tensors = (x.contiguous(), weight.t().contiguous(), out)
    _call_layer("layer_forward", tensors, macros, residual, scale, seed, rate)
    return out


@torch.library.custom_op("recsys_zoo::interacting_layer_backward", mutates_args=(), device_types="cpu")
def _layer_backward(
    x: Tensor,
    weight: Tensor,
    out: Tensor,
    gradient: Tensor,
    seed: Tensor,
    heads: int,
    scale: float,
    rate: float,
    blocks: int,
    residual: bool,
    relu: bool,
) -> tuple[Tensor, Tensor]:
    x, weight = x.contiguous(), weight.contiguous()
    dx, d_weight = torch.empty_like(x), torch.empty_like(weight)
    macros = _layer_macros(x, weight, heads, blocks, relu)
    tensors = (x, weight, weight.t().contiguous(), out, gradient.contiguous(), dx, d_weight)
    sums = _call_layer("layer_backward", tensors, macros, residual, scale, seed, rate)
    return dx, torch.stack(sums).sum(0) if len(sums) > 1 else sums[0]


@_layer.register_fake
def _(x, weight, seed, heads, scale, rate, blocks, residual, relu):
    return x.new_empty(*x.shape[:2], weight.shape[0] // blocks)


@_layer_backward.register_fake
def _(x, weight, out, gradient, seed, heads, scale, rate, blocks, residual, relu):
    return x.new_empty(x.shape), weight.new_empty(weight.shape)


def _remember_layer(ctx, inputs: tuple, output: Tensor) -> None:
    x, weight, seed, *ctx.settings = inputs
    ctx.save_for_backward(x, weight, output, seed)


def _differentiate_layer(ctx, gradient: Tensor) -> tuple:
    x, weight, out, seed = ctx.saved_tensors
    return *_layer_backward(x, weight, out, gradient, seed, *ctx.settings), *[None] * 7


_layer.register_autograd(_differentiate_layer, setup_context=_remember_layer)
