"""Per-example scores: equal values back, damage noticed, metrics computed again."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
import torch

from recsys_zoo.board.scores import read_scores, recompute, score_files, write_scores
from recsys_zoo.errors import InputError
from recsys_zoo.metrics.binary import evaluate_binary


def arrays():
    rng = np.random.default_rng(0)
    label, score = rng.integers(0, 2, 300).astype(np.float32), rng.random(300).astype(np.float32)
    return label, score, rng.integers(0, 9, 300)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("grouped", [True, False])
def test_values_come_back_exactly(tmp_path, dtype, grouped):
    label, score, group = arrays()
    digest = write_scores(tmp_path / "s.parquet", label, score.astype(dtype), group if grouped else None)
    found = read_scores(tmp_path / "s.parquet", digest)
    assert found.digest == digest
    assert found.score.numpy().dtype == dtype
    np.testing.assert_array_equal(found.score, score.astype(dtype))
    np.testing.assert_array_equal(found.label, label)
    assert (found.group is not None) == grouped
    assert pl.read_parquet(tmp_path / "s.parquet").columns == ["label", "score", "group"][: 2 + grouped]


def test_the_digest_is_of_the_values_not_of_the_file(tmp_path):
    path = tmp_path / "s.parquet"
    digest = write_scores(path, *arrays())
    pl.read_parquet(path).write_parquet(path, compression="uncompressed")
    assert read_scores(path, digest).digest == digest
    label, score, group = arrays()
    score[7] = np.nextafter(score[7], np.float32(1))
    assert write_scores(tmp_path / "t.parquet", label, score, group) != digest
    with pytest.raises(InputError, match="not those the row was made from"):
        read_scores(tmp_path / "t.parquet", digest)


def test_damage_is_one_sentence(tmp_path):
    path = tmp_path / "s.parquet"
    digest = write_scores(path, *arrays())
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"s.parquet: damaged"):
        read_scores(path)
    for place in range(0, len(data), 61):  # a flipped bit changes nothing that is read, or is noticed
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x40]) + data[place + 1:])
        try:
            assert read_scores(path, digest).digest == digest
        except InputError:
            continue
    with pytest.raises(InputError, match=r"none.parquet: no such file"):
        read_scores(tmp_path / "none.parquet")
    pl.DataFrame({"label": [1]}).write_parquet(path)
    with pytest.raises(InputError, match="column 'score' is missing"):
        read_scores(path)


def test_metrics_are_computed_again_without_training(tmp_path):
    label, score, group = arrays()
    digest = write_scores(tmp_path / "s.parquet", label, score, group)
    metrics, intervals = recompute(tmp_path / "s.parquet", digest)
    assert metrics == evaluate_binary(*map(torch.from_numpy, (score, label, group)))
    assert intervals["auc"].low < metrics["auc"] < intervals["auc"].high


def test_score_files_of_finished_runs(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        digest = write_scores(tmp_path / name / "scores_test.parquet", *arrays())
    (tmp_path / "one" / "row.json").write_text(json.dumps({"scores_digest": digest}))
    assert score_files(tmp_path) == {digest: tmp_path / "one" / "scores_test.parquet"}
