"""Nearest neighbours among sparse rows: items by their users, users by their items."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from .sparse import scipy_csr

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from torch import Tensor

    from ..itemlists import ItemLists

Similarity = Literal["cosine", "pearson", "jaccard"]
Weights = Literal["none", "tfidf", "bm25"]

_ROWS = 1024  # compared with all others at once
_K1, _B = 1.2, 0.75  # of BM25, as in the code of Ferrari Dacrema et al. (RecSys 2019)


def weighted(x: csr_matrix, weights: Weights) -> csr_matrix:
    """Rows of ones as documents, columns as terms: tfidf ln(rows / (1 + df)), never below 0, for each entry;
    bm25 that times 2.2 / (1.2 (0.25 + 0.75 length / mean length) + 1)."""
    if weights == "none":
        return x
    found = x.copy()
    idf = np.log(x.shape[0] / (1 + np.bincount(x.indices, minlength=x.shape[1])))
    found.data = np.maximum(idf, 0)[x.indices]
    if weights == "bm25":
        length = np.diff(x.indptr)
        norm = _K1 * (1 - _B + _B * length / max(length.mean(), 1e-12)) + 1
        found.data *= np.repeat((_K1 + 1) / norm, length)
    return found


def weights_of_lists(lists: ItemLists, lengths: Tensor, weights: Weights) -> Tensor:
    """What `weighted` would give the entries of further columns, one a list of rows: float64 [n].

    lengths: entries that each row has in the x of `weighted`.
    """
    place, item = lists.pairs()
    found = lists.items.new_ones(len(item)).double()
    if weights != "none":
        found = (len(lengths) / (1 + lists.counts.double())).log().clamp(min=0)[place]
    if weights == "bm25":
        length = lengths.double()
        norm = _K1 * (1 - _B + _B * length / length.mean().clamp(min=1e-12)) + 1
        found = found * ((_K1 + 1) / norm)[item]
    return found


def nearest(x: csr_matrix, similarity: Similarity, shrink: float, k: int) -> csr_matrix:
    """The k most similar other rows of each row and their similarities above 0: [rows, rows].

    cosine x_i.x_j / (|x_i| |x_j| + shrink); pearson the same of rows less their means; jaccard x_i.x_j /
    (|x_i|^2 + |x_j|^2 - x_i.x_j + shrink). Entries of x are not negative. Of equal similarities that with
    the smaller row number is kept. Memory: those of 1024 rows with all others, and 12 bytes for each kept.
    """
    from scipy.sparse import csr_matrix

    x = x.astype(np.float64)
    other, squares, sums = x.T.tocsr(), _sums(x.multiply(x)), _sums(x)
    if similarity == "pearson":
        centred = squares - sums**2 / max(x.shape[1], 1)
        squares = np.where(centred > 1e-12 * squares, centred, 0)  # constant rows, but for rounding
    columns, values, counts = [np.empty(0, np.int64)], [np.empty(0, np.float32)], [0]
    for start in range(0, x.shape[0], _ROWS):
        block = x[start : start + _ROWS] @ other
        block.sort_indices()
        own = start + np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
        dot, column = block.data, block.indices
        if similarity == "pearson":
            dot = dot - sums[own] * sums[column] / x.shape[1]
        if similarity == "jaccard":
            below = squares[own] + squares[column] - dot + shrink
        else:
            below = np.sqrt(squares[own] * squares[column]) + shrink
        value = np.divide(dot, below, out=np.zeros_like(dot), where=below > 0)
        value[own == column] = 0
        value = value.astype(np.float32)  # equal ones that rounding has split are equal again
        for a, b in zip(block.indptr[:-1], block.indptr[1:], strict=True):
            best = a + _best(value[a:b], k)
            columns.append(column[best])
            values.append(value[best])
            counts.append(len(best))
    kept = np.concatenate(values), np.concatenate(columns), np.cumsum(counts)
    return csr_matrix(kept, shape=(x.shape[0], x.shape[0]))


def together(lists: ItemLists, weight: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k items with the largest weight [I] times number of users in common, for each item, itself among
    them: items [I, k] in ascending order and those numbers [I, k], 0 and 0 for want of such.

    Memory: the numbers of 1024 items with all others, and 16 bytes for each kept.
    """
    import torch

    items = len(weight)
    x = scipy_csr(lists, items, "float64").T.tocsr()
    other, scale = x.T.tocsr(), weight.double().cpu().numpy()
    found, counts = np.zeros((items, k), np.int64), np.zeros((items, k))
    for start in range(0, items, _ROWS):
        block = x[start : start + _ROWS] @ other
        block.sort_indices()
        for row, (a, b) in enumerate(zip(block.indptr[:-1], block.indptr[1:], strict=True), start=start):
            best = a + _best(block.data[a:b] * scale[block.indices[a:b]], k)
            found[row, : len(best)], counts[row, : len(best)] = block.indices[best], block.data[best]
    return torch.from_numpy(found), torch.from_numpy(counts)


def _sums(x: csr_matrix) -> np.ndarray:
    return np.asarray(x.sum(1)).ravel()


def _best(values: np.ndarray, k: int) -> np.ndarray:
    """Places of the k largest above 0, ascending; the first of equal ones."""
    found = np.flatnonzero(values > 0)
    if len(found) <= k:
        return found
    values = values[found]
    last = np.partition(values, len(values) - k)[len(values) - k]
    above, equal = np.flatnonzero(values > last), np.flatnonzero(values == last)
    return found[np.sort(np.concatenate([above, equal[: k - len(above)]]))]
