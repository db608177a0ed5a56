"""Ranks by tests of all pairs; draws kept beside the rows, or made from scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recsys_zoo.board.draws import Bank, draws_of, kept_at, read_draws, write_draws
from recsys_zoo.board.rank import rank
from recsys_zoo.board.scores import read_scores, write_scores
from recsys_zoo.board.ties import NOT_TESTED, pair_test, spread_of_seeds
from recsys_zoo.errors import InputError
from recsys_zoo.metrics.binary import auc
from recsys_zoo.metrics.bootstrap import resample
from recsys_zoo.metrics.paired import paired_test

from .toys import row

SEEDS = 3


def made(folder, levels, grouped=True, rows=3000):
    """Rows of models whose scores hold their level of the label, over seeds, and their score files by digest.

    Their intervals are too wide to tell anything.
    """
    rng = np.random.default_rng(0)
    label, group, chance = rng.integers(0, 2, rows), rng.integers(0, 150, rows), rng.random(rows)
    found, files = [], {}
    for name, level in levels.items():
        for seed in range(1, SEEDS + 1):
            score = (level * label + 0.6 * chance + 0.002 * rng.random(rows)).astype(np.float32)
            path = folder / f"{name}-{seed}.parquet"
            digest = write_scores(path, label, score, group if grouped else None)
            value = auc(torch.from_numpy(score), torch.from_numpy(label))
            metrics = {"test.auc": value, "test.auc_low": value - 0.1, "test.auc_high": value + 0.1}
            found.append(row(name, 0, seed, metrics=metrics, scores_digest=digest))
            files[digest] = path
    return found, files


LEVELS = {"best": 0.30, "same": 0.30, "middle": 0.27, "last": 0.20}


def test_paired_tests_tell_apart_what_single_intervals_do_not(tmp_path):
    rows, files = made(tmp_path, LEVELS)
    blind = rank(rows)
    assert {entry.rank for entry in blind.entries} == {1}
    assert blind.tie_rules == ("intervals, unpaired (test scores are not at hand), and seeds",)
    ranking = rank(rows, bank=Bank(scores=files))
    assert {e.label: (e.rank, e.tied) for e in ranking.entries} == {
        "best": (1, True), "same": (1, True), "middle": (3, False), "last": (4, False)}
    assert ranking.tie_rules == ("paired bootstrap over users, and seeds",)


def test_a_test_of_two_entries_is_the_paired_test_of_their_scores(tmp_path):
    rows, files = made(tmp_path, {"best": 0.30, "middle": 0.27})
    sets = [read_scores(files[r.scores_digest]) for r in rows]
    one, other = rows[:SEEDS], rows[SEEDS:]
    found, rule = pair_test(one, other, "test.auc", Bank(scores=files))
    score = torch.stack([s.score for s in sets])
    expected = paired_test(score[:SEEDS], score[SEEDS:], sets[0].label, sets[0].group, replicates=200)["auc"]
    assert found == pytest.approx(expected, rel=1e-9)
    assert rule == "paired bootstrap over users, and seeds"
    valid = [r.model_copy(update={"metrics": {**r.metrics, "valid.auc": 0.5}}) for r in rows]
    found, rule = pair_test(valid[:SEEDS], valid[SEEDS:], "valid.auc", Bank(scores=files))
    assert (found.p, rule) == (1, NOT_TESTED)


def test_nothing_is_resampled_where_a_side_is_missing(tmp_path):
    rows, files = made(tmp_path, {"best": 0.30, "middle": 0.27})
    some = dict(list(files.items())[: SEEDS + 1])  # one seed of the other side
    told = []
    bank = Bank(scores=some, say=told.append)
    assert bank.variance("auc", rows[:SEEDS], rows[SEEDS:]) is None
    assert (bank.made, told) == (0, [])
    whole = Bank(scores=files, say=told.append)
    assert whole.variance("auc", rows[:SEEDS], rows[SEEDS:]) is not None
    assert (whole.made, len(told)) == (2 * SEEDS, 1)


def test_draws_beside_the_rows_outlive_the_scores(tmp_path):
    rows, files = made(tmp_path, LEVELS, grouped=False)
    expected = rank(rows, bank=Bank(scores=files))
    file = tmp_path / "results" / "rows.jsonl"
    for digest, path in files.items():
        write_draws(kept_at(file, digest), draws_of(read_scores(path, digest)))
        path.unlink()
    kept = rank(rows, bank=Bank([file], files))
    assert [(e.label, e.rank) for e in kept.entries] == [(e.label, e.rank) for e in expected.entries]
    assert kept.tie_rules == ("paired bootstrap over rows, and seeds",)


def test_draws_of_different_number_pair_as_far_as_both_go(tmp_path):
    rows, files = made(tmp_path, {"best": 0.30, "middle": 0.27})
    file = tmp_path / "rows.jsonl"
    for number, digest in enumerate(files):
        write_draws(kept_at(file, digest), draws_of(read_scores(files[digest]), 40 if number < SEEDS else 60))
    found, _ = Bank([file]).variance("auc", rows[:SEEDS], rows[SEEDS:])
    sets = [read_scores(path) for path in files.values()]
    draws = torch.stack([resample(s.score, s.label, s.group, 40)["auc"] for s in sets])
    assert found == pytest.approx((draws[:SEEDS].mean(0) - draws[SEEDS:].mean(0)).var().item(), rel=1e-9)


def test_draws_come_back_exactly_and_damage_is_one_sentence(tmp_path):
    _, files = made(tmp_path, {"best": 0.3}, rows=300)
    draws = draws_of(read_scores(next(iter(files.values()))), 20)
    path = tmp_path / "d.safetensors"
    write_draws(path, draws)
    back = read_draws(path)
    assert back.test_rows == draws.test_rows
    assert back.unit == "users"
    assert all(torch.equal(back.metrics[name], values) for name, values in draws.metrics.items())
    data = path.read_bytes()
    for broken in (data[: len(data) // 2], b"", b"{}", data.replace(b"test_rows", b"last_rows")):
        path.write_bytes(broken)
        with pytest.raises(InputError, match=r"d.safetensors: not the resampled metrics"):
            read_draws(path)


def test_scores_of_other_test_rows_are_refused(tmp_path):
    rng = np.random.default_rng(1)
    label, score = rng.integers(0, 2, 50), rng.random(50).astype(np.float32)
    labels = {"a": label, "b": 1 - label}
    files = {write_scores(tmp_path / name, y, score): tmp_path / name for name, y in labels.items()}
    rows = [row(path.name, 0.7, scores_digest=digest) for digest, path in files.items()]
    with pytest.raises(InputError, match="not of the same test rows"):
        rank(rows, bank=Bank(scores=files))


def spread(name, values, width):
    """Rows of three seeds with intervals of that half width."""
    return [row(name, 0, seed, metrics={"test.auc": v, "test.auc_low": v - width, "test.auc_high": v + width})
            for seed, v in enumerate(values, start=1)]


def test_a_model_of_widely_spread_seeds_is_tied_with_both_sides():
    """Ranks count the models that are surely better: they need not follow the means."""
    rows = [*spread("a", (0.90, 0.9001, 0.9002), 1e-3), *spread("c", (0.88, 0.8801, 0.8802), 1e-3),
            *spread("b", (0.87, 0.89, 0.91), 1e-3)]
    ranking = rank(rows)
    assert {e.label: e.rank for e in ranking.entries} == {"a": 1, "b": 1, "c": 2}
    lower = [r.model_copy(update={"metrics": {k.replace("auc", "logloss"): v for k, v in r.metrics.items()}})
             for r in rows]
    assert {e.label: e.rank for e in rank(lower, "test.logloss").entries} == {"a": 2, "b": 1, "c": 1}


def test_what_draws_nothing_has_no_spread_of_seeds():
    """A single seed borrows the spread of others, unless its model draws nothing."""
    wide = spread("wide", (0.80, 0.86, 0.92), 1e-3)
    for seeded, ranks in ((True, {1}), (False, {1, 2})):
        fixed = [row(name, auc, seeded=seeded, metrics={
            "test.auc": auc, "test.auc_low": auc - 0.001, "test.auc_high": auc + 0.001})
            for name, auc in (("a", 0.87), ("b", 0.85))]
        found = {e.label: e.rank for e in rank([*wide, *fixed]).entries}
        assert {found["a"], found["b"]} == ranks
        assert found["wide"] == 1
    several = [one.model_copy(update={"seed": seed}) for one in fixed for seed in (1, 2, 3)]
    alone = spread_of_seeds([wide], "test.auc")
    assert spread_of_seeds([wide, several[:3], several[3:]], "test.auc") == alone


def test_seeds_alone_say_nothing_about_other_users():
    """Without draws and intervals nothing is called better, however steady the seeds are."""
    rows = [row(name, 0, seed, metrics={"test.auc": auc + seed * 1e-5})
            for name, auc in (("a", 0.90), ("b", 0.80)) for seed in (1, 2, 3)]
    ranking = rank(rows)
    assert [(e.label, e.rank, e.tied) for e in ranking.entries] == [("a", 1, True), ("b", 1, True)]
    assert ranking.tie_rules == (NOT_TESTED,)
