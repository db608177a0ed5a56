"""K-wise skills: the closed form by hand, its symmetries, and planted skills found again."""

from __future__ import annotations

import itertools
import random
import re
import statistics
from dataclasses import replace

import pytest
from scipy.stats import kendalltau
from typer.testing import CliRunner

from recsys_zoo.board.rank import rank
from recsys_zoo.board.rows import append_row
from recsys_zoo.board.skill import BETA, MU, SIGMA, Skill, skills, standings, update
from recsys_zoo.cli import app

from .toys import row


def test_two_equals_by_hand():
    # Weng and Lin's closed form without draws: mu 25 +- 4.2052, sigma^2 shrunk by (sigma / c)^3 W
    winner, loser = update([Skill(), Skill()], [1, 2], draw=0)
    assert (winner.mu, loser.mu) == pytest.approx((29.2052, 20.7948), abs=1e-4)
    assert winner.sigma == loser.sigma == pytest.approx(7.63284, abs=1e-5)


def test_four_equals_with_all_pairs_by_hand():
    found = update([Skill()] * 4, [1, 2, 3, 4], mode="full", draw=0)
    assert [s.mu for s in found] == pytest.approx([37.6157, 29.2052, 20.7948, 12.3843], abs=1e-4)
    assert all(s.sigma == pytest.approx(5.99096, abs=1e-5) for s in found)
    near = update([Skill()] * 4, [1, 2, 3, 4], draw=0)  # neighbours alone: the inner ones stay
    assert [s.mu for s in near] == pytest.approx([29.2052, 25, 25, 20.7948], abs=1e-4)


@pytest.mark.parametrize("mode", ["adjacent", "full"])
def test_symmetries(mode):
    start, ranks = [Skill(20, 3), Skill(30, 2), Skill(26, 5), Skill(25, 3)], [2, 1, 2, 4]
    found = update(start, ranks, mode)
    assert all(new.sigma <= old.sigma for new, old in zip(found, start, strict=True))
    if mode == "full":  # neighbours of equal rank depend on the order in which they are given
        for order in itertools.permutations(range(4)):
            moved = update([start[i] for i in order], [ranks[i] for i in order], mode)
            for i, new in zip(order, moved, strict=True):
                assert new == pytest.approx(found[i])
    level = update([Skill(m, 4) for m in (20, 30, 26)], [3, 1, 2], mode)
    assert sum(s.mu for s in level) == pytest.approx(76)  # conserved at equal sigmas
    tied = update([Skill(), Skill()], [1, 1], mode)
    assert [s.mu for s in tied] == pytest.approx([MU, MU])
    assert tied[0].sigma < SIGMA


def test_an_upset_moves_more_than_a_win_that_was_expected():
    strong, weak = Skill(30, 3), Skill(20, 3)
    expected = update([strong, weak], [1, 2])[0].mu - strong.mu
    upset = update([strong, weak], [2, 1])[1].mu - weak.mu
    tie = update([strong, weak], [1, 1])[1].mu - weak.mu
    assert upset > tie > 0
    assert upset > expected > 0
    extreme = update([Skill(500, 0.1), Skill(-500, 0.1)], [2, 1])
    assert all(s.mu == s.mu and s.sigma > 0 for s in extreme)
    assert all(s.mu == s.mu for s in update([Skill(500, 0.1), Skill(-500, 0.1)], [1, 1]))


def test_planted_skills_are_found_again():
    """100 four-wise outcomes among ten models of known skill, 10 draws: mean rank correlation."""
    taus = []
    for seed in range(10):
        rng = random.Random(seed)
        truth = {f"m{i}": rng.gauss(MU, SIGMA) for i in range(10)}
        outcomes = []
        for _ in range(100):
            among = rng.sample(sorted(truth), 4)
            shown = sorted(among, key=lambda name: -rng.gauss(truth[name], BETA))
            outcomes.append({name: place for place, name in enumerate(shown, 1)})
        found = skills(outcomes, orders=3, seed=seed)
        assert found == skills(outcomes, orders=3, seed=seed)
        taus.append(kendalltau([truth[n] for n in sorted(truth)], [found[n].score for n in sorted(truth)])[0])
    assert statistics.fmean(taus) >= 0.85


def boards(count, **changes):
    levels = {"lr": 0.90, "fm": 0.92, "dnn": 0.95}
    return [rank([row(name, level + seed * 1e-5, seed, data_digest=f"{number:064d}",
                      metrics={"test.auc": level + seed * 1e-5, "test.auc_low": level - 0.001,
                               "test.auc_high": level + 0.001}, **changes)
                  for name, level in levels.items() for seed in (1, 2, 3)]) for number in range(count)]


FAMILIES = {"lr": "ctr", "fm": "ctr", "dnn": "ctr", "bpr": "retrieval"}


def test_standings_need_five_data_sets_of_one_family():
    (key, found), = standings(boards(5), FAMILIES).items()
    assert key == ("ctr", "inherited")
    assert [(s.label, s.boards) for s in found] == [("dnn", 5), ("fm", 5), ("lr", 5)]
    assert found[0].skill.score > found[1].skill.score > found[2].skill.score
    assert standings(boards(4), FAMILIES) == {}
    assert standings([*boards(4), *boards(4)], FAMILIES) == {}  # a data set counts once
    tuned, on_test = {"hparams": "valid", "trials": 3}, {"selection": "test"}
    for other in (tuned, on_test):  # settled in another way
        assert standings([*boards(4), *boards(5, **other)[4:]], FAMILIES) == {}
    assert standings([*boards(5), *boards(6, **on_test)[5:]], FAMILIES) == standings(boards(5), FAMILIES)


def test_what_is_no_evidence_changes_no_standing():
    more = boards(6)
    only = more[5].entries[0]
    once = replace(more[5], entries=(*more[5].entries, replace(only, rows=tuple(
        r.model_copy(update={"model": "bpr"}) for r in only.rows))))
    apart = standings([*more[:5], once], FAMILIES)
    assert {s.label for s in apart["ctr", "inherited"]} == {"dnn", "fm", "lr"}
    # several settings of one model: the better one on test must not stand for it
    twice = replace(more[5], entries=(*more[5].entries, replace(only, rank=9)))
    (found,) = standings([*more[:5], twice], FAMILIES).values()
    assert {s.label: s.boards for s in found} == {"dnn": 5, "fm": 6, "lr": 6}


def test_wins_that_nobody_expected_stay_finite():
    for gap in (20, 60, 200, 5000):
        winner, loser = update([Skill(0, 1), Skill(gap, 1)], [1, 2])
        assert 0 < winner.mu < loser.mu < gap
        assert 0 < winner.sigma < 1


def test_from_the_command_line(tmp_path):
    file = tmp_path / "rows.jsonl"
    for number in range(5):
        for model, level in (("lr", 0.90), ("fm", 0.92)):
            append_row(file, row(model, level, board=f"b{number}", data_digest=f"{number:064d}"))
        if number == 3:
            few = CliRunner().invoke(app, ["board", "skill", str(file)])
            assert "these files have fewer" in str(few.exception)
    shown = CliRunner().invoke(app, ["board", "skill", str(file)]).output
    assert shown.startswith("ctr, settings inherited: skill over data sets")
    assert [line.split()[1] for line in shown.splitlines()[1:]] == ["fm", "lr"]
    assert shown.count("5 data sets") == 2
    page = tmp_path / "board.html"
    assert CliRunner().invoke(app, ["board", "page", str(file), "--out", str(page)]).exit_code == 0
    text = page.read_text()
    assert "Overall: ctr, settings inherited" in text
    order = re.findall(r'<td class="left name">(\w+)</td><td>[-\d.]+</td>', text)
    assert order == ["fm", "lr"]
