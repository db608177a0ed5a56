"""Rankings: what counts, what is refused, when a difference is a tie."""

from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np
import pytest
import torch

from recsys_zoo.board.rank import Quoted, by_board, rank, read_quoted, worded_metric
from recsys_zoo.board.scores import write_scores
from recsys_zoo.errors import InputError
from recsys_zoo.metrics.binary import auc

from .toys import board, reference, row

PUBLISHED = Path(__file__).parents[3] / "benchmarks" / "published"
MODELS = Path(__file__).parents[3] / "recsys_zoo" / "models" / "ctr"


def places(ranking):
    return [(entry.rank, entry.label) for entry in ranking.entries]


def test_seeds_are_joined_to_mean_and_deviation():
    values = [0.81, 0.84, 0.80]
    ranking = rank([row("fm", value, seed) for seed, value in enumerate(values, start=1)])
    entry, = ranking.entries
    assert entry.mean() == pytest.approx(statistics.fmean(values), abs=1e-15)
    assert entry.std() == pytest.approx(np.std(values, ddof=1), abs=1e-15)
    assert [r.seed for r in entry.rows] == [1, 2, 3]
    assert entry.interval() == pytest.approx((entry.mean() - 0.002, entry.mean() + 0.002))
    assert ranking.data_digest == "d" * 64
    assert np.isnan(rank([row("fm", 0.8)]).entries[0].std())


def test_the_best_comes_first_and_lower_logloss_is_better():
    rows = [row("lr", 0.8), row("dnn", 0.9), row("fm", 0.85)]
    assert places(rank(rows)) == [(1, "dnn"), (2, "fm"), (3, "lr")]
    worse = [row("lr", 0.8, metrics={"test.logloss": 0.3}), row("dnn", 0.9, metrics={"test.logloss": 0.5})]
    assert places(rank(worse, "test.logloss")) == [(1, "lr"), (2, "dnn")]


def test_dead_runs_are_counted_but_never_averaged():
    ranking = rank(board())
    plus = next(entry for entry in ranking.entries if entry.label == "autoint.plus")
    assert len(plus.rows) == 5
    assert len(plus.lost) == 1
    assert plus.mean() == pytest.approx(0.98475)
    assert [(r.label, r.seed, why) for r, why in ranking.unranked] == [
        ("autoint.plus", 6, "dead: the scores are constant (AUC 0.5)")]


@pytest.mark.parametrize(("changes", "reason"), [
    ({"git": ""}, "no commit"),
    ({"data_digest": ""}, "no data digest"),
    ({"config_digest": ""}, "no config digest"),
    ({"config_digest": "0" * 64}, "its settings are not those of its settings digest"),
    ({"status": "failed", "reason": "killed"}, "failed: killed"),
    ({"metrics": {"valid.auc": 0.9}}, "no test.auc"),
    ({"metrics": {"test.auc": float("nan")}}, "test.auc is nan"),
])
def test_a_row_that_cannot_be_trusted_is_not_ranked(changes, reason):
    ranking = rank([row("lr", 0.8), row("fm", 0.99, **changes)])
    assert places(ranking) == [(1, "lr")]
    assert [why for _, why in ranking.unranked] == [reason]
    if "metrics" not in changes:
        with pytest.raises(InputError, match=f"no row can be ranked: {reason}"):
            rank([row("fm", 0.99, **changes)])


@pytest.mark.parametrize(("changes", "what"), [
    ({"data_digest": "e" * 64}, "data digest"), ({"protocol": "sampled"}, "protocol"),
    ({"board": "other"}, "board")])
def test_rows_that_cannot_be_compared_are_refused(changes, what):
    with pytest.raises(InputError, match=f"different {what} cannot be ranked together"):
        rank([row("lr", 0.8), row("fm", 0.9, **changes)])
    # a row that does not count does not stand in the way
    assert places(rank([row("lr", 0.8), row("fm", 0.9, status="dead", **changes)])) == [(1, "lr")]


def test_boards_are_told_apart():
    rows = [row("lr", 0.8), row("lr", 0.7, board="b"), row("fm", 0.9)]
    assert {name: [r.model for r in part] for name, part in by_board(rows).items()} == {
        "toy_x1": ["lr", "fm"], "b": ["lr"]}


def test_an_unknown_metric_is_named_with_its_neighbours():
    with pytest.raises(InputError, match=r"no metric named 'test.acu'; did you mean .*test.auc"):
        rank([row("lr", 0.8)], "test.acu")
    assert [worded_metric(m) for m in ("test.auc", "valid.logloss", "test.auc_unseen_pairs")] == [
        "test AUC", "valid logloss", "test AUC on unseen pairs"]


def test_a_repeated_seed_counts_once_with_its_last_row():
    entry, = rank([row("lr", 0.8, 1), row("lr", 0.9, 2), row("lr", 0.7, 1)]).entries
    assert entry.values() == [0.7, 0.9]


def test_other_settings_are_another_entry():
    other = {"model": {"name": "lr"}, "train": {"seed": 1, "lr": 0.5}}
    ranking = rank([row("lr", 0.8), row("lr", 0.9, config=other)])
    first, second = ranking.entries
    assert first.label == f"lr [{first.rows[0].config_digest[:6]}]"
    assert second.label == f"lr [{second.rows[0].config_digest[:6]}]"
    assert first.label != second.label


def test_references_stand_apart():
    ranking = rank([*board(), reference("bayes_optimal", 0.99, "ceiling")])
    assert [(e.role, e.label) for e in ranking.references] == [
        ("ceiling", "bayes_optimal"), ("floor", "pair_memory"), ("floor", "column_rates"),
        ("floor", "base_rate")]
    assert all(entry.role == "model" for entry in ranking.entries)
    namesake = rank([row("lr", 0.8, 1), reference("lr", 0.5)])
    assert [e.mean() for e in namesake.entries] == [0.8]
    assert [e.mean() for e in namesake.references] == [0.5]


def test_differences_below_the_interval_are_ties_with_the_best_of_the_rank():
    # half width .002: b ties with a; c is within .002 of b but not of a, so it opens a rank; d ties with c
    values = {"a": 0.9000, "b": 0.8985, "c": 0.8975, "d": 0.8960}
    ranking = rank([row(name, value) for name, value in values.items()])
    assert [(e.rank, e.label, e.tied) for e in ranking.entries] == [
        (1, "a", True), (1, "b", True), (3, "c", True), (3, "d", True)]
    assert ranking.tie_rules == ("difference below half the width of the 95 % interval",)
    bare = [row(name, value, metrics={"test.auc": value}) for name, value in values.items()]
    assert [e.rank for e in rank(bare).entries] == [1, 2, 3, 4]


def scored(folder, name, score, label, group=None):
    """A row with its file of scores and an interval that hides any small difference."""
    digest = write_scores(folder / f"{name}.parquet", label, score, group)
    metrics = {"test.auc": auc(torch.from_numpy(score), torch.from_numpy(label)), "test.auc_low": 0.6,
               "test.auc_high": 0.9}
    return row(name, 0, metrics=metrics, scores_digest=digest), {digest: folder / f"{name}.parquet"}


def test_paired_scores_decide_where_they_are_at_hand(tmp_path):
    rng = np.random.default_rng(0)
    label, group, chance = rng.integers(0, 2, 2000), rng.integers(0, 100, 2000), rng.random(2000)
    scores = {"good": 0.25 * label + 0.7 * chance, "worse": 0.24 * label + 0.7 * chance,
              "same": 0.25 * label + 0.7 * chance + 0.002 * rng.random(2000)}
    made = [scored(tmp_path, name, score.astype(np.float32), label, group) for name, score in scores.items()]
    rows, files = [one for one, _ in made], {k: v for _, file in made for k, v in file.items()}
    assert {e.rank for e in rank(rows).entries} == {1}  # the single intervals cannot tell them apart
    paired = rank(rows, scores=files)
    assert {e.label: (e.rank, e.tied) for e in paired.entries} == {
        "good": (1, True), "same": (1, True), "worse": (3, False)}
    assert "paired bootstrap over users" in paired.tie_rules[0]
    some = dict(list(files.items())[:2])
    assert {e.rank for e in rank(rows, scores=some).entries if e.label == "same"} == {1}  # falls back


def test_scores_of_other_rows_are_refused(tmp_path):
    rng = np.random.default_rng(1)
    label, score = rng.integers(0, 2, 50), rng.random(50).astype(np.float32)
    one, file = scored(tmp_path, "a", score, label)
    other, second = scored(tmp_path, "b", score, 1 - label)
    with pytest.raises(InputError, match="not of the other models' test rows"):
        rank([one, other], scores=file | second)


def test_quoted_numbers_go_to_the_model_with_these_presets():
    quoted = [Quoted("autoint", "board", {"auc": 0.98}, "x", ""),
              Quoted("autoint.plus", "board", {"auc": 0.99}, "y", ""),
              Quoted("autoint", "paper", {"auc": 0.84}, "z", "")]
    found = {e.label: e.quoted for e in rank([row(name, 0.9) for name in (
        "autoint", "autoint.fuxi", "autoint.fuxi.plus", "fm")], quoted=quoted).entries}
    assert found["autoint"]["board"].source == "x"
    assert found["autoint.fuxi"]["board"].source == "x"
    assert found["autoint.fuxi.plus"]["board"].source == "y"
    assert found["autoint.fuxi.plus"]["paper"].source == "z"
    assert found["fm"] == {}
    assert all("test.auc" in e.rows[0].metrics and e.mean() == 0.9 for e in rank(
        [row("autoint", 0.9)], quoted=quoted).entries)  # never mixed into ours


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("*.csv")), ids=lambda p: p.stem)
def test_published_tables_name_models_of_the_zoo_with_a_source(path):
    quoted = read_quoted(path)
    assert quoted
    for q in quoted:
        assert (MODELS / f"{q.model.split('.')[0]}.py").is_file()
        assert q.metrics
        assert all(0 < value < 1 for value in q.metrics.values())
        assert q.source


def test_a_quoted_table_without_source_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("model,kind,auc,source,note\nlr,board,0.9,,\n")
    with pytest.raises(InputError, match=r"t.csv, line 2: .*a source is needed"):
        read_quoted(tmp_path / "t.csv")
