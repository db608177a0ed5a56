"""Text files in blocks of any size: the records that Python's csv module reads, wherever a cut falls."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys_zoo.data import blocks
from recsys_zoo.data.blocks import text_blocks
from recsys_zoo.data.read import check_lines, column_names, read_chunks, read_frame
from recsys_zoo.data.spec import ReadSpec
from recsys_zoo.errors import InputError

FIELD = st.text(alphabet='a,"\n\rü;x ', max_size=6)
TABLE = st.lists(st.tuples(FIELD, FIELD, FIELD), min_size=1, max_size=8)


def records(path: Path, read: ReadSpec = ReadSpec(), columns: tuple[str, ...] = ()) -> list[list[str]]:  # noqa: B008
    names = columns or column_names(path, read)
    parts = read_chunks(path, names, read, 3, keep_empty=True)
    return [["" if value is None else value for value in row] for part in parts for row in part.frame.rows()]


@settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(TABLE, st.integers(1, 40), st.sampled_from(["\n", "\r\n"]), st.sampled_from([b"", b"\xef\xbb\xbf"]),
       st.booleans())  # fmt: skip
def test_records_are_those_of_the_csv_module(tmp_path, monkeypatch, rows, size, ending, mark, last):
    monkeypatch.setattr(blocks, "_SIZE", size)
    rows = [tuple(field if field.strip("\r\n") else "b" for field in row) for row in rows]
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=ending, quoting=csv.QUOTE_NONNUMERIC).writerows(
        [("k", "l\nm", '"n'), *rows]
    )
    whole = text.getvalue() if last else text.getvalue().removesuffix(ending)
    path, packed = tmp_path / "t.csv", tmp_path / "t.csv.gz"
    path.write_bytes(mark + whole.encode())
    packed.write_bytes(gzip.compress(path.read_bytes()))
    expected = list(csv.reader(io.StringIO(whole, newline="")))[1:]
    spec = ReadSpec(separator=",")
    assert column_names(path, spec) == ["k", "l\nm", '"n']
    assert records(path, spec) == expected == records(packed, spec)
    assert records(path, spec, ('"n', "k")) == [[row[2], row[0]] for row in expected]
    data = mark + whole.encode()
    assert b"".join(text_blocks(path, header=False)) == data.removeprefix(mark)


@pytest.mark.parametrize("size", range(1, 12))
def test_lines_are_checked_wherever_a_cut_falls(tmp_path: Path, monkeypatch, size: int):
    monkeypatch.setattr(blocks, "_SIZE", size)
    path, read = tmp_path / "t.csv", ReadSpec()
    path.write_bytes(b"a,b,c\n1,2,3\n\n4,5,6\n \n7,8,9")
    assert check_lines(path, read) == 2
    path.write_bytes(b"a,b,c\r\n1,2,3\r\n4,5\r\n")
    with pytest.raises(InputError, match="line 3: has 2 of 3 fields"):
        check_lines(path, read)
    path.write_bytes(b'a,b,c\n"1,x",2\n4,5,6\n7,8\n')
    with pytest.raises(InputError, match="line 4: has 2 of 3 fields"):
        check_lines(path, read)
    path.write_bytes(b'a,b,c\n1,"2\n3",4\n5\n')
    assert check_lines(path, read) is None
    path.write_bytes(b"a,b,c\n1,2\n3,4,5,6\n")  # separators as many as in two whole lines
    with pytest.raises(InputError, match=r"line 2: has 2 of 3|t\.csv: row 2 has 4 fields"):
        read_frame(path, read)


@pytest.mark.parametrize("size", [1, 5, 17, 4 << 20])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_record_with_too_many_fields_is_named(tmp_path: Path, monkeypatch, size: int, ending: str):
    monkeypatch.setattr(blocks, "_SIZE", size)
    path = tmp_path / f"t.csv{ending}"
    text = b'a,b\n1,"2,\n3"\n\n4,5\n6,7,8\n9,0\n'
    path.write_bytes(gzip.compress(text) if ending else text)
    with pytest.raises(InputError, match=r"t\.csv.*: row 3 has 3 fields, and 2 columns are named; put texts"):
        records(path)


def test_another_encoding_is_said(tmp_path: Path):
    path = tmp_path / "t.csv"
    path.write_bytes("a,b\nü,2\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"t\.csv: is not UTF-8; convert it"):
        records(path)


@pytest.mark.parametrize("size", range(1, 9))
def test_blank_lines_and_single_columns(tmp_path: Path, monkeypatch, size: int):
    monkeypatch.setattr(blocks, "_SIZE", size)
    path = tmp_path / "t.csv"
    path.write_bytes(b"\n\na\n\nx\n\n\ny\n")  # in a single column, an empty line is a missing value
    assert records(path) == [[""], ["x"], [""], [""], ["y"]]
    path.write_bytes(b"a,b\n\n1,2\n\n3,4\n")
    assert read_frame(path).rows() == [("1", "2"), ("3", "4")]
    path.write_bytes(b"1;2\nNA;4\n")
    assert records(path, ReadSpec(header=("a", "b"), null_values=("NA",))) == [["1", "2"], ["", "4"]]


def test_a_quote_that_is_never_closed_does_not_fill_the_memory(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(blocks, "_SIZE", 1 << 15)
    monkeypatch.setattr(blocks, "_LONGEST", 1 << 20)
    path = tmp_path / "t.csv"
    path.write_bytes(b'a,b\n1,"2\n' + b"3,4\n" * 300_000)
    with pytest.raises(InputError, match=r"t\.csv: a record has over 1 MiB; is a quote not closed\?"):
        records(path)
