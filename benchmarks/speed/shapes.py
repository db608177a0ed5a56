"""Generated click data of the shape of Frappe and of Criteo: Zipf popularity, labels that can be learnt.

numpy only. Ids are 1 .. size of the column (0 is left for padding); the effects of the values and of one pair
of columns make the label, so that a model which learns has a better AUC than one that does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TRAIN_ROWS, TEST_ROWS = 819_200, 100_000
_FRAPPE = (957, 4077, 8, 8, 3, 4, 3, 10, 81, 238)
_SMALL = (50,) * 13 + (5, 10, 20, 30, 100, 200, 4, 15, 300, 600)  # counts in bins; short columns
_LARGE = (26, 22, 20, 15, 6, 4, 2, 1.5, 1, 0.6, 0.4, 0.3, 0.2, 0.2, 0.1, 0.1)  # shares of the 16 long columns


def _criteo(total: int) -> tuple[int, ...]:
    left = total - sum(_SMALL)
    long = [int(left * share / sum(_LARGE)) for share in _LARGE]
    return (long[0] + left - sum(long), *long[1:], *_SMALL)


SIZES = {
    "frappe": _FRAPPE,
    "criteo1m": _criteo(1_000_000),
    "criteo5m": _criteo(5_500_000),
    "criteo20m": _criteo(20_000_000),
}


@dataclass(frozen=True)
class Data:
    """ids int32 [rows, columns] and labels float32 [rows], of training and test rows."""

    sizes: tuple[int, ...]
    ids: np.ndarray
    labels: np.ndarray
    test_ids: np.ndarray
    test_labels: np.ndarray


def generate(shape: str, rows: int = TRAIN_ROWS, seed: int = 7) -> Data:
    """The data of a shape; the same on every machine with the same numpy."""
    sizes, rng = SIZES[shape], np.random.default_rng(seed)
    n = rows + TEST_ROWS
    ids, score = np.empty((n, len(sizes)), np.int32), np.zeros(n, np.float32)
    for place, size in enumerate(sizes):
        share = np.cumsum(1 / np.arange(1, size + 1) ** 1.1)
        rank = np.searchsorted(share / share[-1], rng.random(n)).clip(max=size - 1)
        ids[:, place] = rng.permutation(size)[rank] + 1
        effect = rng.standard_normal(size + 1) * 1.5 / len(sizes) ** 0.5
        score += effect.astype(np.float32)[ids[:, place]]
    left, right = (rng.standard_normal((size + 1, 4)).astype(np.float32) for size in sizes[:2])
    score += 0.5 * (left[ids[:, 0]] * right[ids[:, 1]]).sum(1)
    labels = (rng.random(n) < 1 / (1 + np.exp(1.0 - score))).astype(np.float32)
    return Data(sizes, ids[:rows], labels[:rows], ids[rows:], labels[rows:])
