"""Metrics of scores for 0/1 labels: exact, in float64 or integers, on the device the scores lie on.

Scores are float tensors [n], labels [n] of 0 and 1, weight [n] >= 0, group [n] integers. AUC and gAUC look
at the order of the scores only (logits serve as well); the others want probabilities. Equal scores count as
half a pair. The AUC of one class alone is NaN; `evaluate_binary` refuses such data instead.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError

CLIP = 1e-7  # logloss keeps probabilities this far from 0 and 1, as FuxiCTR 1.0 and so the BARS boards do
BINS = 20  # of the calibration error
_BLOCK = 1 << 20  # rows of it at once


def evaluate_binary(scores: Tensor, labels: Tensor, group: Tensor | None = None,
                    weight: Tensor | None = None) -> dict[str, float]:
    """All metrics of one set of probabilities: auc, logloss, calibration_error, calibration_ratio.

    With `group` also gauc and avg_auc (NaN when no group has both classes). InputError on NaN scores, on
    scores outside [0, 1], on other labels than 0 and 1, and when one class is absent.
    """
    check(scores, labels, group, weight)
    check_probabilities(scores)
    positives = labels != 0
    if weight is not None:
        positives = positives[weight > 0]
    if not positives.any() or positives.all():
        absent = "negatives" if positives.any() else "positives"
        raise InputError(f"labels: a split without {absent} ({len(labels)} rows) has no AUC; check the label "
                         "column and its threshold, or make the split larger")
    metrics = {"auc": auc(scores, labels, weight), "logloss": logloss(scores, labels, weight),
               "calibration_error": calibration_error(scores, labels, weight),
               "calibration_ratio": calibration_ratio(scores, labels, weight)}
    if group is not None:
        values, mass = group_auc(scores, labels, group, weight)
        metrics["gauc"] = _weighted_mean(values, mass)
        metrics["avg_auc"] = _weighted_mean(values, torch.ones_like(mass))
    return metrics


def auc(scores: Tensor, labels: Tensor, weight: Tensor | None = None) -> float:
    """Chance that a positive is scored above a negative, ties half; pairs count weight * weight.

    Without weights the count of pairs is an exact integer. NaN when one class is absent or has no weight.
    """
    check(scores, labels, None, weight)
    if len(scores) == 0:
        return math.nan
    # (code - 2^30) * 2 + label: 31 bits of score and 1 of label in a signed 32-bit key of the same order
    keys = _order_codes(scores).sub_(2**30).mul_(2).add_(labels.to(torch.int32))
    if weight is not None:
        tp, fp, _ = _cumulative(keys, weight)
        doubled = (_steps(tp) * (fp + _shifted(fp))).sum().item()
        pairs = tp[-1].item() * fp[-1].item()
    else:
        doubled, pairs = _doubled_wins(_sorted(keys))
    return doubled / (2 * pairs) if pairs > 0 else math.nan


def _doubled_wins(keys: Tensor) -> tuple[int, int]:
    """Pairs in order counted twice plus tied pairs once, and all pairs; keys sorted, the label in bit 0."""
    hits = _places((keys & 1) != 0)
    positives, negatives = len(hits), len(keys) - len(hits)
    # Among equal scores the negatives come first, so a positive's place counts negatives below and tied ...
    at_or_below = int(hits.sum()) - positives * (positives - 1) // 2
    # ... and tied pairs are taken off once: where a tie has both classes, an even key meets its successor.
    seam = _places((keys[1:] ^ keys[:-1]) == 1)
    first, end = seam.clone(), seam + 2  # right where a tie has one row of each class; searched for elsewhere
    longer = keys[(seam - 1).clamp_(min=0)] == keys[seam]
    first[longer] = torch.searchsorted(keys, keys[seam[longer]])
    longer = keys[(seam + 2).clamp_(max=len(keys) - 1)] == keys[seam + 1]
    end[longer] = torch.searchsorted(keys, keys[seam[longer] + 1], right=True)
    tied = int(((seam + 1 - first) * (end - seam - 1)).sum())
    return 2 * at_or_below - tied, positives * negatives


def gauc(scores: Tensor, labels: Tensor, group: Tensor, weight: Tensor | None = None) -> float:
    """Mean of the groups' AUC weighted by their rows (or sum of weights); one-class groups are left out."""
    return _weighted_mean(*group_auc(scores, labels, group, weight))


def avg_auc(scores: Tensor, labels: Tensor, group: Tensor) -> float:
    """Plain mean of the groups' AUC; one-class groups are left out."""
    values, mass = group_auc(scores, labels, group)
    return _weighted_mean(values, torch.ones_like(mass))


def group_auc(scores: Tensor, labels: Tensor, group: Tensor,
              weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """AUC [G] of each group (NaN where one class is absent) and its rows or weight [G], by rising id."""
    check(scores, labels, group, weight)
    if len(scores) == 0:
        return scores.new_zeros(0, dtype=torch.float64), scores.new_zeros(0, dtype=torch.float64)
    codes = _order_codes(scores).to(torch.int64)
    keys = (_group_codes(group) << 32) | (codes << 1) | labels.to(torch.int64)
    tp, fp, runs = _cumulative(keys, weight)
    of_group = runs >> 31  # the group of each run of equal (group, score)
    last = _ends(of_group)
    position = torch.searchsorted(last, torch.arange(len(tp), device=tp.device))  # dense group of each run
    positives, negatives = _steps(tp[last]), _steps(fp[last])
    below = fp - _shifted(fp[last])[position]  # negatives of the group up to and with this run
    doubled = (_steps(tp) * (2 * below - _steps(fp))).cumsum(0)[last]
    doubled, pairs = _steps(doubled).double(), (positives * negatives).double()
    return torch.where(pairs > 0, doubled / (2 * pairs), math.nan), (positives + negatives).double()


def logloss(scores: Tensor, labels: Tensor, weight: Tensor | None = None) -> float:
    """Mean of -y log p - (1-y) log(1-p), p clipped to [1e-7, 1 - 1e-7] after conversion to float64."""
    check_probabilities(scores)
    return _mean(row_losses(scores, labels), weight)


def row_losses(scores: Tensor, labels: Tensor) -> Tensor:
    """The logloss of each row, float64 [n]."""
    p = scores.double()
    return -torch.where(labels != 0, p, 1 - p).clamp(CLIP, 1 - CLIP).log()


def calibration_error(scores: Tensor, labels: Tensor, weight: Tensor | None = None) -> float:
    """Expected calibration error over 20 bins of equal mass: sum_b m_b / m * |mean score_b - mean label_b|.

    Edge k = 1..19 is the smallest score that has at least k/20 of the mass (rows, or weight) at or below it;
    the bin of a row is the number of edges at or below its score, so rows of one score share a bin.
    """
    check(scores, labels, None, weight)
    check_probabilities(scores)
    if len(scores) == 0:
        return math.nan
    parts = torch.arange(1, BINS, device=scores.device)
    if weight is None:
        total = float(len(scores))
        edges = _sorted(scores)[(parts * len(scores) + BINS - 1) // BINS - 1]
    else:
        values, order = scores.sort()
        reached = weight.double()[order].cumsum(0)
        total = reached[-1].item()
        edges = values[torch.searchsorted(reached, total * parts / BINS).clamp_max(len(values) - 1)]
    gap = torch.zeros(BINS, dtype=torch.float64, device=scores.device)
    for start in range(0, len(scores), _BLOCK):  # little beside the rows themselves
        own = slice(start, start + _BLOCK)
        off = scores[own].double() - labels[own].double()
        gap.index_add_(0, torch.bucketize(scores[own], edges, right=True),
                       off if weight is None else weight[own].double() * off)
    return gap.abs().sum().item() / total


def calibration_ratio(scores: Tensor, labels: Tensor, weight: Tensor | None = None) -> float:
    """Mean predicted over mean observed rate: above 1 is too high on the whole; NaN without positives."""
    observed = _mean(labels.double(), weight)
    return _mean(scores.double(), weight) / observed if observed > 0 else math.nan


def check(scores: Tensor, labels: Tensor, group: Tensor | None = None, weight: Tensor | None = None) -> None:
    """InputError unless all are [n], scores are numbers, labels 0 or 1 and weights not negative."""
    for name, values in (("scores", scores), ("labels", labels), ("group", group), ("weight", weight)):
        if values is not None and values.shape != scores.shape[:1]:
            raise InputError(f"{name} have shape {list(values.shape)}; one value is needed for each of "
                             f"{len(scores)} rows (several labels: one call a label)")
    if not scores.is_floating_point():
        raise InputError(f"scores are {scores.dtype}; give floating point numbers")
    _refuse(scores.isnan(), "scores", scores, "the model has diverged; lower the learning rate")
    _refuse(labels * labels != labels, "labels", labels, "labels must be 0 or 1; set a label threshold")
    if weight is not None:
        _refuse(~(weight >= 0), "weight", weight, "weights must be 0 or more")


def check_probabilities(scores: Tensor) -> None:
    """InputError unless all scores lie in [0, 1]."""
    _refuse(~((scores >= 0) & (scores <= 1)), "scores", scores, "give probabilities: the sigmoid of logits")


def _refuse(bad: Tensor, name: str, values: Tensor, way_out: str) -> None:
    if bad.any():
        row = int(bad.nonzero()[0])
        raise InputError(f"{name}: row {row} is {values[row].item()} ({int(bad.sum())} such rows); {way_out}")


def _order_codes(scores: Tensor) -> Tensor:
    """Whole numbers in [0, 2^31), int32, in the order of the scores; equal exactly where the scores are.

    A tensor of its own, which the caller may change.
    """
    if scores.dtype in (torch.float16, torch.bfloat16):
        scores = scores.float()
    if scores.dtype == torch.float32 and bool((scores >= 0).all()):
        return (scores + 0.0).view(torch.int32)  # bits of floats >= 0 sort as integers; -0.0 + 0.0 is 0.0
    return torch.unique(scores, return_inverse=True)[1].to(torch.int32)


def _group_codes(group: Tensor) -> Tensor:
    """The group ids as int64 within 32 bits, their order kept."""
    if group.dtype == torch.int64 and bool(((group < -(2**31)) | (group >= 2**31)).any()):
        return torch.unique(group, return_inverse=True)[1]
    return group.to(torch.int64)


def _cumulative(keys: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Positives and negatives up to each run of equal keys, and the run's key; the label bit is left out."""
    if weight is None:
        keys = _sorted(keys)
        tp = (keys & 1).cumsum(0, dtype=torch.int64)
        total = torch.arange(1, len(keys) + 1, device=keys.device)
    else:
        keys, order = keys.sort()
        w = weight[order].double()
        tp, total = (w * (keys & 1)).cumsum(0), w.cumsum(0)
    runs = keys >> 1
    ends = _ends(runs)
    return tp[ends], (total - tp)[ends], runs[ends]


def _sorted(values: Tensor) -> Tensor:
    if values.device.type == "cpu":
        # numpy sorts bare numbers with vector instructions, much faster than torch's sort with indices
        return torch.from_numpy(np.sort(values.detach().numpy()))
    return values.sort().values


def _places(mask: Tensor) -> Tensor:
    """Indices of the true elements; numpy's search is two to three times faster than torch's on a CPU."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.nonzero().squeeze(1)


def _ends(values: Tensor) -> Tensor:
    """Index of the last element of each run of equal values."""
    more = torch.cat([values[1:] != values[:-1], values.new_ones(1, dtype=torch.bool)])
    return _places(more)


def _shifted(cumulative: Tensor) -> Tensor:
    return torch.cat([cumulative.new_zeros(1), cumulative[:-1]])


def _steps(cumulative: Tensor) -> Tensor:
    return cumulative - _shifted(cumulative)


def _mean(values: Tensor, weight: Tensor | None) -> float:
    if weight is None:
        return values.mean().item()
    return ((values * weight.double()).sum() / weight.double().sum()).item()


def _weighted_mean(values: Tensor, mass: Tensor) -> float:
    """Mean over the groups that have a value; NaN when none has."""
    kept = ~values.isnan()
    return ((values[kept] * mass[kept]).sum() / mass[kept].sum()).item()
