"""Labels and sample weights: read, checked row by row."""

from __future__ import annotations

import numpy as np

from .spec import DataSpec, LabelSpec
from .values import Chunk, as_numbers


def read_labels(chunk: Chunk, spec: DataSpec) -> tuple[np.ndarray, np.ndarray]:
    """labels float32 [rows, T] in {0, 1}, and which rows are kept (bool [rows]; see LabelSpec.drop_equal).

    InputError names file, column and row of a missing label and of a value outside {0, 1}.
    """
    labels = np.zeros((len(chunk), len(spec.labels)), np.float32)
    kept = np.ones(len(chunk), bool)
    for place, label in enumerate(spec.labels):
        numbers = _numbers(chunk, label)
        if label.above == "none":
            labels[:, place] = numbers
            continue
        labels[:, place] = numbers > label.above
        if label.drop_equal:
            kept &= numbers != label.above
    return labels, kept


def _numbers(chunk: Chunk, label: LabelSpec) -> np.ndarray:
    numbers = as_numbers(chunk, label.raw, role="label")
    missing = np.isnan(numbers)
    if missing.any():
        raise chunk.error(label.raw, missing, "no label; fill it in or leave the row out")
    outside = (numbers != 0) & (numbers != 1)
    if label.above == "none" and outside.any():
        raise chunk.error(label.raw, outside, "the label {value} is not 0 or 1; for a threshold write "
                                              f"labels = [{{name = \"{label.name}\", above = NUMBER}}]")
    return numbers


def read_weights(chunk: Chunk, spec: DataSpec) -> np.ndarray:
    """Sample weights float32 [rows]; InputError for missing, negative and infinite ones."""
    numbers = as_numbers(chunk, spec.weight, role="weight")
    bad = ~(numbers >= 0)
    if bad.any():
        raise chunk.error(spec.weight, bad, "the weight {value} is not a number of at least 0")
    return numbers.astype(np.float32)
