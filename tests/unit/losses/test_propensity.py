"""The inverse propensity loss by hand: unbiased, clipped, plain where propensities are 1."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys_zoo.errors import InputError
from recsys_zoo.losses.propensity import (
    check_propensities,
    errors,
    inverse_propensity_loss,
    popularity_propensities,
)

GAMMA, THETA, P = 0.6, 0.25, 0.7


def number(value: float) -> torch.Tensor:
    return torch.tensor([value], dtype=torch.float64)


def loss(label: float, p: float = P, theta: float = THETA, **more) -> float:
    return float(inverse_propensity_loss(number(p).logit(), number(label), number(theta), **more))


def moments(clip: float) -> tuple[float, float]:
    """Mean and variance over clicks."""
    chance = GAMMA * THETA
    one, zero = loss(1, clip=clip), loss(0, clip=clip)
    return chance * one + (1 - chance) * zero, chance * (1 - chance) * (one - zero) ** 2


def test_the_mean_over_clicks_is_the_loss_of_relevance():
    ideal = GAMMA * (1 - P) ** 2 + (1 - GAMMA) * P**2
    assert (loss(1), loss(0)) == (pytest.approx(-1.11), pytest.approx(0.49))
    assert moments(0.0)[0] == pytest.approx(ideal) == pytest.approx(0.25)


@given(gamma=st.floats(0, 1), theta=st.floats(0.01, 1), p=st.floats(0.01, 0.99),
       error=st.sampled_from(["squared", "log"]))
def test_it_is_unbiased_for_any_pair(gamma, theta, p, error):
    one, zero = (float(e) for e in errors(number(p).logit(), error))
    mean = sum(chance * loss(y, p, theta, error=error)
               for y, chance in ((1, gamma * theta), (0, 1 - gamma * theta)))
    assert mean == pytest.approx(gamma * one + (1 - gamma) * zero, abs=1e-9)


def test_clipping_trades_variance_for_bias():
    assert loss(1, clip=0.5) == pytest.approx(-0.31)
    (mean, variance), (clipped, less) = moments(0.0), moments(0.5)
    assert clipped == pytest.approx(0.37)
    assert clipped - mean == pytest.approx(GAMMA * (THETA / 0.5 - 1) * ((1 - P) ** 2 - P**2))
    assert (variance, less) == (pytest.approx(0.3264), pytest.approx(0.0816))


def test_propensities_of_one_and_clipping_at_one_are_the_plain_errors():
    for error in ("squared", "log"):
        one, zero = (float(e) for e in errors(number(P).logit(), error))
        for more in ({"theta": 1.0}, {"clip": 1.0}):
            assert loss(1, error=error, **more) == pytest.approx(one)
            assert loss(0, error=error, **more) == pytest.approx(zero)
    assert loss(0, unlabelled_weight=0.3) == pytest.approx(0.3 * 0.49)


@pytest.mark.parametrize(("theta", "slope"), [(0.25, -7.0), (1.0, -1.0)])
def test_the_slope_of_a_click_by_hand(theta, slope):
    score = number(0.0).requires_grad_()
    inverse_propensity_loss(score, number(1), number(theta)).backward()
    assert float(score.grad) / 0.25 == pytest.approx(slope)  # dp / ds = p (1 - p) = 1/4


def test_the_slope_of_an_unlabelled_pair_by_hand():
    score = number(P).logit().requires_grad_()
    inverse_propensity_loss(score, number(0), number(THETA)).backward()
    assert float(score.grad) / (P * (1 - P)) == pytest.approx(2 * P)


def test_the_loss_has_no_lower_bound_unless_it_is_cut():
    assert loss(1, p=0.999999, theta=0.001) < -900
    assert loss(1, p=0.999999, theta=0.001, non_negative=True) >= 0
    assert loss(0, non_negative=True) == loss(0)


@given(counts=st.lists(st.integers(0, 10**6), min_size=1, max_size=20), power=st.floats(0, 2))
def test_propensities_are_chances_that_rise_with_the_count(counts, power):
    found = popularity_propensities(torch.tensor(counts), power)
    assert float(found.max()) == 1
    check_propensities(found)
    order = sorted(range(len(counts)), key=lambda i: counts[i])
    assert found[order].diff().min() >= 0 if len(counts) > 1 else True
    assert bool((popularity_propensities(torch.tensor(counts), 0.0) == 1).all())


def test_propensities_by_hand_also_of_items_without_a_click():
    found = popularity_propensities(torch.tensor([4, 0, 16, 1]))
    assert found.tolist() == [0.5, 0.25, 1.0, 0.25]
    assert popularity_propensities(torch.zeros(3, dtype=torch.int64)).tolist() == [1, 1, 1]


@pytest.mark.parametrize("value", [0.0, -0.1, 1.01, float("nan")])
def test_numbers_that_are_no_chances_are_refused(value):
    with pytest.raises(InputError, match="above 0 and at most 1"):
        check_propensities(torch.tensor([0.5, value]))
