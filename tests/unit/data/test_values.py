"""The same value has one text and one number, whatever it is read from."""

from __future__ import annotations

import datetime

import numpy as np
import polars as pl
import pytest

from recsys_zoo.data.values import Chunk, as_numbers, as_text, is_missing, to_float
from recsys_zoo.errors import InputError


def _chunk(values: list | pl.Series) -> Chunk:
    frame = pl.DataFrame({"x": values}, strict=False)
    return Chunk(frame, "f.csv", np.arange(11, 11 + frame.height))


@pytest.mark.parametrize("series", [
    pl.Series([3, -7, None, 0], dtype=pl.Int8), pl.Series([3, -7, None, 0]),
    pl.Series([3.0, -7.0, None, -0.0]), pl.Series([3.0, -7.0, float("nan"), 0.0], dtype=pl.Float32),
    pl.Series(["3", "-7", None, "-0"]), pl.Series(["3.0", "-7.0", "", "-0.0"]),
    pl.Series(["3", "-7", None, "0"], dtype=pl.Categorical)])
def test_whole_numbers_have_one_text(series: pl.Series):
    assert as_text(series).to_list() == ["3", "-7", None, "0"]


def test_other_texts_stay_as_they_are():
    texts = ["007", "1.50", "a.0", "1.2.0", "v3.0", "1e3", " 3.0", ".0", "nan", "NULL", "ü"]
    assert as_text(pl.Series(texts)).to_list() == texts


def test_fractions_booleans_and_moments_as_text():
    assert as_text(pl.Series([0.1, 2.5, 1e300])).to_list() == ["0.1", "2.5", "1e+300"]
    large = as_text(pl.Series([2.0**62, 9007199254740993.0]))
    assert large.to_list() == ["4611686018427387904", "9007199254740992"]
    assert as_text(pl.Series([True, None, False])).to_list() == ["true", None, "false"]
    moment = pl.Series([datetime.datetime(2020, 1, 2, 3, 4, 5)])
    assert as_text(moment).to_list() == ["2020-01-02T03:04:05.000000"]
    assert pl.DataFrame({"x": moment}).write_csv() == "x\n2020-01-02T03:04:05.000000\n"  # as CSV has it
    assert as_text(pl.Series([None, None])).to_list() == [None, None]


def test_nested_values_have_no_text():
    with pytest.raises(InputError, match=r"f\.csv: column 'x' holds List"):
        as_text(pl.Series("x", [[1], [2]]), "f.csv")


def test_texts_become_numbers():
    texts = pl.Series(["1", " 2.5 ", "-3e2", "true", "False", "", None, "x", "NaN"])
    assert to_float(texts).to_list()[:8] == [1.0, 2.5, -300.0, 1.0, 0.0, None, None, None]
    assert np.isnan(to_float(texts)[8])
    assert is_missing(texts).tolist() == [False] * 5 + [True, True, False, False]
    assert to_float(pl.Series([datetime.date(2020, 1, 1)])) is None


def test_missing_numbers_are_nan_or_filled():
    np.testing.assert_array_equal(as_numbers(_chunk(["1", "", None, "2"]), "x"), [1, np.nan, np.nan, 2])
    filled = as_numbers(_chunk(["1", "", "nan", "-inf"]), "x", fill=-1.0)
    assert filled.tolist() == [1, -1, -1, -1]


@pytest.mark.parametrize(("values", "said"), [
    (["1", "abc", "x"], "f.csv: column 'x', row 12: 'abc' is not a number; mend the file or"),
    ([1.0, float("nan")], "f.csv: column 'x', row 12: nan is not a finite number; mend the file or set fill"),
    ([float("inf"), 1.0], "row 11: inf is not a finite number"),
    (["1", "NaN"], "row 12: 'NaN' is not a finite number"),
    ([1.0, 1e39], "row 12: 1e+39 is not a finite number"),  # too large for float32
    ([[1], [2]], "column 'x' holds List(Int64), not numbers"),
])
def test_what_is_no_number_is_named_by_file_column_row_value(values: list, said: str):
    with pytest.raises(InputError) as error:
        as_numbers(_chunk(values), "x")
    assert said in str(error.value)


def test_a_filter_keeps_the_rows_numbers_of_the_file():
    chunk = _chunk([1, 2, 3]).filter(np.array([False, True, True]))
    assert chunk.frame.get_column("x").to_list() == [2, 3]
    assert chunk.rows.tolist() == [12, 13]


def test_an_absent_column_is_named_with_near_matches():
    with pytest.raises(InputError, match=r"f\.csv: no column named 'xx'; did you mean \['x'\]"):
        _chunk([1]).column("xx")
