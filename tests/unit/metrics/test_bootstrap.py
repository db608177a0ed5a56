"""Bootstrap intervals against resampling by hand, and their coverage on planted data."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score

from recsys_zoo.errors import InputError
from recsys_zoo.metrics import binary, bootstrap
from recsys_zoo.metrics.bootstrap import multiplicities, resample

from .test_binary import sample


@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize("levels", [0, 6])
def test_replicates_equal_resampling_the_rows(clustered, levels):
    scores, labels, group = sample(7, rows=90, levels=levels)
    group = group * 5 - 3
    found = resample(scores, labels, group if clustered else None, replicates=9, seed=11)
    units = np.unique(group) if clustered else np.arange(90)
    counts = multiplicities(9, len(units), torch.Generator().manual_seed(11))
    assert (counts.sum(1) == len(units)).all()
    for replicate, count in enumerate(counts.tolist()):
        drawn = np.repeat(units, count)
        rows = np.concatenate([np.flatnonzero(group.numpy() == u) for u in drawn]) if clustered else drawn
        y, p = labels.numpy()[rows], scores.numpy()[rows].astype(np.float64)
        assert found["auc"][replicate] == pytest.approx(roc_auc_score(y, p), abs=1e-12)
        clipped = np.clip(p, 1e-7, 1 - 1e-7)
        assert found["logloss"][replicate] == pytest.approx(log_loss(y, clipped), abs=1e-12)
        if clustered:  # a user drawn twice counts twice in the mean over users
            mixed = [group == u for u in drawn if len(set(labels[group == u].tolist())) == 2]
            values = [roc_auc_score(labels[m], scores[m]) for m in mixed]
            mean = np.average(values, weights=[m.sum().item() for m in mixed])
            assert found["gauc"][replicate] == pytest.approx(mean, abs=1e-12)


def test_the_block_size_does_not_change_the_replicates(monkeypatch):
    scores, labels, group = sample(8)
    whole = resample(scores, labels, group, replicates=30, seed=2)
    monkeypatch.setattr("recsys_zoo.metrics.bootstrap._CELLS", 700)  # two replicates a block
    blocks = resample(scores, labels, group, replicates=30, seed=2)
    assert torch.equal(whole["auc"], blocks["auc"])  # whole numbers
    for name in ("logloss", "gauc"):  # a matrix product may add up in another order
        torch.testing.assert_close(whole[name], blocks[name], rtol=0, atol=1e-14)
    other = resample(scores, labels, group, replicates=30, seed=3)
    assert not torch.equal(whole["auc"], other["auc"])


def test_intervals_hold_the_value_and_widen_with_the_level():
    scores, labels, group = sample(9, rows=1000)
    narrow = bootstrap.bootstrap(scores, labels, group, replicates=300, level=0.5)
    wide = bootstrap.bootstrap(scores, labels, group, replicates=300, level=0.99)
    exact = binary.evaluate_binary(scores, labels, group)
    assert set(wide) == {"auc", "logloss", "gauc"}
    for name, interval in wide.items():
        assert interval.value == exact[name]
        assert interval.low < narrow[name].low < interval.value < narrow[name].high < interval.high
        assert 0 < interval.std < interval.high - interval.low


def test_what_cannot_be_resampled_is_said():
    with pytest.raises(InputError, match="without positives"):
        bootstrap.bootstrap(torch.tensor([0.1, 0.2]), torch.zeros(2))
    with pytest.raises(InputError, match="replicates=1"):
        resample(torch.tensor([0.1, 0.2]), torch.tensor([0.0, 1.0]), replicates=1)
    rare = torch.zeros(5)
    rare[0] = 1
    draws = resample(torch.rand(5), rare, replicates=100)["auc"]
    assert 0 < draws.isnan().sum() < 100  # resamples without the only positive have no AUC and are left out
    assert bootstrap.bootstrap(torch.rand(5), rare, replicates=100)["auc"].high <= 1


def planted(users: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ten rows a user; a user's rate of clicks and the scorer's bias for the user vary on their own."""
    group = np.repeat(np.arange(users), 10)
    rate = rng.normal(0, 1.5, users)[group]
    labels = rng.random(users * 10) < 1 / (1 + np.exp(-rate))
    scores = 1 / (1 + np.exp(-(rng.normal(0, 1.5, users)[group] + labels + rng.normal(0, 0.5, users * 10))))
    return torch.tensor(scores), torch.tensor(labels).float(), torch.tensor(group)


@pytest.mark.slow
def test_a_clustered_interval_covers_the_truth_and_a_row_wise_one_does_not():
    rng = np.random.default_rng(12)
    scores, labels, _ = planted(100_000, rng)
    truth = binary.auc(scores, labels)
    covered, narrow = 0, 0
    for seed in range(300):
        scores, labels, group = planted(80, rng)
        by_user = bootstrap.bootstrap(scores, labels, group, replicates=300, seed=seed)["auc"]
        by_row = bootstrap.bootstrap(scores, labels, None, replicates=300, seed=seed)["auc"]
        covered += by_user.low <= truth <= by_user.high
        narrow += by_row.low <= truth <= by_row.high
    assert 0.90 <= covered / 300 <= 0.985  # 95 % nominal, standard error 1.3 %
    assert narrow / 300 < 0.80


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_same_replicates():
    scores, labels, group = sample(13, levels=9)
    here = resample(scores, labels, group, replicates=20)
    there = resample(scores.cuda(), labels.cuda(), group.cuda(), replicates=20)
    for name, values in here.items():
        torch.testing.assert_close(there[name], values, rtol=0, atol=1e-12)
