"""Bad input: one clear sentence with file, column and row; nothing half-written is left behind."""

from __future__ import annotations

import gzip
import io
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from recsys_zoo.data.prepare import prepare
from recsys_zoo.data.read import check_lines, read_frame
from recsys_zoo.data.spec import ReadSpec
from recsys_zoo.errors import InputError

from .tables import as_frame, toy_rows, toy_spec


def _refusal(folder: Path, files: list[Path], **changes: object) -> str:
    """The sentence with which preparing these files is refused; checks that the folder holds nothing new."""
    before = sorted(p.name for p in folder.iterdir())
    options = {"batch_rows": 10, **changes}
    with pytest.raises(InputError) as error:
        prepare(files, options.pop("spec", toy_spec()), folder / "out", **options)
    assert sorted(p.name for p in folder.iterdir()) == before
    text = str(error.value)
    assert "\n" not in text
    assert "Traceback" not in text
    return text


def _csv(folder: Path, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Path:
    change(as_frame(toy_rows())).write_csv(folder / "toy.csv")
    return folder / "toy.csv"


def _put(column: str, row: int, value: object) -> Callable[[pl.DataFrame], pl.DataFrame]:
    def change(frame: pl.DataFrame) -> pl.DataFrame:
        texts = frame.get_column(column).cast(pl.String).to_list()
        texts[row - 1] = value
        return frame.with_columns(pl.Series(column, texts, dtype=pl.String))
    return change


@pytest.mark.parametrize(("change", "said"), [
    (_put("price", 25, "dear"), "toy.csv: column 'price', row 25: 'dear' is not a number"),
    (_put("price", 38, "NaN"), "toy.csv: column 'price', row 38: 'NaN' is not a finite number"),
    (_put("count", 7, "inf"), "toy.csv: column 'count', row 7: 'inf' is not a finite number"),
    (_put("click", 51, "2"), "toy.csv: column 'click', row 51: the label '2' is not 0 or 1; for a threshold "
                             "write labels = [{name = \"click\", above = NUMBER}]"),
    (_put("click", 12, None), "toy.csv: column 'click', row 12: no label"),
    (_put("click", 12, "yes"), "toy.csv: column 'click', row 12: 'yes' is not a number"),
    (_put("user", 33, None), "toy.csv: column 'user', row 33: no value, which is needed to group rows"),
    (_put("part", 5, "valdi"), "column 'part': no split named 'valdi'; did you mean ['valid']"),
    (lambda f: f.drop("tags"), "toy.csv: no column named 'tags'; choose one of"),
    (lambda f: f.rename({"price": "prise"}), "toy.csv: no column named 'price'; did you mean ['prise'"),
    (lambda f: f.with_columns(part=pl.lit("test")), "no row belongs to 'train'"),
    (lambda f: f.with_columns(click=pl.col("click") * (pl.col("part") != "valid")),
     "split 'valid': label 'click' has no positive among 12 rows"),
    (lambda f: f.with_columns(click=pl.max_horizontal("click", (pl.col("part") == "train").cast(pl.Int64))),
     "split 'train': label 'click' has no negative among 36 rows"),
    (lambda f: f.head(0), "toy.csv: has no rows"),
])
def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, change: Callable, said: str):
    assert said in _refusal(tmp_path, [_csv(tmp_path, change)])


def test_a_line_with_too_few_fields_is_refused(tmp_path: Path):
    path = _csv(tmp_path, lambda frame: frame)
    lines = path.read_text(encoding="utf-8").splitlines()
    place = next(i for i in range(20, 60) if '"' not in lines[i])
    lines[place] = lines[place].rpartition(",")[0]
    path.write_text("\n".join(lines), encoding="utf-8")
    fields = lines[0].count(",") + 1
    said = f"toy.csv, line {place + 1}: has {fields - 1} of {fields} fields; an empty one still needs"
    assert said in _refusal(tmp_path, [path])


@pytest.mark.parametrize("text", [
    "a,b,c\n1,2,3\n\n4,5,\n",  # a blank line, an empty last field
    'a,b,c\n1,2,"x\ny"\n4,5,6\n',  # one field on two lines
    'a,b,c\n1,2,"x,\nwhole\nstory"\n4,5,6\n',
    "a\n1\n\n2\n",
    "a,b,c\r\n1,2,3\r\n",
])
def test_whole_lines_are_not_refused(tmp_path: Path, text: str):
    path = tmp_path / "t.csv"
    path.write_text(text, encoding="utf-8", newline="")
    check_lines(path, ReadSpec())


NAMED = ReadSpec(header=("click", "user", "item"))


@pytest.mark.parametrize("text", ["click,user,item\n1,u,i\n0,u,j\n", "item,click,user\ni,1,u\nj,0,u\n",
                                  "user,item,price\nu,i,2\nu,j,3\n", "1,u,i\n0,u,j\n"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_file_that_names_its_columns_is_read_by_these(tmp_path: Path, text: str, packed: bool):
    """Though a header stands in the schema: of the same columns, in another order, of fewer and others."""
    path = tmp_path / ("raw.csv.gz" if packed else "raw.csv")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    assert read_frame(path, NAMED, ["user", "item"]).rows() == [("u", "i"), ("u", "j")]


@pytest.mark.parametrize("first", ["user,u,i", "0,user,item", "click,u,i"])
def test_one_field_or_a_number_makes_no_line_of_names(tmp_path: Path, first: str):
    (tmp_path / "raw.csv").write_text(f"{first}\n0,u,j\n")
    assert read_frame(tmp_path / "raw.csv", NAMED).rows() == [tuple(first.split(",")), ("0", "u", "j")]


def test_other_columns_than_the_header_of_the_schema_are_refused(tmp_path: Path):
    (tmp_path / "raw.csv").write_text("u,i\nu,j\n")
    with pytest.raises(InputError, match=r"raw.csv: has not as many columns as header under \[read\] names; "
                                         r"give it these \(click, user, item\), or a first line that names"):
        read_frame(tmp_path / "raw.csv", NAMED, ["user"])


@pytest.mark.parametrize("value", ["-1", "nan", "inf", None, "much"])
def test_weights_are_finite_and_not_negative(tmp_path: Path, value: str | None):
    def change(frame: pl.DataFrame) -> pl.DataFrame:
        return _put("w", 21, value)(frame.with_columns(w=pl.lit("1")))
    text = _refusal(tmp_path, [_csv(tmp_path, change)], spec=toy_spec(weight="w"))
    assert "toy.csv: column 'w', row 21: " in text


def _parquet() -> bytes:
    buffer = io.BytesIO()
    as_frame(toy_rows(400)).write_parquet(buffer)
    return buffer.getvalue()


def _text() -> bytes:
    return as_frame(toy_rows()).write_csv().encode()


@pytest.mark.parametrize(("name", "content", "said"), [
    ("a.csv", b"", "a.csv: is empty"),
    ("a.parquet", b"", "a.parquet: is empty"),
    ("a.csv", b"\n\n", "a.csv: damaged, or not what its name says (empty CSV)"),
    ("a.parquet", _parquet()[:-30], "a.parquet: damaged, or not what its name says"),
    ("a.parquet", _parquet()[:200] + b"\0" * 600 + _parquet()[800:], "a.parquet: damaged"),
    ("a.parquet", _text(), "a.parquet: damaged"),
    ("a.csv", _parquet(), "a.csv: "),
    ("a.csv", _text().replace(b"\n", b",more\n").replace(b",more\n", b"\n", 2), "a.csv: row 2 has 9 fields"),
    ("a.csv", _text().replace(b"u1", b"\xff\xfe"), "a.csv: is not UTF-8; convert it"),
    ("a.csv", _text() + b'"never closed', "a.csv: "),
    ("a.csv.gz", gzip.compress(_text())[:-40], "a.csv.gz: damaged"),
    ("a.csv", _text().replace(b"price", b"user", 1), "a.csv: two columns are named 'user'"),
    ("a.feather", _text(), "a.feather: cannot tell the format by its name"),
])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes, said: str):
    (tmp_path / name).write_bytes(content)
    assert said in _refusal(tmp_path, [tmp_path / name])


def test_files_that_are_not_there(tmp_path: Path):
    good = _csv(tmp_path, lambda f: f)
    assert "none.csv: no such file" in _refusal(tmp_path, [good, tmp_path / "none.csv"])
    assert "is a folder; name the files in it" in _refusal(tmp_path, [tmp_path])
    assert "no file is given" in _refusal(tmp_path, [])


def test_a_column_missing_in_the_last_file_is_found_before_reading(tmp_path: Path):
    good = _csv(tmp_path, lambda f: f)
    as_frame(toy_rows()).drop("seen").write_csv(tmp_path / "late.csv")
    told: list[tuple] = []
    text = _refusal(tmp_path, [good, tmp_path / "late.csv"], progress=lambda *step: told.append(step))
    assert "late.csv: no column named 'seen'" in text
    assert not told


def test_files_and_split_rule_must_fit(tmp_path: Path):
    good = _csv(tmp_path, lambda f: f)
    by_files = toy_spec(split={"method": "files"})
    assert "needs the files of each split" in _refusal(tmp_path, [good], spec=by_files)
    assert "split.method='column' has no use" in _refusal(tmp_path, [], split_files={"train": [good]})
    assert "have no 'train'" in _refusal(tmp_path, [], spec=by_files, split_files={"test": [good]})
    assert "given twice" in _refusal(tmp_path, [good], spec=by_files, split_files={"train": [good]})


def test_a_split_without_rows(tmp_path: Path):
    spec = toy_spec(split={"method": "time", "column": "count", "cuts": {"valid": 5000, "test": 6000}})
    assert "split 'valid' gets no row" in _refusal(tmp_path, [_csv(tmp_path, lambda f: f)], spec=spec)


def test_text_files_that_change_between_the_passes(tmp_path: Path):
    good = _csv(tmp_path, lambda f: f)
    content = good.read_text()

    def shorten(what: str, rows: int, _: int) -> None:
        if (what, rows) == ("count", 60):
            good.write_text("".join(content.splitlines(keepends=True)[:-1]))
    assert "changed while they were read" in _refusal(tmp_path, [good], progress=shorten)


def test_a_place_that_holds_something_else_is_left_alone(tmp_path: Path):
    good = _csv(tmp_path, lambda f: f)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    assert "exists and is not a prepared folder" in _refusal(tmp_path, [good])
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"


def test_a_failure_leaves_the_older_folder_whole(tmp_path: Path):
    good = _csv(tmp_path, lambda f: f)
    older = prepare([good], toy_spec(), tmp_path / "out")
    _refusal(tmp_path, [_csv(tmp_path, _put("click", 9, "7"))])
    older.verify()


@pytest.fixture
def full_disk(tmp_path: Path):
    """No file may grow beyond 2,000 bytes, as on a disk without space."""
    good = _csv(tmp_path, lambda f: f)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    yield good
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_said(tmp_path: Path, full_disk: Path):
    text = _refusal(tmp_path, [full_disk])
    assert text.startswith(f"{tmp_path / 'out'}: cannot write: ")
    assert "free some space" in text


def test_two_processes_cannot_prepare_the_same_folder(tmp_path: Path):
    good = _csv(tmp_path, lambda f: f)
    code = ("import sys; from pathlib import Path; from recsys_zoo.files import whole_folder\n"
            "with whole_folder(Path(sys.argv[1])) as folder:\n"
            "    print('building', flush=True); sys.stdin.read()\n"
            "    (folder / 'prepared.json').write_text('first')")
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "out")], text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == "building\n"
        assert "another process is writing here" in _refusal(tmp_path, [good])
        other.communicate("")
    assert (tmp_path / "out" / "prepared.json").read_text() == "first"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "toy.csv"]
