"""Self-attention over the fields of a row."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def attend(projected: Tensor, heads: int, scale: float = 1.0, dropout: float = 0.0) -> tuple[Tensor, Tensor]:
    """Every field attends to every field, head by head.

    projected [B, F, 3 W] holds queries, keys and values side by side; head h owns the h-th W / heads columns
    of each. scores = scale * <q, k>, weights = softmax over keys, output = weights * values. Returns the
    output [B, F, W] and the weights [heads, B, F keys, F queries] before dropout (of rate `dropout`).
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
