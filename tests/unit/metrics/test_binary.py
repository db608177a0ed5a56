"""AUC, logloss, gAUC and calibration against scikit-learn and plain loops."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from recsys_zoo.errors import InputError
from recsys_zoo.metrics import binary


def sample(seed: int, rows: int = 300, levels: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scores in (0, 1), labels that depend on them, and 20 groups; `levels`: that many different scores."""
    rng = np.random.default_rng(seed)
    scores = rng.random(rows)
    if levels:
        scores = np.floor(scores * levels) / levels
    labels = rng.random(rows) < 0.2 + 0.6 * scores
    return (torch.tensor(scores, dtype=torch.float32), torch.tensor(labels, dtype=torch.float32),
            torch.tensor(rng.integers(0, 20, rows), dtype=torch.int32))


rows_of_scores = st.lists(
    st.tuples(st.sampled_from([-2.5, -0.0, 0.0, 1e-30, 0.25, 0.5, 0.50001, 1.0, 7.0]), st.booleans(),
              st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=40)


def pairs_by_hand(scores: list[float], labels: list[bool], weight: list[int]) -> Fraction | None:
    """The definition: every pair of a positive and a negative, one for the right order, half for a tie."""
    won, pairs = Fraction(0), 0
    for s, y, w in zip(scores, labels, weight, strict=True):
        for t, z, v in zip(scores, labels, weight, strict=True):
            if y and not z:
                won += w * v * (Fraction(1) if s > t else Fraction(1, 2) if s == t else Fraction(0))
                pairs += w * v
    return won / pairs if pairs else None


def test_auc_of_a_worked_example():
    # positives .35 and .8, negatives .1 and .4: three of the four pairs are in order
    scores = torch.tensor([0.1, 0.4, 0.35, 0.8])
    assert binary.auc(scores, torch.tensor([0.0, 0.0, 1.0, 1.0])) == 0.75


def test_auc_counts_a_tie_as_half_a_pair():
    # positive .5 ties with one negative and beats one; positive .2 loses to one and beats one: (0.5+1+0+1)/4
    scores = torch.tensor([0.5, 0.5, 0.2, 0.1])
    assert binary.auc(scores, torch.tensor([1.0, 0.0, 1.0, 0.0])) == 2.5 / 4


@given(rows_of_scores, st.sampled_from([torch.float32, torch.float64]))
def test_auc_is_the_share_of_pairs_in_order(rows, dtype):
    scores, labels, weight, _ = (list(column) for column in zip(*rows, strict=True))
    tensors = torch.tensor(scores, dtype=dtype), torch.tensor(labels).float()
    plain = pairs_by_hand(tensors[0].tolist(), labels, [1] * len(rows))
    found = binary.auc(*tensors)
    assert math.isnan(found) if plain is None else found == float(plain)
    weighted = pairs_by_hand(tensors[0].tolist(), labels, weight)
    found = binary.auc(*tensors, torch.tensor(weight))
    assert math.isnan(found) if weighted is None else found == pytest.approx(float(weighted), abs=1e-12)


@pytest.mark.parametrize("levels", [0, 7, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_auc_equals_scikit_learn(levels, dtype):
    scores, labels, _ = sample(levels, rows=5000, levels=levels)
    scores = scores.to(dtype)
    assert binary.auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores.double()), abs=1e-12)
    logits = scores.double().logit(1e-6)
    assert binary.auc(logits, labels) == pytest.approx(roc_auc_score(labels, logits), abs=1e-12)
    weight = torch.rand(5000, generator=torch.Generator().manual_seed(1))
    expected = roc_auc_score(labels, scores.double(), sample_weight=weight)
    assert binary.auc(scores, labels, weight) == pytest.approx(expected, abs=1e-12)


@given(rows_of_scores, st.randoms())
def test_auc_invariances(rows, random):
    labels = torch.tensor([r[1] for r in rows]).float()
    scores = torch.tensor([r[0] for r in rows], dtype=torch.float64)
    value = binary.auc(scores, labels)
    if math.isnan(value):
        assert labels.min() == labels.max()
        return
    assert 0 <= value <= 1
    order = torch.tensor(random.sample(range(len(rows)), len(rows)))
    assert binary.auc(scores[order], labels[order]) == value
    rank = scores.unique(return_inverse=True)[1]
    for rising in (8 * scores, rank**3 - 10.0, rank / 64, (rank / 64).float()):  # all exact: no new ties
        assert binary.auc(rising, labels) == value
    assert binary.auc(-scores, labels) == pytest.approx(1 - value, abs=1e-12)
    assert binary.auc(scores, 1 - labels) == pytest.approx(1 - value, abs=1e-12)


@pytest.mark.parametrize("score", [0.0, 0.3, 1.0])
def test_a_constant_scorer_has_auc_one_half(score):
    _, labels, group = sample(3)
    constant = torch.full_like(labels, score)
    assert binary.auc(constant, labels) == 0.5
    assert binary.gauc(constant, labels, group) == 0.5
    assert binary.avg_auc(constant, labels, group) == 0.5


def test_negative_zero_ties_with_zero():
    assert binary.auc(torch.tensor([-0.0, 0.0]), torch.tensor([1.0, 0.0])) == 0.5
    assert binary.auc(torch.tensor([0.0, -0.0]), torch.tensor([1.0, 0.0])) == 0.5


def test_one_class_has_no_auc_and_evaluate_says_which_is_missing():
    scores = torch.tensor([0.2, 0.7])
    assert math.isnan(binary.auc(scores, torch.zeros(2)))
    assert math.isnan(binary.auc(scores, torch.ones(2)))
    assert math.isnan(binary.auc(torch.zeros(0), torch.zeros(0)))
    with pytest.raises(InputError, match="a split without positives"):
        binary.evaluate_binary(scores, torch.zeros(2))
    with pytest.raises(InputError, match="without negatives"):
        binary.evaluate_binary(scores, torch.ones(2))
    with pytest.raises(InputError, match="without positives"):
        binary.evaluate_binary(scores, torch.tensor([0.0, 1.0]), weight=torch.tensor([1.0, 0.0]))
    with pytest.raises(InputError, match="0 rows"):
        binary.evaluate_binary(torch.zeros(0), torch.zeros(0))


def test_logloss_by_hand_and_by_scikit_learn():
    # -(ln .8 + ln .6) / 2
    found = binary.logloss(torch.tensor([0.8, 0.4], dtype=torch.float64), torch.tensor([1.0, 0.0]))
    assert found == pytest.approx(0.3669845875401002, abs=1e-15)
    scores, labels, _ = sample(4, rows=2000)
    weight = torch.rand(2000, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert binary.logloss(scores, labels) == pytest.approx(log_loss(labels, scores.double()), abs=1e-12)
    expected = log_loss(labels, scores.double(), sample_weight=weight)
    assert binary.logloss(scores, labels, weight) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("score", "label"), [(0.0, 1.0), (1.0, 0.0)])
def test_logloss_is_clipped_at_1e_7(score, label):
    found = binary.logloss(torch.tensor([score]), torch.tensor([label]))
    assert found == pytest.approx(-math.log(1e-7), rel=1e-9)
    assert binary.logloss(torch.tensor([score]), torch.tensor([1 - label])) == pytest.approx(1e-7, rel=1e-6)


def gauc_by_loop(scores, labels, group, weight):
    values, masses = [], []
    for g in sorted(set(group.tolist())):
        rows = group == g
        if len(set(labels[rows][weight[rows] > 0].tolist())) == 2:
            values.append(roc_auc_score(labels[rows], scores[rows], sample_weight=weight[rows]))
            masses.append(weight[rows].sum().item())
    return np.average(values, weights=masses) if values else math.nan, np.mean(values) if values else math.nan


@pytest.mark.parametrize("levels", [0, 5])
@pytest.mark.parametrize("shift", [0, -7, 2**40, -(2**40)])
def test_gauc_equals_a_loop_over_groups(levels, shift):
    scores, labels, group = sample(levels + 1, rows=200, levels=levels)
    group = group.long() * 3 + shift
    labels[group == group[0]] = 0  # a group of one class
    mean, plain = gauc_by_loop(scores, labels, group, torch.ones(200, dtype=torch.float64))
    assert binary.gauc(scores, labels, group) == pytest.approx(mean, abs=1e-12)
    assert binary.avg_auc(scores, labels, group) == pytest.approx(plain, abs=1e-12)
    weight = torch.rand(200, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    mean, _ = gauc_by_loop(scores, labels, group, weight)
    assert binary.gauc(scores, labels, group, weight) == pytest.approx(mean, abs=1e-12)
    assert binary.gauc(scores.double() - 3, labels, group) == binary.gauc(scores, labels, group)


@given(rows_of_scores)
def test_group_auc_is_the_auc_of_each_group(rows):
    scores = torch.tensor([r[0] for r in rows])
    labels, group = torch.tensor([r[1] for r in rows]).float(), torch.tensor([r[2] for r in rows])
    values, mass = binary.group_auc(scores, labels, group)
    assert mass.sum() == len(rows)
    for g, value, count in zip(group.unique().tolist(), values.tolist(), mass.tolist(), strict=True):
        inside = group == g
        expected = binary.auc(scores[inside], labels[inside])
        assert count == inside.sum()
        assert value == expected or (math.isnan(value) and math.isnan(expected))


def test_gauc_without_a_two_class_group_is_nan():
    scores, labels = torch.tensor([0.1, 0.9]), torch.tensor([0.0, 1.0])
    assert math.isnan(binary.gauc(scores, labels, torch.tensor([0, 1])))
    assert binary.gauc(scores, labels, torch.tensor([5, 5])) == 1.0
    for far in (2**32, -(2**32)):  # ids wider than their part of the sort key
        assert math.isnan(binary.gauc(scores, labels, torch.tensor([5, 5 + far])))


def calibration_by_loop(scores, labels, weight):
    total = sum(weight)
    edges = []
    for k in range(1, 20):
        edges.append(min(s for s in scores
                         if sum(w for t, w in zip(scores, weight, strict=True) if t <= s) >= total * k / 20))
    error = 0.0
    for b in range(20):
        rows = [i for i, s in enumerate(scores) if sum(e <= s for e in edges) == b]
        error += abs(sum(weight[i] * (scores[i] - labels[i]) for i in rows))
    return error / total


@pytest.mark.parametrize("levels", [0, 6])
def test_calibration_error_equals_a_loop_over_bins(levels):
    scores, labels, _ = sample(levels, rows=130, levels=levels)
    loop = calibration_by_loop(scores.tolist(), labels.tolist(), [1] * 130)
    assert binary.calibration_error(scores, labels) == pytest.approx(loop, abs=1e-9)
    weight = torch.arange(130.0) % 4
    loop = calibration_by_loop(scores.tolist(), labels.tolist(), weight.tolist())
    assert binary.calibration_error(scores, labels, weight) == pytest.approx(loop, abs=1e-9)


def test_calibration_of_known_scorers():
    labels = torch.tensor([1.0, 0.0, 0.0, 0.0] * 50)
    assert binary.calibration_error(torch.full_like(labels, 0.25), labels) == 0
    assert binary.calibration_ratio(torch.full_like(labels, 0.25), labels) == 1
    assert binary.calibration_error(torch.full_like(labels, 0.5), labels) == 0.25
    assert binary.calibration_ratio(torch.full_like(labels, 0.5), labels) == 2
    assert binary.calibration_error(labels, labels) == 0
    assert math.isnan(binary.calibration_ratio(torch.full_like(labels, 0.5), torch.zeros_like(labels)))


@given(rows_of_scores)
def test_a_weight_is_a_number_of_copies(rows):
    scores = torch.tensor([abs(r[0]) / 7 for r in rows])
    labels, weight = torch.tensor([r[1] for r in rows]).float(), torch.tensor([r[2] for r in rows])
    group = torch.tensor([r[3] for r in rows])
    copies = torch.repeat_interleave(torch.arange(len(rows)), weight)
    if labels[copies].unique().numel() < 2:
        return
    weighted = binary.evaluate_binary(scores, labels, group, weight)
    copied = binary.evaluate_binary(scores[copies], labels[copies], group[copies])
    assert weighted == pytest.approx(copied, abs=1e-9, nan_ok=True)
    assert all(0 <= copied[name] <= 1 for name in ("auc", "calibration_error"))


@given(rows_of_scores, st.randoms())
def test_no_metric_depends_on_the_order_of_rows(rows, random):
    scores = torch.tensor([abs(r[0]) / 7 for r in rows])
    labels, group = torch.tensor([r[1] for r in rows]).float(), torch.tensor([r[2] for r in rows])
    if labels.unique().numel() < 2:
        return
    order = torch.tensor(random.sample(range(len(rows)), len(rows)))
    expected = binary.evaluate_binary(scores, labels, group)
    shuffled = binary.evaluate_binary(scores[order], labels[order], group[order])
    assert shuffled == pytest.approx(expected, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize(("change", "sentence"), [
    (lambda s, y, g, w: (s.index_fill(0, torch.tensor([2]), math.nan), y, g, w), "scores: row 2 is nan"),
    (lambda s, y, g, w: (s * 3, y, g, w), "sigmoid of logits"),
    (lambda s, y, g, w: (s - 1, y, g, w), "sigmoid of logits"),
    (lambda s, y, g, w: (s, y * 2, g, w), "labels must be 0 or 1"),
    (lambda s, y, g, w: (s, y * math.nan, g, w), "labels must be 0 or 1"),
    (lambda s, y, g, w: (s, y[:, None], g, w), r"labels have shape \[300, 1\]"),
    (lambda s, y, g, w: (s, y, g[:9], w), r"group have shape \[9\]"),
    (lambda s, y, g, w: (s, y, g, w - 2), "weight: row 0 is -1"),
    (lambda s, y, g, w: ((s > 0.5).long(), y, g, w), "floating point"),
])
def test_bad_input_is_one_sentence(change, sentence):
    scores, labels, group = sample(5)
    with pytest.raises(InputError, match=sentence):
        binary.evaluate_binary(*change(scores, labels, group, torch.ones(300)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_same_values():
    scores, labels, group = sample(6, rows=5000, levels=50)
    weight = torch.rand(5000, generator=torch.Generator().manual_seed(4))
    for rows in ((scores, labels, group), (scores, labels, group, weight)):
        there = binary.evaluate_binary(*(t.cuda() for t in rows))
        assert there == pytest.approx(binary.evaluate_binary(*rows), abs=1e-12)
