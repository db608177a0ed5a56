"""What is known of items, as vectors: TF-IDF of the values of their columns, or vectors that the data have.

Weights and directions are found on items of training alone.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from ..config import Frozen, Search
from ..errors import InputError
from ..itemlists import ItemLists
from .sparse import Fitted, SparseMatrix, scipy_csr

if TYPE_CHECKING:
    from numpy import ndarray
    from scipy.sparse import csr_matrix

_RANK = 1e-6  # of the largest singular value: smaller ones are 0 but for rounding
_KEPT = 4  # decompositions that are remembered: those of train, and of train and valid, for two widths
_found: dict[bytes, ndarray] = {}


class ContentConfig(Frozen):
    """Settings of every model that reads the columns of items."""

    content: Literal["columns", "vectors", "random"] = Field("columns", description=(
        "columns: what they say; vectors: those that the data have for items, of a text encoder for example; "
        "random: vectors that say nothing, as a control"))
    content_dim: Annotated[int, Search(choices=(64, 128, 256, 512))] = Field(
        128, ge=1, description="T, width of the items' vectors: directions of a truncated SVD"
    )


class ItemContent(Fitted):
    """A vector of length 1 (or 0, of nothing known) for every item, [I, T], or with dim 0 its TF-IDF row.

    Tokens (`give`) or vectors (`give_vectors`) are given once; which tokens count, their weights and the
    directions come from the items that `fit` is told of: those with a training row. An item without one is
    only looked at with what was found on the others.
    """

    known: Tensor
    vectors: Tensor

    def __init__(self, kind: Literal["columns", "vectors", "random"], dim: int, items: int) -> None:
        super().__init__()
        self.kind, self.dim, self.items = kind, dim, items
        self.tokens: ItemLists | None = None
        self.width = 0
        self.given: csr_matrix | None = None
        self.seed = int(torch.randint(2**62, ()))  # of the random vectors
        self.register_buffer("known", torch.zeros(items, dtype=torch.bool))  # items of the fit
        if dim:
            self.register_buffer("vectors", torch.zeros(items, dim))
        else:
            self.rows = SparseMatrix(0)

    def give(self, tokens: ItemLists, width: int) -> None:
        """Tokens of every item [I], numbered from 0 to width - 1."""
        if len(tokens) != self.items:
            raise InputError(f"tokens of {len(tokens)} items, but the schema counts {self.items}; give a "
                             "list for each, an empty one where nothing is known")
        self.tokens, self.width = tokens, width

    def give_vectors(self, rows: ndarray) -> None:
        """A vector of every item [I, D], 0 where there is none; they count by their directions."""
        import numpy as np

        if len(rows) != self.items:
            raise InputError(f"vectors of {len(rows)} items, but the schema counts {self.items}; give a row "
                             "for each, of zeros where nothing is known")
        rows = np.asarray(rows, np.float32)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        self.given = _csr(np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0))

    @torch.no_grad()
    def fit(self, train: ItemLists) -> None:
        """Vectors of all items, by those that occur in the lists."""
        known = torch.bincount(train.items, minlength=self.items) > 0
        self.known = known.to(self.known.device)
        if self.kind == "random":
            generator = torch.Generator().manual_seed(self.seed)
            rows = torch.randn(self.items, self.dim or 128, generator=generator)
            rows = torch.nn.functional.normalize(rows, dim=1)
            if self.dim:
                self.vectors = rows.to(self.known.device)
            else:
                self.rows.assign(_csr(rows.numpy()))
            return
        if self.kind == "vectors" and self.given is None:
            raise InputError("a model that reads the vectors of items was given none: call "
                             "content.give_vectors before the fit")
        if self.kind == "columns" and self.tokens is None:
            raise InputError("a model that reads the columns of items was given none: call content.give "
                             "before the fit, with what data.content.item_tokens finds")
        found = self.given if self.kind == "vectors" else tfidf(self.tokens, self.width, known.cpu())
        if self.dim:
            self.vectors = torch.from_numpy(directions(found, known.cpu(), self.dim)).to(self.known.device)
        else:
            self.rows.assign(found)


def tfidf(tokens: ItemLists, width: int, known: Tensor) -> csr_matrix:
    """Rows [I, width] of length 1 (0 without a token that counts), float32.

    An item has a token or not; idf = ln((1 + n) / (1 + df)) + 1 with n and df counted over the `known` items
    (bool [I]), as scikit-learn has it. A token that no known item has counts nothing.
    """
    import numpy as np

    rows = scipy_csr(tokens, width)
    kept = known.numpy()
    often = np.bincount(rows[kept].indices, minlength=width)
    idf = np.where(often > 0, np.log((1 + kept.sum()) / (1 + often)) + 1, 0.0)
    rows.data = idf[rows.indices].astype(np.float32)
    rows.eliminate_zeros()
    lengths = np.sqrt(np.asarray(rows.multiply(rows).sum(1), np.float64)).ravel()
    rows.data /= np.repeat(lengths, np.diff(rows.indptr)).astype(np.float32)
    return rows


def directions(rows: csr_matrix, known: Tensor, dim: int) -> ndarray:
    """Rows [I, V] turned into their coordinates [I, dim] on the first right singular vectors of the known
    rows, of length 1 (0 where nothing is left); columns beyond the rank are 0. float32.

    Randomised SVD of scikit-learn from a fixed seed. The last ones are remembered, since every trial and
    every seed wants the same.
    """
    rows.sort_indices()
    digest = hashlib.sha256(f"{rows.shape} {dim}".encode())
    for part in (rows.indptr, rows.indices, rows.data, known.numpy()):
        digest.update(part.tobytes())
    key = digest.digest()
    if key not in _found:
        while len(_found) >= _KEPT:
            del _found[next(iter(_found))]
        _found[key] = _directions(rows, known.numpy(), dim)
    return _found[key].copy()


def _directions(rows: csr_matrix, known: ndarray, dim: int) -> ndarray:
    import numpy as np
    from sklearn.utils.extmath import randomized_svd

    rows = rows[:, np.unique(rows[known].indices)]  # what is drawn does not depend on columns of others
    found = np.zeros((rows.shape[0], dim), np.float32)
    train = rows[known].astype(np.float64)  # in single precision it differs with where its arrays lie
    rank = min(dim, *train.shape)
    if rank:
        _, sizes, turned = randomized_svd(train, rank, n_iter=5, random_state=0)
        turned = turned[sizes > _RANK * sizes[0]]  # no known row lies along the others, which rounding chose
        place = rows @ turned.T.astype(np.float32)
        lengths = np.linalg.norm(place, axis=1, keepdims=True)
        found[:, : len(turned)] = np.where(lengths > 1e-6, place / np.maximum(lengths, 1e-6), 0)
    return found


def _csr(rows: ndarray) -> csr_matrix:
    from scipy.sparse import csr_matrix

    return csr_matrix(rows)
