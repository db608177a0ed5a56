"""What several processes of one computation (torch.distributed) tell each other: rows of tensors."""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor


def processes() -> int:
    """How many take part: 1 where torch.distributed was not begun."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gathered(*tensors: Tensor) -> list[tuple[Tensor, ...]]:
    """The tensors [n, ...] of every process, by rank; those of one process have equally many rows.

    All processes must call it. On the device of the tensors, whatever the devices are over which they talk.
    """
    world, own = dist.get_world_size(), tensors[0].device
    device = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else own
    sizes = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(world)]
    dist.all_gather(sizes, torch.tensor([len(tensors[0])], device=device))
    counts = torch.cat(sizes).tolist()
    found = []
    for tensor in tensors:
        padded = F.pad(tensor.to(device), (0, 0) * (tensor.ndim - 1) + (0, max(counts) - len(tensor)))
        of_all = [torch.empty_like(padded) for _ in range(world)]
        dist.all_gather(of_all, padded)
        found.append([one[:count].to(own) for one, count in zip(of_all, counts, strict=True)])
    return list(zip(*found, strict=True))
