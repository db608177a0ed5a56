"""Rules for numbers against plain loops; sums that no order or batch can change."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_zoo.data.numeric import ExactSum, Fit, buckets, log_square, transform
from recsys_zoo.data.spec import ColumnSpec

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)
WIDE = st.floats(-1e300, 1e300, allow_nan=False)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(WIDE, max_size=6), max_size=5))
def test_the_sum_is_exact_in_any_batches(batches: list[list[float]]):
    total = ExactSum()
    for batch in batches:
        total.add(np.array(batch, float))
    assert total.total() == sum((Fraction(x) for batch in batches for x in batch), Fraction(0))


@settings(max_examples=40, deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=30), st.integers(1, 7))
def test_standardise_against_python(values: list[float], size: int):
    column = ColumnSpec(name="x", kind="numeric", rule="standardise")
    fit, whole = Fit(column), Fit(column)
    for start in range(0, len(values), size):
        fit.add(np.array([*values[start:start + size], math.nan]))  # missing values take no part
    whole.add(np.array(values))
    assert fit.finish() == whole.finish()
    mean = math.fsum(values) / len(values)
    std = math.sqrt(math.fsum((x - mean) ** 2 for x in values) / len(values))
    assert fit.finish()["mean"] == pytest.approx(mean, rel=1e-12, abs=1e-9)
    if std > 1e-3:
        assert fit.finish()["std"] == pytest.approx(std, rel=1e-6)


def test_standardise_by_hand():
    column = ColumnSpec(name="x", kind="numeric", rule="standardise")
    fit = Fit(column)
    fit.add(np.array([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]))
    assert fit.finish() == {"mean": 5.0, "std": 2.0}
    found = transform(column, fit.finish(), np.array([9.0, 5.0, np.nan, 0.0]))
    assert found.tolist() == [2.0, 0.0, 0.0, -2.5]


def test_a_constant_or_empty_column_becomes_zero():
    column = ColumnSpec(name="x", kind="numeric", rule="standardise")
    fit = Fit(column)
    fit.add(np.array([3.1, 3.1, 3.1]))
    assert transform(column, fit.finish(), np.array([3.1])).tolist() == [0.0]
    assert Fit(column).finish() == {"mean": 0.0, "std": 1.0}


def _naive_log_square(x: float) -> float:
    return float(math.floor(math.log(x) ** 2)) if x > 2 else x


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(NUMBERS, st.integers(-5, 5000).map(float)), min_size=1, max_size=20))
def test_log_square_against_a_loop(values: list[float]):
    expected = [_naive_log_square(x) for x in values]
    assert log_square(np.array(values)).tolist() == expected
    column = ColumnSpec(name="x", rule="log_square")
    assert buckets(column, {}, np.array(values)).tolist() == [float(math.trunc(x)) for x in expected]


def test_log_square_by_hand():
    # ln(3)^2 = 1.2, ln(8)^2 = 4.3, ln(100)^2 = 21.2; up to 2 the number stays
    values = np.array([-1.5, 0.0, 1.0, 2.0, 3.0, 8.0, 100.0])
    assert log_square(values).tolist() == [-1.5, 0.0, 1.0, 2.0, 1.0, 4.0, 21.0]
    column = ColumnSpec(name="x", rule="log_square")
    assert buckets(column, {}, values).tolist() == [-1.0, 0.0, 1.0, 2.0, 1.0, 4.0, 21.0]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-8, 8).map(float), min_size=1, max_size=40), st.integers(2, 6), st.integers(1, 9))
def test_quantile_edges_against_sorted_values(values: list[float], bins: int, size: int):
    column = ColumnSpec(name="x", rule="quantile", bins=bins)
    fit = Fit(column)
    for start in range(0, len(values), size):
        fit.add(np.array(values[start:start + size]))
    ordered = sorted(values)
    edges = sorted({ordered[math.ceil(i * len(values) / bins) - 1] for i in range(1, bins)})
    assert fit.finish() == {"edges": edges}
    found = buckets(column, fit.finish(), np.array([*values, -99.0, 99.0, np.nan]))
    assert found[:-1].tolist() == [sum(edge < x for edge in edges) for x in [*values, -99.0, 99.0]]
    assert np.isnan(found[-1])


def test_quantile_buckets_are_equally_full_without_ties():
    column = ColumnSpec(name="x", rule="quantile", bins=4)
    fit = Fit(column)
    values = np.random.default_rng(0).permutation(1000).astype(float)
    fit.add(values)
    assert np.bincount(buckets(column, fit.finish(), values).astype(int)).tolist() == [250, 250, 250, 250]


def test_a_linear_number_is_kept_and_missing_is_zero():
    for rule in ("none", "linear"):
        column = ColumnSpec(name="x", kind="numeric", rule=rule)
        assert transform(column, {}, np.array([1.5, np.nan, -7.0])).tolist() == [1.5, 0.0, -7.0]
