"""Bootstrap intervals of AUC, logloss and gAUC: rows, or whole groups of rows, drawn again with replacement.

Rows of one user are not independent, so where there are users the users are drawn (a clustered bootstrap):
an interval over rows is too narrow. The scores are sorted once; a replicate is a vector of multiplicities
and costs O(n). The draws depend on the seed and on the groups only: two score sets for the same rows see the
same resamples, so the difference of two replicates is a paired one (`metrics/paired.py` tests it).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import InputError
from .binary import check, evaluate_binary, group_auc, row_losses

REPLICATES = 1000
LEVEL = 0.95
_CELLS = 100_000  # multiplicities held at once; a block that stays in cache is twice as fast as a large one


class Interval(NamedTuple):
    """A value with the quantiles and the standard deviation of its replicates."""

    value: float
    low: float
    high: float
    std: float


def bootstrap(scores: Tensor, labels: Tensor, group: Tensor | None = None, replicates: int = REPLICATES,
              level: float = LEVEL, seed: int = 0) -> dict[str, Interval]:
    """Percentile intervals of auc and logloss, and of gauc where there are groups; scores: probabilities [n].

    With `group` whole groups are resampled, else rows. Replicates without both classes are left out.
    """
    values = evaluate_binary(scores, labels, group)
    draws = resample(scores, labels, group, replicates, seed)
    return {name: interval_of(values[name], draw, level) for name, draw in draws.items()}


def resample(scores: Tensor, labels: Tensor, group: Tensor | None = None, replicates: int = REPLICATES,
             seed: int = 0) -> dict[str, Tensor]:
    """The metrics [R] of R resamples, float64 on the CPU: auc, logloss, and gauc with groups."""
    check(scores, labels, group)
    if replicates < 2:
        raise InputError(f"replicates={replicates}: at least 2 are needed")
    if group is None:
        unit, num_units = torch.arange(len(scores), device=scores.device), len(scores)
    else:
        present, unit = torch.unique(group, return_inverse=True)
        num_units = len(present)
    sums = _unit_sums(scores, labels, group, unit, num_units)
    order = torch.sort(scores).indices
    ends = torch.nonzero(scores[order][1:] != scores[order][:-1]).squeeze(1)
    ends = torch.cat([ends, ends.new_tensor([len(scores) - 1])])  # last row of each run of equal scores
    sorted_units, hits = unit[order], labels[order].to(torch.int64)
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, list[Tensor]] = {}
    block = max(1, _CELLS // len(scores))
    for start in range(0, replicates, block):
        counts = multiplicities(min(block, replicates - start), num_units, generator).to(scores.device)
        for name, value in {"auc": _aucs(counts, sorted_units, hits, ends), **_ratios(counts, sums)}.items():
            found.setdefault(name, []).append(value.cpu())
    return {name: torch.cat(parts) for name, parts in found.items()}


def multiplicities(replicates: int, num_units: int, generator: torch.Generator | None = None) -> Tensor:
    """How often each unit is drawn, int64 [R, units]; without a generator from that of seed 0.

    Drawn on the CPU, one replicate after another, so neither device nor block size changes them.
    """
    generator = generator or torch.Generator().manual_seed(0)
    draws = [torch.randint(num_units, (num_units,), generator=generator) for _ in range(replicates)]
    return torch.stack([torch.bincount(draw, minlength=num_units) for draw in draws])


def _aucs(counts: Tensor, units: Tensor, hits: Tensor, ends: Tensor) -> Tensor:
    """AUC [R] from multiplicities: the exact count of pairs over runs of equal scores, in integers."""
    rows = counts[:, units]  # [R, n] in the order of the scores
    total = rows.cumsum(1)[:, ends]
    tp = (rows * hits).cumsum(1)[:, ends]
    fp = total - tp
    step = torch.diff(tp, dim=1, prepend=torch.zeros_like(tp[:, :1]))
    before = torch.cat([torch.zeros_like(fp[:, :1]), fp[:, :-1]], 1)
    return (step * (fp + before)).sum(1).double() / (2 * tp[:, -1] * fp[:, -1]).double()


def _unit_sums(scores: Tensor, labels: Tensor, group: Tensor | None, unit: Tensor,
               num_units: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Metrics that are ratios of sums over units: name -> (numerator, denominator), each [units]."""
    losses = row_losses(scores, labels)
    zeros = losses.new_zeros(num_units)
    rows = zeros.index_add(0, unit, torch.ones_like(losses))
    sums = {"logloss": (zeros.index_add(0, unit, losses), rows)}
    if group is not None:
        values, mass = group_auc(scores, labels, group)
        mass = torch.where(values.isnan(), 0.0, mass)
        sums["gauc"] = (values.nan_to_num(0.0) * mass, mass)
    return sums


def _ratios(counts: Tensor, sums: dict[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    weights = counts.double()
    return {name: (weights @ top) / (weights @ bottom) for name, (top, bottom) in sums.items()}


def interval_of(value: float, draws: Tensor, level: float = LEVEL) -> Interval:
    """Percentile interval over the replicates that have a value."""
    kept = draws[~draws.isnan()]
    if len(kept) < 2:
        raise InputError("bootstrap: hardly any resample has both classes; give more rows for an interval")
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=kept.dtype)
    low, high = torch.quantile(kept, ends).tolist()
    return Interval(value, low, high, kept.std().item())
