"""Row stores: every id reads rows of its own vocabulary, padding reads row 0."""

from __future__ import annotations

import math

import pytest
import torch

from recsys_zoo.errors import InputError
from recsys_zoo.nn.stores import STORES, StoreConfig

OFFSET, VALUES = 100, 997  # a vocabulary of 997 values (unknown included) whose rows start at 101


def rows(name: str, buckets: int, ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return STORES[name](buckets).rows(ids, torch.tensor(OFFSET), torch.tensor(VALUES))


@pytest.mark.parametrize("name", STORES)
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("buckets", [2, 7, 32, 500])
def test_rows_stay_inside_the_vocabulary(name, dtype, buckets):
    ids = torch.arange(VALUES + 1, dtype=dtype)
    size = STORES[name](buckets).size(VALUES)
    for found in rows(name, buckets, ids):
        assert found[0] == 0  # padding
        assert found[1:].min() > OFFSET
        assert found[1:].max() <= OFFSET + size
        assert torch.equal(found, found.long())


def test_dense_gives_every_value_its_row():
    (found,) = rows("dense", 0, torch.tensor([0, 1, 2, VALUES]))
    assert found.tolist() == [0, OFFSET + 1, OFFSET + 2, OFFSET + VALUES]


def test_hash_is_fixed_by_its_formula():
    """Saved tables depend on it: the same rows on every machine and in every version."""
    ids = [2, 3, 50, 997]
    expected = [OFFSET + 2 + ((i * 2654435761 % 2**32) // 128) % 31 for i in ids]
    assert rows("hashed", 32, torch.tensor(ids))[0].tolist() == expected
    assert expected[:2] == [OFFSET + 2 + 6, OFFSET + 2 + 26]


def test_unknown_shares_its_row_with_nobody():
    (found,) = rows("hashed", 32, torch.arange(VALUES + 1))
    assert (found == found[1]).sum() == 1


def test_hash_spreads_consecutive_ids_evenly():
    (found,) = rows("hashed", 32, torch.arange(2, VALUES + 1))
    counts = torch.bincount(found - OFFSET - 2, minlength=31).double()
    assert (counts > 0).all()
    chi_square = ((counts - counts.mean()).square() / counts.mean()).sum()
    assert chi_square < 59.7  # 30 degrees of freedom, 0.1 %


@pytest.mark.parametrize("divisor", [1, 7, 31, 32, 996, 2000])
def test_quotient_and_remainder_are_distinct_for_every_value(divisor):
    first, second = rows("quotient_remainder", divisor, torch.arange(VALUES + 1))
    pairs = set(zip(first.tolist(), second.tolist(), strict=True))
    assert len(pairs) == VALUES + 1
    assert not set(first[1:].tolist()) & set(second[1:].tolist())  # two parts of the table
    assert STORES["quotient_remainder"](divisor).size(VALUES) == divisor + math.ceil(VALUES / divisor)


def test_quotient_remainder_by_hand():
    """Values count from 0 (id 1): value 9 = 2 * 4 + 1 reads remainder row 1 and quotient row 2."""
    first, second = rows("quotient_remainder", 4, torch.tensor([1, 10]))
    assert first.tolist() == [OFFSET + 1 + 0, OFFSET + 1 + 1]
    assert second.tolist() == [OFFSET + 1 + 4 + 0, OFFSET + 1 + 4 + 2]


def test_products_start_at_the_scale_of_dense_rows():
    store = STORES["quotient_remainder"](40)
    table = torch.zeros(store.size(1600), 64)
    store.initial(table, 1600, std=0.01)
    first, second = store.rows(torch.arange(1, 1601), torch.tensor(-1), torch.tensor(1600))
    assert (table[first] * table[second]).std().item() == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize(
    ("name", "buckets", "min_vocab", "vocab_size", "compressed"),
    [
        ("dense", 0, 0, 10**6, False),
        ("hashed", 100, 0, 102, True),
        ("hashed", 100, 0, 101, False),  # 100 values in 100 rows save nothing
        ("hashed", 100, 5000, 5000, False),
        ("hashed", 100, 5000, 5001, True),
        ("quotient_remainder", 10, 0, 101, True),
        ("quotient_remainder", 10, 0, 11, False),  # 10 + 1 rows for 10 values
    ],
)
def test_only_vocabularies_that_shrink_are_compressed(name, buckets, min_vocab, vocab_size, compressed):
    assert StoreConfig(name=name, buckets=buckets, min_vocab=min_vocab).applies_to(vocab_size) == compressed


@pytest.mark.parametrize(("name", "buckets"), [("hashed", 0), ("hashed", 1), ("quotient_remainder", 0)])
def test_senseless_buckets_are_refused(name, buckets):
    with pytest.raises(InputError, match=f"buckets={buckets}"):
        StoreConfig(name=name, buckets=buckets).applies_to(1000)
