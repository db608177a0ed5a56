"""Row stores: which rows of a table an id reads. An id of 0 (padding) always reads row 0, which stays zero.

A store turns ids and a vocabulary's offset into one or two row numbers; two rows are multiplied element by
element.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from ..config import Frozen, Search
from ..errors import InputError


class StoreConfig(Frozen):
    """How the vectors of large vocabularies are stored."""

    name: Literal["dense", "hashed", "quotient_remainder"] = Field(
        "dense", description="one row a value, rows shared by a hash, or products of two shared rows"
    )
    buckets: Annotated[
        int, Search(low=1000, high=1_000_000, log=True, when="name=hashed|quotient_remainder")
    ] = Field(
        0, ge=0, description="rows of a hashed vocabulary, or the divisor of quotient-remainder"
    )
    min_vocab: int = Field(
        0, ge=0, description="vocabularies with fewer values stay dense; 0: decided by buckets"
    )

    def applies_to(self, vocab_size: int) -> bool:
        """Whether a vocabulary of this size is compressed (and saves rows by it)."""
        values = vocab_size - 1
        return (
            self.name != "dense"
            and values >= self.min_vocab
            and STORES[self.name](self.buckets).size(values) < values
        )


class DenseStore:
    """One row for every value."""

    def __init__(self, buckets: int = 0) -> None:
        pass

    def size(self, values: int) -> int:
        """Rows taken by a vocabulary of `values` values, unknown included, padding not."""
        return values

    def rows(self, ids: Tensor, offset: Tensor, values: Tensor) -> tuple[Tensor, ...]:
        """Row numbers of ids (any integer tensor); offset and values broadcast against it."""
        return ((ids + offset) * (ids != 0),)

    def initial(self, weight: Tensor, values: int, std: float) -> None:
        """Fill the rows of one vocabulary in place."""
        weight.normal_(0.0, std)


class HashedStore(DenseStore):
    """Values share `buckets` rows by a fixed multiplicative hash (Weinberger et al. 2009); unknown keeps
    its own."""

    def __init__(self, buckets: int) -> None:
        if buckets < 2:
            raise InputError(f"store hashed: buckets={buckets} leaves no row to share; choose 2 or more")
        self.buckets = buckets

    def size(self, values: int) -> int:
        return self.buckets

    def rows(self, ids: Tensor, offset: Tensor, values: Tensor) -> tuple[Tensor, ...]:
        # Knuth's multiplier modulo 2^32, upper bits: spreads consecutive ids, equal on every machine.
        mixed = ((ids.long() * 2654435761) & 0xFFFFFFFF) >> 7
        shared = torch.where(ids == 1, 1, 2 + mixed % (self.buckets - 1))
        return ((shared + offset) * (ids != 0),)


class QuotientRemainderStore(DenseStore):
    """Vector = remainder row * quotient row (Shi et al., KDD 2020), so every value keeps its own vector."""

    def __init__(self, buckets: int) -> None:
        if buckets < 1:
            raise InputError(f"store quotient_remainder: buckets={buckets} is no divisor; choose 1 or more")
        self.divisor = buckets

    def size(self, values: int) -> int:
        return self.divisor + math.ceil(values / self.divisor)

    def rows(self, ids: Tensor, offset: Tensor, values: Tensor) -> tuple[Tensor, ...]:
        value = ids - 1
        remainder = 1 + value % self.divisor
        quotient = 1 + self.divisor + torch.div(value, self.divisor, rounding_mode="floor")
        present = ids != 0
        return (remainder + offset) * present, (quotient + offset) * present

    def initial(self, weight: Tensor, values: int, std: float) -> None:
        weight[: self.divisor].normal_(0.0, std)
        weight[self.divisor :].normal_(1.0, std)  # the product then starts at the scale of a dense row


STORES: dict[str, type[DenseStore]] = {
    "dense": DenseStore,
    "hashed": HashedStore,
    "quotient_remainder": QuotientRemainderStore,
}
