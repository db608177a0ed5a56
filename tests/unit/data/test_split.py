"""Split rules: the hash is fixed for ever, time keeps order, users lose their last rows."""

from __future__ import annotations

import datetime
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_zoo.data.assign import Assigner, DenseCodes
from recsys_zoo.data.spec import SplitSpec
from recsys_zoo.data.split import by_fractions, by_release, by_time, by_user, cut_times, hash_unit
from recsys_zoo.data.values import Chunk
from recsys_zoo.errors import InputError

MASK = (1 << 64) - 1


def _naive_hash(keys: list[str], salt: str) -> float:
    state = 0xCBF29CE484222325
    for part in (salt, *keys):
        for byte in part.encode() + b"\x1f":
            state = ((state ^ byte) * 0x100000001B3) & MASK
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
    state ^= state >> 31
    return (state >> 11) / (1 << 53)


def _chunk(**columns: list) -> Chunk:
    frame = pl.DataFrame(columns)
    return Chunk(frame, "f.csv", np.arange(1, frame.height + 1))


GOLDEN = [  # computed once by _naive_hash; a change of any of them moves the rows of existing splits
    (["1", "2"], "", 0.4357374980028652), (["u17", "i3"], "", 0.7854835697080655),
    (["u17", "i3"], "again", 0.09847371707643338), (["", ""], "", 0.8838881676353947),
    (["größe"], "", 0.07569147593763648), (["12", ""], "", 0.28712494508568864),
    (["1", "2"], "2", 0.46096198334027805)]


@pytest.mark.parametrize(("keys", "salt", "unit"), GOLDEN)
def test_the_hash_never_moves(keys: list[str], salt: str, unit: float):
    assert hash_unit([np.array([key]) for key in keys], salt).tolist() == [unit]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=3)), min_size=1, max_size=8),
       st.text(max_size=3))
def test_the_hash_is_the_documented_one(rows: list[tuple[str, str]], salt: str):
    rows = [tuple(key.rstrip("\0") for key in row) for row in rows]  # numpy drops closing NULs of texts
    columns = [np.array([row[k] for row in rows], object) for k in range(2)]
    assert hash_unit(columns, salt).tolist() == [_naive_hash(list(row), salt) for row in rows]


def test_hash_shares_are_near_the_fractions():
    unit = hash_unit([np.arange(20_000).astype(str)])
    names = by_fractions(unit, {"train": 0.8, "valid": 0.1, "test": 0.1})
    shares = {name: float((names == name).mean()) for name in ("train", "valid", "test")}
    assert shares["train"] == pytest.approx(0.8, abs=0.01)  # 3.5 standard errors
    assert shares["valid"] == pytest.approx(0.1, abs=0.01)
    edges = by_fractions(np.array([0.0, 0.8, 0.9, 0.9999]), {"train": 0.8, "valid": 0.1, "test": 0.1})
    assert edges.tolist() == ["train", "valid", "test", "test"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=40))
def test_time_shares_hold_but_for_ties(times: list[int]):
    fractions = {"train": 0.5, "valid": 0.25, "test": 0.25}
    array = np.array(times, float)
    split = by_time(array, cut_times(array, fractions))
    for early, late in ((0, 1), (1, 2), (0, 2)):
        if (split == early).any() and (split == late).any():
            assert array[split == early].max() < array[split == late].min()
    largest_tie = max(times.count(t) for t in times)
    assert (split == 0).sum() <= np.ceil(0.5 * len(times))
    assert (split == 0).sum() > 0.5 * len(times) - largest_tie


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 30)), min_size=1, max_size=60))
def test_items_go_by_their_first_rows(rows: list[tuple[int, int]]):
    """Against a loop over the items in the order of release: all rows of an item in one split, no item of a
    later split released before one of an earlier, those of one moment together."""
    codes = {item: code for code, item in enumerate(dict.fromkeys(item for item, _ in rows))}
    items, times = (np.array(part) for part in zip(*((codes[i], t) for i, t in rows), strict=True))
    split = by_release(items, times, {"train": 0.5, "valid": 0.25, "test": 0.25})
    pairs = list(zip(items, times, strict=True))
    released = {code: min(t for i, t in pairs if i == code) for code in codes.values()}
    ordered = sorted(released.values())
    right = {}
    for code, moment in released.items():
        before = sum(other < moment for other in ordered)
        same = before + ordered.count(moment)
        cut = [math.ceil(edge * len(ordered) - 1e-9) for edge in (0.5, 0.75)]
        right[code] = sum(same > min(place, len(ordered) - 1) for place in cut)
    assert split.tolist() == [right[code] for code in items]


def test_newest_items_are_held_out_of_the_rows_that_are_kept():
    """i3 begins at 4 once its first row is left out."""
    chunk = _chunk(item=["i1", "i2", "i3", "i1", "i3", "i4"], at=[1, 2, 0, 9, 4, 3])
    shares = {"train": 0.5, "valid": 0.25, "test": 0.25}
    spec = SplitSpec(method="release", keys=["item"], column="at", fractions=shares)
    for kept, right in ((None, [0, 1, 0, 0, 0, 2]), ([1, 1, 0, 1, 1, 1], [0, 0, 0, 0, 2, 1])):
        assigner = Assigner(spec, spec.splits)
        assert assigner.looks_ahead
        assigner.observe(chunk)
        assigner.settle(None if kept is None else np.array(kept, bool))
        assert assigner.assign(chunk, 0, 0, "").tolist() == right
    assert by_release(np.empty(0, np.int64), np.empty(0), shares).tolist() == []
    assert spec.words == "all rows of an item by the first of them (at): train 0.5, valid 0.25, test 0.25"
    assert spec.reads == ("item", "at")


def test_time_cuts_by_hand():
    times = np.array([5.0, 1.0, 4.0, 2.0, 3.0, 6.0, 8.0, 7.0, 10.0, 9.0])
    cuts = cut_times(times, {"train": 0.7, "valid": 0.1, "test": 0.2})
    assert cuts == [8.0, 9.0]
    assert by_time(times, cuts).tolist() == [0, 0, 0, 0, 0, 0, 1, 0, 2, 2]


def _naive_by_user(users: list[int], times: list[int], last: list[float]) -> list[int]:
    split = [0] * len(users)
    for user in set(users):
        rows = [i for i, u in enumerate(users) if u == user]
        rows.sort(key=lambda i: times[i])  # stable: ties by row
        held = [int(k) if k >= 1 else int(len(rows) * k) for k in last]
        if sum(held) >= len(rows):
            continue
        for number in range(len(last), 0, -1):
            for _ in range(held[number - 1]):
                split[rows.pop()] = number
    return split


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), min_size=1, max_size=40),
       st.sampled_from([[1, 1], [2, 1], [0.25, 0.5], [0.5], [1, 0.25]]))
def test_last_rows_of_users_against_a_loop(rows: list[tuple[int, int]], last: list[float]):
    users, times = [r[0] for r in rows], [r[1] for r in rows]
    assert by_user(np.array(users), np.array(times), last).tolist() == _naive_by_user(users, times, last)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(max_size=3), max_size=30), st.integers(1, 7))
def test_dense_codes_follow_first_appearance_in_any_batches(texts: list[str], size: int):
    codes = DenseCodes()
    parts = [codes.encode(pl.Series(texts[i:i + size], dtype=pl.String)) for i in range(0, len(texts), size)]
    order = list(dict.fromkeys(texts))
    assert [int(c) for part in parts for c in part] == [order.index(t) for t in texts]


def test_a_split_column_with_named_values():
    spec = SplitSpec(method="column", column="part", names={"0": "train", "1": "test"})
    assigner = Assigner(spec, spec.splits)
    assert assigner.assign(_chunk(part=[0, 1, 1, 0]), 0, 0, "").tolist() == [0, 1, 1, 0]
    with pytest.raises(InputError, match=r"f\.csv: column 'part': no split named '2'"):
        assigner.assign(_chunk(part=[0, 2]), 0, 0, "")
    with pytest.raises(InputError, match=r"f\.csv: column 'part', row 2: no value"):
        assigner.assign(_chunk(part=[0, None]), 0, 0, "")


@pytest.mark.parametrize(("cuts", "times"), [
    ({"valid": 20, "test": 30}, [5, 20, 29, 30, 31]),
    ({"valid": "2020-05-02", "test": "2020-05-03"},
     ["2020-05-01T23:59:59", "2020-05-02", "2020-05-02 12:00", "2020-05-03", "2020-05-03 00:00:00.5"])])
def test_time_cuts_given_as_numbers_and_dates(cuts: dict, times: list):
    spec = SplitSpec.parse({"method": "time", "column": "at", "cuts": cuts}, "spec")
    assert Assigner(spec, spec.splits).assign(_chunk(at=times), 0, 0, "").tolist() == [0, 1, 1, 2, 2]


def test_dates_in_parquet_and_in_text_split_alike():
    text = ["2020-05-01 10:00:00", "2020-05-02 10:00:00", "2020-05-03 10:00:00"]
    spec = SplitSpec(method="time", column="at", cuts={"test": "2020-05-02 10:00:00"})
    moments = pl.Series(text).str.to_datetime().to_list()
    for values in (text, moments):
        assert Assigner(spec, spec.splits).assign(_chunk(at=values), 0, 0, "").tolist() == [0, 1, 1]


@pytest.mark.parametrize("value", [datetime.time(1, 2), datetime.timedelta(seconds=3)])
def test_what_is_no_moment_is_named(value):
    spec = SplitSpec(method="time", column="at", cuts={"test": 3})
    with pytest.raises(InputError, match=r"column 'at', row 1: .* is neither a number nor an ISO date"):
        Assigner(spec, spec.splits).assign(_chunk(at=[value]), 0, 0, "")


def test_a_row_without_moment_is_named():
    spec = SplitSpec(method="time", column="at", cuts={"test": 3})
    with pytest.raises(InputError, match=r"f\.csv: column 'at', row 2: None is neither a number nor an ISO"):
        Assigner(spec, spec.splits).assign(_chunk(at=[1, None]), 0, 0, "")
    with pytest.raises(InputError, match=r"row 1: 'soon' is neither"):
        Assigner(spec, spec.splits).assign(_chunk(at=["soon"]), 0, 0, "")


def test_the_hash_rule_reads_keys_or_row_numbers():
    rows = _chunk(user=["a", None, "c"], item=[1, 2, 3])
    spec = SplitSpec(method="hash", keys=("user", "item"), salt="s", fractions={"train": 0.5, "test": 0.5})
    units = [_naive_hash([u, i], "s") for u, i in (("a", "1"), ("", "2"), ("c", "3"))]
    assert Assigner(spec, spec.splits).assign(rows, 0, 0, "").tolist() == [int(u >= 0.5) for u in units]
    by_row = spec.model_copy(update={"keys": ()})
    units = [_naive_hash([str(100 + k)], "s") for k in (0, 2)]
    kept = rows.filter(np.array([True, False, True]))
    assert Assigner(by_row, by_row.splits).assign(kept, 0, 100, "").tolist() == [int(u >= 0.5) for u in units]


def test_cuts_must_rise_and_be_moments():
    falling = SplitSpec(method="time", column="at", cuts={"valid": 5, "test": 4})
    with pytest.raises(InputError, match="must rise"):
        Assigner(falling, falling.splits)
    with pytest.raises(InputError, match=r"split\.cuts\.test='May' is neither a number nor an ISO date"):
        Assigner(SplitSpec(method="time", column="at", cuts={"test": "May"}), ("train", "test"))
