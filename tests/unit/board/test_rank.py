"""Rankings: what counts, what is refused, when a difference is a tie."""

from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recsys_zoo.board.key import RANKING
from recsys_zoo.board.rank import Quoted, rank, read_quoted, worded_metric
from recsys_zoo.errors import InputError

from .toys import board, reference, row

PUBLISHED = Path(__file__).parents[3] / "benchmarks" / "published"
MODELS = Path(__file__).parents[3] / "recsys_zoo" / "models"


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
    assert [entry.label for entry in rank(worse, "test.logloss").entries] == ["lr", "dnn"]


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


def test_what_was_picked_on_test_has_no_rank():
    rows = [row(name, auc, seed, selection="test")
            for name, auc in (("lr", 0.7), ("fm", 0.9)) for seed in (1, 2)]
    ranking = rank(rows)
    assert [(e.label, e.rank, e.tied) for e in ranking.entries] == [("fm", 0, False), ("lr", 0, False)]
    assert ranking.tie_rules == ()
    honest = [r.model_copy(update={"selection": "valid"}) for r in rows]
    assert [e.rank for e in rank(honest).entries] == [1, 2]


def test_references_stand_apart():
    ranking = rank([*board(), reference("bayes_optimal", 0.99, "ceiling")])
    assert [(e.role, e.label) for e in ranking.references] == [
        ("ceiling", "bayes_optimal"), ("floor", "pair_memory"), ("floor", "column_rates"),
        ("floor", "base_rate")]
    assert all(entry.role == "model" for entry in ranking.entries)
    namesake = rank([row("lr", 0.8, 1), reference("lr", 0.5)])
    assert [e.mean() for e in namesake.entries] == [0.8]
    assert [e.mean() for e in namesake.references] == [0.5]


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


def test_numbers_of_a_board_that_chose_on_test_are_no_measure_of_rows_that_did_not():
    quoted = [Quoted("mf", "board", {"recall@20": 0.2}, "x", "")]

    def notes(protocol: str, name: str) -> tuple[str, ...]:
        ours = row(name, 0.9, metrics={"test.recall@20": 0.1}, protocol=RANKING[protocol], note="a; b")
        return rank([ours], "test.recall@20", quoted).notes

    assert notes("published", "mf") == notes("honest", "cml") == ("a", "b")
    *own, added = notes("honest", "mf")
    assert own == ["a", "b"]
    assert added.startswith("the other board picked epochs and settings on test")


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("*.csv")), ids=lambda p: p.stem)
def test_published_tables_name_models_of_the_zoo_with_a_source(path):
    quoted = read_quoted(path)
    assert quoted
    for q in quoted:
        assert len([*MODELS.glob(f"*/{q.model.split('.')[0]}.py")]) == 1
        assert q.metrics
        assert all(0 < value < 1 for value in q.metrics.values())
        assert q.source


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("logs/*.csv")), ids=lambda p: p.stem)
def test_published_logs_end_at_what_their_board_prints(path):
    """Each epoch once, in order; the best is the quoted value (but for 0.0002 of UltraGCN on Gowalla)."""
    lines = pl.read_csv(path)
    assert (lines["source"].str.len_chars() > 0).all()
    for (model,), own in lines.group_by("model"):
        assert (own["epoch"].diff().drop_nulls() > 0).all()
        quoted = next(q for q in read_quoted(PUBLISHED / path.name) if q.model == model)
        assert own["recall@20"].max() == pytest.approx(quoted.metrics["recall@20"], abs=2e-4)


def test_a_quoted_table_without_source_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("model,kind,auc,source,note\nlr,board,0.9,,\n")
    with pytest.raises(InputError, match=r"t.csv, line 2: .*a source is needed"):
        read_quoted(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("model,kind,auc,source,note\nlr,board,0.9,x,a, b\n")
    with pytest.raises(InputError, match=r"t.csv, line 2: not the columns of the first line"):
        read_quoted(tmp_path / "t.csv")


def test_published_values_say_what_choosing_on_valid_would_have_given():
    """BARS prints the trial with the best test AUC; where it publishes all trials, both are known."""
    known = [q for path in PUBLISHED.glob("*.csv") for q in read_quoted(path) if not np.isnan(q.by_valid)]
    assert len(known) > 80
    gains = np.array([q.metrics["auc"] - q.by_valid for q in known])
    assert (gains > -0.001).all()  # rounded to 4 digits, and one is printed lower than in its log
    assert gains.mean() > 0
