"""Quality against cost: the front, the axes, labels without overlaps, what is said beside the pictures."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recsys_zoo.board.cost import BAND, PAGE, PLOT, front, log_ticks, pictures, quality_axis
from recsys_zoo.board.labels import RADIUS, Box, around, place_labels
from recsys_zoo.board.rank import rank

from .toys import board, reference, row

GRID = st.tuples(st.integers(1, 6).map(float), st.integers(1, 6).map(float))


def marks(svg: str) -> dict[int, tuple[float, float, str, bool]]:
    """Of each entry's mark: place, path, and whether it is on the front."""
    found = re.findall(r'<path class="marker( best)?" data-entry="(\d+)" '
                       r'transform="translate\(([\d.]+) ([\d.]+)\)" d="([^"]+)">', svg)
    return {int(n): (float(x), float(y), path, bool(best)) for best, n, x, y, path in found}


@given(st.lists(GRID, max_size=12))
@example([(1.0, 1.0), (1.0, 1.0), (2.0, 1.0), (2.0, 3.0)])
def test_the_front_holds_what_no_other_beats(points):
    def beaten(i: int) -> bool:
        return any(cost <= points[i][0] and quality >= points[i][1] and (cost, quality) != points[i]
                   for cost, quality in points)
    found = front(points)
    assert sorted(found) == [i for i in range(len(points)) if not beaten(i)]
    assert [points[i] for i in found] == sorted(points[i] for i in found)


@given(st.lists(st.tuples(st.floats(0, 960), st.floats(0, 470), st.integers(1, 24)), max_size=45))
def test_labels_overlap_neither_each_other_nor_points_nor_the_frame(found):
    points, texts = [(x, y) for x, y, _ in found], ["m" * length for _, _, length in found]
    taken = [Box(100, 100, 300, 130)]
    boxes = [box for box in place_labels(points, texts, PAGE, taken) if box]
    others = [*taken, *(around(x, y, RADIUS) for x, y in points)]
    for number, box in enumerate(boxes):
        assert box.inside(PAGE)
        assert not any(box.overlaps(other) for other in [*others, *boxes[:number]])


def test_a_lone_label_stands_at_the_right_and_two_share_the_room():
    (box,) = place_labels([(100, 100)], ["fm"], PAGE)
    assert (box.left > 100, (box.top + box.bottom) / 2) == (True, 100)
    right = place_labels([(950, 100)], ["fm"], PAGE)[0]
    assert right.right < 950
    assert all(place_labels([(100, 100), (101, 100), (102, 100)], ["fm", "lr", "dnn"], PAGE))
    assert place_labels([(100, 100)], ["m" * 200], PAGE) == [None]


@pytest.mark.parametrize(("low", "high", "ticks"), [
    (9.0, 210.0, [10, 20, 50, 100, 200]), (5e3, 8e6, [1e4, 1e5, 1e6]), (0.1, 0.6, [0.1, 0.2, 0.5])])
def test_ticks_of_a_log_axis(low, high, ticks):
    assert log_ticks(low, high) == pytest.approx(ticks)


def test_points_stand_where_their_numbers_say():
    """Cheaper is left, better is up, whichever way the metric runs; the front is found by hand."""
    cost = {"lr": 100, "fm": 1000, "dnn": 10000, "deepfm": 100_000}
    quality = {"lr": 0.80, "fm": 0.82, "dnn": 0.81, "deepfm": 0.83}
    for metric in ("test.auc", "test.logloss"):
        ranking = rank([row(name, quality[name], params=cost[name]) for name in cost], metric)
        labels = [entry.label for entry in ranking.entries]
        assert labels == ["deepfm", "fm", "dnn", "lr"]
        parameters = pictures(ranking)[0]
        found = {labels[n]: mark for n, mark in marks(parameters.svg).items()}
        xs = [found[name][0] for name in cost]
        assert [b - a for a, b in pairwise(xs)] == pytest.approx([xs[1] - xs[0]] * 3, abs=0.2)
        assert sorted(found, key=lambda name: found[name][1]) == labels
        assert {name for name in found if found[name][3]} == {"lr", "fm", "deepfm"}
        (line,) = re.findall(r'<polyline class="front" points="([^"]+)"', parameters.svg)
        corners = [tuple(map(float, corner.split(","))) for corner in line.split()]
        on_front = [found[name][:2] for name in ("lr", "fm", "deepfm")]
        assert corners[0] == on_front[0]
        assert corners[-1] == (PLOT.right, on_front[-1][1])
        assert set(on_front) <= set(corners)
        for (a, b), (c, d) in pairwise(corners):
            assert a == c or b == d  # steps
            assert a <= c
            assert b >= d
        for words in ("deepfm: test", "parameters: 100,000", ">deepfm</text>", "better is up"):
            assert words in parameters.svg


def test_intervals_and_references_are_drawn():
    ranking = rank([*board(), reference("bayes_optimal", 0.986, "ceiling")])
    svg = pictures(ranking)[0].svg
    assert svg.count('class="interval"') == sum(entry.mean() >= quality_axis(ranking).low
                                                for entry in ranking.entries)
    assert 'class="reference ceiling"' in svg
    assert "bayes optimal 0.9860" in svg
    assert "base rate" not in svg  # far off the axis
    bare = rank([row(name, 0.8, metrics={"test.auc": 0.8}) for name in ("lr", "fm")])
    assert 'class="interval"' not in pictures(bare)[0].svg


def test_what_lies_far_below_stands_in_a_band_with_its_value():
    values = {"a": 0.984, "b": 0.983, "c": 0.982, "d": 0.981, "e": 0.5}
    ranking = rank([row(name, value, params=10 + len(name)) for name, value in values.items()])
    assert quality_axis(ranking).low > 0.9
    svg = pictures(ranking)[0].svg
    places = marks(svg)
    assert places[4][1] == PLOT.bottom + BAND / 2
    assert all(PLOT.top <= y <= PLOT.bottom for _, y, _, _ in list(places.values())[:4])
    assert ">e 0.5000</text>" in svg
    assert 'class="cut"' in svg
    assert "all at one height" in " ".join(pictures(ranking)[0].said)
    near = rank([row(name, value) for name, value in values.items() if name != "e"])
    assert 'class="cut"' not in pictures(near)[0].svg


def test_costs_of_different_machines_have_shapes_and_lines_of_their_own():
    rows = [row("lr", 0.80, seconds=10.0, device="cpu", threads=1),
            row("fm", 0.81, seconds=5.0, device="cpu", threads=2),
            row("dnn", 0.82, seconds=1.0, device="a GPU", threads=2, peak_mib=0.0)]
    parameters, seconds, memory = pictures(rank(rows))
    assert (parameters.name, seconds.name, memory.name) == ("parameters", "seconds", "memory")
    assert parameters.shapes == []
    assert len({path for _, _, path, _ in marks(parameters.svg).values()}) == 1
    assert {group for _, group in seconds.shapes} == {"cpu, 1 thread", "cpu, 2 threads", "a GPU, 2 threads"}
    assert len({path for _, _, path, _ in marks(seconds.svg).values()}) == 3
    assert all(best for _, _, _, best in marks(seconds.svg).values())  # dnn beats no model of another machine
    assert seconds.svg.count('class="front"') == 3
    assert "cannot be compared" in " ".join(seconds.said)
    assert "had the machine alone" in " ".join(seconds.said)
    assert "Left out, as their rows do not know this cost: dnn." in memory.said
    assert len(marks(memory.svg)) == 2


def test_a_cost_that_no_row_knows_has_no_picture():
    unknown = rank([row(name, 0.8, params=0, seconds=0.0) for name in ("lr", "fm")])
    assert [picture.name for picture in pictures(unknown)] == ["memory"]
    assert pictures(replace(unknown, entries=())) == []


def test_many_models_get_labels_and_many_machines_a_shape():
    rows = [row(f"model_{n}", 0.80 + 0.0007 * (n * 17 % 40), params=1000 + 977 * (n * n % 41), threads=n + 1)
            for n in range(40)]
    parameters, seconds, _ = pictures(rank(rows))
    assert len(marks(parameters.svg)) == 40
    assert parameters.svg.count('class="label"') >= 36
    assert len(seconds.shapes) == 40
