"""Self-attention over the fields of a row."""

from __future__ import annotations

import ctypes
import warnings

import torch
import torch.nn.functional as F
from torch import Tensor

from . import kernels

_LANES = 16  # of a vector in native/field_attention.cpp
_MOST_FIELDS, _MOST_NUMBERS = 128, 1 << 16  # the kernel keeps a row (F x 3 W) and its scores on the stack


def attend(projected: Tensor, heads: int, scale: float = 1.0, dropout: float = 0.0) -> Tensor:
    """Every field attends to every field, head by head: output [B, F, W] of `attend_with_weights`.

    On a CPU, and where kernels are enabled, a C++ kernel does it (float32; forward and backward agree with
    the torch operations to rounding; its dropout draws other numbers, from a seed of torch's generator).
    """
    if _has_kernel(projected, heads, scale):
        seed = torch.randint(2**62, (1,)) if dropout else torch.zeros(1, dtype=torch.int64)
        return _field_attention(projected, seed, heads, scale, dropout)[0]
    return attend_with_weights(projected, heads, scale, dropout)[0]


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


def _has_kernel(projected: Tensor, heads: int, scale: float) -> bool:
    fields, triple = projected.shape[1:]
    fits = (
        kernels.enabled
        and scale >= 0  # the kernel takes the largest score before it scales
        and projected.device.type == "cpu"
        and projected.dtype == torch.float32
        and fields <= _MOST_FIELDS
        and fields * triple <= _MOST_NUMBERS
        and not torch.compiler.is_exporting()  # an exported program runs where this package is not
    )
    return fits and (torch.compiler.is_compiling() or _is_built(fields, heads, triple // 3 // heads))


def _is_built(fields: int, heads: int, columns: int) -> bool:
    reason = kernels.missing("field_attention", FIELDS=fields, HEADS=heads, SIZE=columns)
    if reason:
        kernels.disable()
        warnings.warn(
            f"kernels are off from here on: {reason}; torch operations do their work, slower and with other "
            "rounding and dropout",
            stacklevel=4,
        )
    return not reason


def _call(name: str, tensors: list[Tensor], seed: Tensor, heads: int, scale: float, rate: float) -> None:
    rows, fields, triple = tensors[0].shape
    library = kernels.library("field_attention", FIELDS=fields, HEADS=heads, SIZE=triple // 3 // heads)
    pointers = [ctypes.c_void_p(t.data_ptr()) for t in tensors]
    settings = (
        ctypes.c_float(scale),
        ctypes.c_uint64(int(seed)),
        ctypes.c_uint32(round(rate * 2**32)),
        ctypes.c_float(1 / (1 - rate)),
    )
    function = getattr(library, name)
    kernels.over_rows(rows, lambda a, b: function(*pointers, ctypes.c_int64(a), ctypes.c_int64(b), *settings))


@torch.library.custom_op("recsys_zoo::field_attention", mutates_args=(), device_types="cpu")
def _field_attention(
    projected: Tensor, seed: Tensor, heads: int, scale: float, rate: float
) -> tuple[Tensor, Tensor]:
    rows, fields, triple = projected.shape
    out = projected.new_empty(rows, fields, triple // 3)
    weights = projected.new_empty(rows, heads, fields, _padded(fields))
    _call("forward", [projected.contiguous(), out, weights], seed, heads, scale, rate)
    return out, weights


@torch.library.custom_op("recsys_zoo::field_attention_backward", mutates_args=(), device_types="cpu")
def _field_attention_backward(
    projected: Tensor, weights: Tensor, gradient: Tensor, seed: Tensor, heads: int, scale: float, rate: float
) -> Tensor:
    result = torch.empty_like(projected, memory_format=torch.contiguous_format)
    tensors = [projected.contiguous(), weights, gradient.contiguous(), result]
    _call("backward", tensors, seed, heads, scale, rate)
    return result


@_field_attention.register_fake
def _(projected: Tensor, seed: Tensor, heads: int, scale: float, rate: float) -> tuple[Tensor, Tensor]:
    rows, fields, triple = projected.shape
    out = projected.new_empty(rows, fields, triple // 3)
    return out, projected.new_empty(rows, heads, fields, _padded(fields))


@_field_attention_backward.register_fake
def _(projected: Tensor, *_: object) -> Tensor:
    return torch.empty_like(projected, memory_format=torch.contiguous_format)


def _remember(ctx, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    projected, seed, ctx.heads, ctx.scale, ctx.rate = inputs
    ctx.save_for_backward(projected, output[1], seed)
    ctx.mark_non_differentiable(output[1])


def _differentiate(ctx, gradient: Tensor, _: object) -> tuple:
    projected, weights, seed = ctx.saved_tensors
    result = _field_attention_backward(projected, weights, gradient, seed, ctx.heads, ctx.scale, ctx.rate)
    return result, None, None, None, None


_field_attention.register_autograd(_differentiate, setup_context=_remember)


def _padded(fields: int) -> int:
    return -(-fields // _LANES) * _LANES
