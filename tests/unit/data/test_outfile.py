"""Tables written in parts are those of all parts together; what fails leaves nothing."""

from __future__ import annotations

import polars as pl
import pytest

from recsys_zoo.data.outfile import write_frames
from recsys_zoo.errors import InputError


def parts(count: int):
    """A first part without rows, then parts of growing length."""
    kinds = {"who": pl.String, "score": pl.Float32}
    for n in range(count):
        yield pl.DataFrame({"who": [f"u{n}"] * n, "score": [n / 4] * n}, schema=kinds)


@pytest.mark.parametrize(("name", "read"), [("a.csv", pl.read_csv), ("a.parquet", pl.read_parquet)])
def test_parts_are_one_table(tmp_path, name, read):
    out = tmp_path / "new [1]" / name  # brackets are no pattern here
    assert write_frames(out, parts(12)) == 66
    assert read(out, glob=False).rows() == pl.concat(parts(12)).rows()
    assert [path.name for path in out.parent.iterdir()] == [name]
    assert write_frames(out, parts(1)) == 0
    assert read(out, glob=False).columns == ["who", "score"]


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_what_fails_leaves_what_was_there(tmp_path, name):
    def broken():
        yield from parts(3)
        raise InputError("scores are NaN")

    (tmp_path / name).write_text("before")
    with pytest.raises(InputError, match="NaN"):
        write_frames(tmp_path / name, broken())
    assert (tmp_path / name).read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_name_says_the_format(tmp_path):
    with pytest.raises(InputError, match=r"must end in \.csv or \.parquet"):
        write_frames(tmp_path / "a.txt", parts(1))
