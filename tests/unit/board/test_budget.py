"""Expected best of n trials against enumeration and by hand; best so far; the picture."""

from __future__ import annotations

import itertools
import math
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_zoo.board.budget import Curve, Epochs, expected_best, picture
from recsys_zoo.errors import InputError

NAN = math.nan
SVG = "{http://www.w3.org/2000/svg}"
VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=4)


def test_by_hand():
    """Of two trials drawn from {1, 3}: 1, 3, 3, 3 are the best of the four pairs."""
    assert expected_best([3.0, 1.0]) == [2.0, 2.5]
    assert expected_best([3.0, 1.0], lower_is_better=True) == [2.0, 1.5]
    assert expected_best([0.7]) == [0.7]
    assert expected_best([]) == []


@given(VALUES, st.booleans())
def test_against_all_draws(values, lower):
    """The mean over all N^n ordered draws with replacement."""
    pick = min if lower else max
    for n, found in enumerate(expected_best(values, lower), start=1):
        draws = list(itertools.product(values, repeat=n))
        assert found == pytest.approx(math.fsum(pick(draw) for draw in draws) / len(draws), abs=1e-12)


@given(VALUES)
def test_more_trials_are_never_worse_and_never_pass_the_best(values):
    found = expected_best(values)
    assert all(a <= b + 1e-12 for a, b in itertools.pairwise(found))
    assert found[-1] <= max(values) + 1e-12
    assert found[0] == pytest.approx(math.fsum(values) / len(values))


def test_a_trial_that_came_to_nothing_counts_as_the_worst():
    assert expected_best([0.5, NAN, 0.9]) == expected_best([0.5, 0.5, 0.9])
    assert expected_best([0.5, NAN, 0.9], True) == expected_best([0.5, 0.9, 0.9], True)
    assert expected_best([NAN, NAN]) == []


def test_random_trials_are_expected_and_others_stay_in_their_order():
    drawn = Curve("lr", [0.8, 0.6, 0.7], "auc", "random")
    assert drawn.points() == [(1, pytest.approx(0.65)), (2, pytest.approx(0.675))]
    assert drawn.own == 0.8
    assert drawn.kind == "expected best"
    led = Curve("lr", [NAN, 0.6, 0.5, 0.7], "auc", "tpe")
    assert led.points() == [(1, 0.6), (2, 0.6), (3, 0.7)]
    assert math.isnan(led.own)
    assert led.kind == "tpe, best so far"
    assert Curve("lr", [0.6, 0.7, 0.5], "logloss", "tpe", True).points() == [(0, 0.6), (1, 0.6), (2, 0.5)]


def test_every_curve_has_a_label_a_line_pattern_and_a_place_of_its_own():
    curves = [Curve(f"m{k} <&>", [0.8 + 1e-5 * k, 0.81 + 1e-5 * k], "auc", "tpe") for k in range(20)]
    root = ElementTree.fromstring(picture(curves, "a <board>"))
    assert root.get("role") == "img"
    assert root.get("aria-label") == "a <board>"
    lines = root.findall(f"{SVG}polyline")
    assert len({(line.get("stroke"), line.get("stroke-dasharray")) for line in lines}) == 20
    labels = [text for text in root.findall(f"{SVG}text") if (text.text or "").startswith("m")]
    assert [text.text.split(" <&>")[0] for text in labels] == [f"m{k}" for k in range(20)]
    heights = sorted(float(text.get("y")) for text in labels)
    assert all(b - a >= 14.9 for a, b in itertools.pairwise(heights))
    assert heights[0] > 0
    assert heights[-1] < float(root.get("height"))


def test_better_is_higher_in_the_picture():
    root = ElementTree.fromstring(picture([Curve("lr", [0.6, 0.7, 0.9], "auc", "tpe")], "t"))
    (line,) = root.findall(f"{SVG}polyline")
    heights = [float(point.split(",")[1]) for point in line.get("points").split()]
    assert heights == sorted(heights, reverse=True)
    assert heights[0] > heights[-1]


def test_what_cannot_be_drawn_is_said():
    with pytest.raises(InputError, match="no curve to draw"):
        picture([Curve("lr", [NAN], "auc", "tpe")], "t")
    with pytest.raises(InputError, match=r"\['auc', 'gauc'\] cannot stand in one picture"):
        picture([Curve("lr", [0.5], m, "tpe") for m in ("auc", "gauc")], "t")


def test_a_training_is_drawn_epoch_by_epoch():
    curve = Epochs("lightgcn", [0.1, 0.3, 0.2], "recall@20", "")
    assert curve.points() == [(1, 0.1), (2, 0.3), (3, 0.2)]
    text = picture([curve], "t", "epochs", "test")
    for words in (">test recall@20<", ">epochs<", "0.20000 (3 epochs)"):
        assert words in text
    some = Epochs("log", [0.1, 0.3], "recall@20", "", at=(20, 40))
    assert some.points() == [(20, 0.1), (40, 0.3)]
    assert "0.30000 (40 epochs)" in picture([some], "t", "epochs", "test")
    rising = [0.2 + i / 1000 for i in range(20)]
    low = [Epochs("flat", [0.01] * 3, "recall@20", ""), Epochs("high", rising, "recall@20", "")]
    assert "cut off" not in picture(low, "t", "epochs", "test")  # as of trials it would be
    assert "cut off" in picture([Curve(c.label, [*c.values][::-1], c.metric, "tpe") for c in low[::-1]], "t")
