"""Paired tests against scipy's and against hand-made numbers; their false alarms on planted seeds."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from recsys_zoo.errors import InputError
from recsys_zoo.metrics import binary, bootstrap
from recsys_zoo.metrics.paired import (
    NO_SPREAD,
    Spread,
    compare,
    holm,
    paired_test,
    pooled_spread,
    variance_of,
)

from .test_binary import sample


def test_without_sampling_it_is_welchs_test():
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(0.80, 0.01, 5), rng.normal(0.79, 0.03, 7)
    expected = stats.ttest_ind(ours, theirs, equal_var=False)
    found = compare(ours.tolist(), theirs.tolist(), 0.0)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.df == pytest.approx(expected.df, rel=1e-9)
    span = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((span.low, span.high), rel=1e-9)


def test_without_seeds_it_is_a_z_test():
    found = compare([0.81], [0.80], 0.005**2)
    assert found.df == math.inf
    assert found.p == pytest.approx(2 * stats.norm.sf(2), rel=1e-12)
    assert (found.low, found.high) == pytest.approx((0.01 - 1.959964 * 0.005, 0.01 + 1.959964 * 0.005))
    assert compare([0.8], [0.8], 0.0).p == 1
    assert compare([0.8], [0.7], 0.0).p == 1  # nothing is known about chance: no test


def test_users_and_seeds_add_up_and_one_seed_borrows_from_the_others():
    # ours: variance .0002 over two seeds, theirs: one seed with a borrowed variance of .0003 (df 6)
    found = compare([0.80, 0.82], [0.80], 0.0001, pooled=(NO_SPREAD, Spread(0.0003, 6)))
    assert found.value == pytest.approx(0.01)
    assert found.std_error == pytest.approx(math.sqrt(0.0001 + 0.0002 / 2 + 0.0003))
    assert found.df == pytest.approx(0.0005**2 / (0.0001**2 / 1 + 0.0003**2 / 6))
    known = compare([0.80, 0.82], [0.80], 0.0001)
    assert known.std_error == pytest.approx(math.sqrt(0.0002))


def test_the_spread_of_seeds_is_pooled_over_models():
    groups = [[1.0, 3.0], [5.0], [], [2.0, 4.0, 6.0]]
    assert pooled_spread(groups) == (pytest.approx((2 + 8) / 3), 3)
    assert pooled_spread([[4.0]]) == (0.0, 0)


def test_a_paired_test_is_much_sharper_than_the_single_intervals():
    scores, labels, group = sample(10, rows=1000)
    worse = (scores + 0.02 * torch.rand(1000, generator=torch.Generator().manual_seed(5))).clamp(0, 1)
    single = bootstrap.bootstrap(scores, labels, group, replicates=200)["auc"]
    found = paired_test(scores, worse, labels, group, replicates=200)
    assert set(found) == {"auc", "logloss", "gauc"}
    assert found["auc"].value == pytest.approx(binary.auc(scores, labels) - binary.auc(worse, labels))
    assert found["auc"].high - found["auc"].low < (single.high - single.low) / 5
    assert all(one.p == 1 and one.std_error == 0 for one in paired_test(
        scores, scores, labels, group, replicates=50).values())
    shuffled = scores[torch.randperm(1000, generator=torch.Generator().manual_seed(6))]
    assert paired_test(scores, shuffled, labels, replicates=200)["auc"].p < 1e-6


def test_the_variance_is_that_of_the_difference_of_means_over_seeds():
    scores, labels, group = sample(11, rows=400)
    rng = torch.Generator().manual_seed(3)
    ours, theirs = ((scores + 0.1 * torch.rand(3, 400, generator=rng)).clamp(0, 1) for _ in range(2))
    means = [torch.stack([bootstrap.resample(s, labels, group, 100, seed=4)["auc"] for s in side]).mean(0)
             for side in (ours, theirs)]
    users = (means[0] - means[1]).var().item()
    values = [[binary.auc(s, labels) for s in side] for side in (ours, theirs)]
    seeds = sum(np.var(side, ddof=1) / 3 for side in values)
    found = paired_test(ours, theirs, labels, group, replicates=100, seed=4)["auc"]
    assert found.std_error == pytest.approx(math.sqrt(users + seeds), rel=1e-9)


def test_replicates_without_a_value_are_left_out():
    assert variance_of(torch.tensor([1.0, math.nan, 3.0])) == 2
    with pytest.raises(InputError, match="hardly any resample has both classes"):
        variance_of(torch.tensor([1.0, math.nan]))


def test_holms_correction_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
    # scipy has no Holm; its definition: reject in order while p <= .05 / (hypotheses left)
    p = np.random.default_rng(1).beta(0.3, 2, 40)
    rejected, order = set(), np.argsort(p)
    for place, i in enumerate(order):
        if p[i] > 0.05 / (40 - place):
            break
        rejected.add(i)
    assert {i for i, adjusted in enumerate(holm(p.tolist())) if adjusted <= 0.05} == rejected
    assert 0 < len(rejected) < 40


def test_equal_models_are_seldom_told_apart():
    """False alarms of 5 against 5 seeds, where seeds differ as much as users do: 5 % nominal."""
    rng = np.random.default_rng(2)
    alarms = 0
    for _ in range(2000):
        common = rng.normal(0, 0.001)  # the users drawn, seen through the difference of the two models
        ours, theirs = rng.normal(common, 0.002, 5), rng.normal(0, 0.002, 5)
        alarms += compare(ours.tolist(), theirs.tolist(), 0.001**2).p < 0.05
    assert 0.03 <= alarms / 2000 <= 0.065
