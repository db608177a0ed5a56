"""Rows of different keys are never ranked together."""

from __future__ import annotations

import itertools

import pytest

from recsys_zoo import runs
from recsys_zoo.board.key import CTR, PROTOCOLS, by_key, key_of
from recsys_zoo.board.rank import rank
from recsys_zoo.data.spec import SplitSpec
from recsys_zoo.errors import InputError

from .toys import board, reference, row

OTHERS = [({"board": "other"}, "board"), ({"protocol": "sampled"}, "protocol"),
          ({"data_digest": "e" * 64}, "data digest"),
          ({"config": {"model": {"name": "fm"}, "label": "like", "train": {"seed": 1}}}, "label"),
          ({"selection": "test"}, "epoch selection"),
          ({"hparams": "valid", "trials": 16}, "origin of the settings")]


@pytest.mark.parametrize(("changes", "what"), OTHERS)
def test_rows_that_cannot_be_compared_are_refused(changes, what):
    with pytest.raises(InputError, match=f"different {what} cannot be ranked together"):
        rank([row("lr", 0.8), row("fm", 0.9, **changes)])
    # a row that does not count does not stand in the way
    ranking = rank([row("lr", 0.8), row("fm", 0.9, status="dead", **changes)])
    assert [entry.label for entry in ranking.entries] == ["lr"]


def test_every_two_keys_make_two_rankings():
    kinds = [{}, *(changes for changes, _ in OTHERS), {"hparams": "valid", "trials": 4}]
    for one, other in itertools.combinations(kinds, 2):
        parts = by_key([row("lr", 0.8, **one), row("fm", 0.9, **other), row("dnn", 0.7, **one)])
        assert [[r.model for r in members] for members in parts.values()] == [["lr", "dnn"], ["fm"]]
        assert all(len(rank(members).entries) == len(members) for members in parts.values())


def test_inherited_and_default_settings_stand_together_and_budgets_do_not():
    assert key_of(row("lr", 0.8)) == key_of(row("fm", 0.9, hparams="default"))
    budgets = {"lr": 16, "fm": 16, "dnn": 160}
    tuned = by_key(row(name, 0.8, hparams="valid", trials=trials) for name, trials in budgets.items())
    assert [key.origin for key in tuned] == ["tuned on valid, 16 trials", "tuned on valid, 160 trials"]


def test_a_budget_of_minutes_is_one_whatever_the_trials():
    tried = {"lr": (16, 0.0), "fm": (16, 30.0), "dnn": (4, 30.0), "dcn": (4, 60.0)}
    found = by_key(row(name, 0.8, hparams="valid", trials=trials, minutes=minutes)
                   for name, (trials, minutes) in tried.items())
    assert {key.hparams: len(members) for key, members in found.items()} == {
        "valid, 16 trials": 1, "valid, 30 minutes": 2, "valid, 60 minutes": 1}


def test_what_another_metric_chose_stands_apart():
    """Twenty trials by AUC and twenty by logloss, ranked together, would show the best of forty."""
    tuned = [row(name, 0.8, hparams="valid", trials=20, config={"train": {"monitor": monitor}})
             for name, monitor in (("lr", "auc"), ("fm", "auc"), ("fm", "logloss"))]
    found = by_key(tuned)
    assert {key.origin: len(members) for key, members in found.items()} == {
        "tuned on valid, 20 trials by auc": 2, "tuned on valid, 20 trials by logloss": 1}
    with pytest.raises(InputError, match="different origin of the settings"):
        rank(tuned)


def test_references_stand_beside_all_models_of_their_data():
    parts = by_key([reference("base_rate", 0.5), *board(),
                    row("deepfm", 0.9, hparams="valid"), row("fm", 0.9, data_digest="e" * 64)])
    floors = [[r.model for r in members if r.role == "floor"] for members in parts.values()]
    assert floors == [["base_rate", "base_rate", "column_rates", "pair_memory"]] * 2 + [[]]
    assert list(by_key([reference("base_rate", 0.5)]).values()) == [[reference("base_rate", 0.5)]]


def test_failed_rows_are_reported_where_their_data_have_a_ranking():
    failed = row("dnn", 0.5, hparams="valid", trials=3, status="failed", reason="memory")
    (members,) = by_key([failed, row("lr", 0.8)]).values()
    assert [why for _, why in rank(members).unranked] == ["failed: memory"]
    (alone,) = by_key([failed]).values()
    with pytest.raises(InputError, match="no row can be ranked: failed: memory"):
        rank(alone)


def test_a_key_says_in_words_all_that_rows_share():
    key = key_of(row("lr", 0.8, protocol=CTR, split="given files", config={"label": "like"}))
    words = dict(key.words)
    assert words["split"] == "given files"
    assert words["label"] == "like"
    assert words["settings"] == "inherited or default settings"
    assert {words[name] for name in ("learns from", "seen rows", "scored", "equal scores", "metrics")} == set(
        PROTOCOLS[CTR])
    picked = key_of(row("lr", 0.8, selection="test", protocol="mine"))
    assert picked.origin.endswith("epoch picked on test: without ranks")
    assert "metrics" not in dict(picked.words)
    assert runs.CTR in PROTOCOLS


@pytest.mark.parametrize(("rule", "words"), [
    ({"method": "files"}, "given files"), ({"method": "column", "column": "fold"}, "as the column fold says"),
    ({"method": "time", "column": "day", "cuts": {"valid": 8, "test": 9}},
     "by time (day): valid from 8.0, test from 9.0"),
    ({"method": "hash", "keys": ["user", "item"], "salt": "x"},
     "hash of user, item (salt 'x'): train 0.8, valid 0.1, test 0.1"),
    ({"method": "user", "user": "uid"}, "last rows of each uid by file order: valid 1, test 1")])
def test_the_rule_of_a_split_in_words(rule, words):
    assert SplitSpec.model_validate(rule).words == words
