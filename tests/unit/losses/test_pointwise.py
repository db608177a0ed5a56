"""Pointwise losses by hand and against the metric of the same name."""

from __future__ import annotations

import math

import pytest
import torch

from recsys_zoo.losses.pointwise import binary_cross_entropy
from recsys_zoo.metrics.binary import logloss


def test_weighted_mean_by_hand():
    logits = torch.tensor([0.0, math.log(3.0), -2.0], dtype=torch.float64)  # p = 1/2, 3/4
    labels, weight = torch.tensor([1.0, 0.0, 1.0]).double(), torch.tensor([1.0, 3.0, 0.0]).double()
    expected = (math.log(2) + 3 * math.log(4)) / 4
    assert binary_cross_entropy(logits, labels, weight).item() == pytest.approx(expected, abs=1e-12)


def test_it_is_the_reported_logloss():
    logits, labels, weight = torch.randn(200), (torch.rand(200) < 0.4).float(), torch.rand(200)
    expected = logloss(logits.sigmoid(), labels, weight)
    assert binary_cross_entropy(logits, labels, weight).item() == pytest.approx(expected, abs=1e-6)  # float32
    plain = binary_cross_entropy(logits, labels, torch.ones(200)).item()
    assert plain == pytest.approx(logloss(logits.sigmoid(), labels), abs=1e-6)


def test_extreme_logits_and_weightless_batches_stay_finite():
    logits = torch.tensor([200.0, -200.0], requires_grad=True)
    loss = binary_cross_entropy(logits, torch.tensor([0.0, 1.0]), torch.ones(2))
    assert loss.item() == 200.0
    loss.backward()
    assert logits.grad.tolist() == [0.5, -0.5]
    assert binary_cross_entropy(logits, torch.tensor([0.0, 1.0]), torch.zeros(2)).item() == 0
