"""A drafted schema file can be used as it is, and says why each line stands there."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recsys_zoo.data.infer import infer_spec
from recsys_zoo.data.prepare import prepare
from recsys_zoo.data.spec import DataSpec
from recsys_zoo.errors import InputError


def _clicks(rows: int = 400) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    return pl.DataFrame({
        "row": np.arange(rows), "user_id": rng.integers(0, 30, rows), "movie_id": rng.integers(0, 40, rows),
        "age": rng.integers(18, 60, rows), "price": rng.lognormal(3, 2, rows).round(2),
        "score_a": rng.normal(size=rows),
        "genres": ["|".join(rng.permutation(list("abcde"))[:rng.integers(1, 4)]) for _ in range(rows)],
        "hist_items": ["^".join(map(str, rng.integers(0, 40, rng.integers(0, 6)))) for _ in range(rows)],
        "same": ["x"] * rows, "nothing": pl.Series([None] * rows, dtype=pl.String),
        "click": rng.integers(0, 2, rows), "weight": rng.random(rows),
        "note": [f"text {k}" for k in range(rows)],
        "timestamp": rng.integers(10**9, 2 * 10**9, rows)})


def test_a_draft_prepares_as_it_is(tmp_path: Path):
    _clicks().write_csv(tmp_path / "clicks.csv")
    text = infer_spec([tmp_path / "clicks.csv"])
    (tmp_path / "s.toml").write_text(text)
    spec = DataSpec.load(tmp_path / "s.toml")
    kinds = {column.name: (column.kind, column.rule) for column in spec.columns}
    assert kinds == {"user_id": ("categorical", "none"), "movie_id": ("categorical", "none"),
                     "age": ("categorical", "none"), "price": ("numeric", "log_square"),
                     "score_a": ("numeric", "standardise"), "genres": ("bag", "none"),
                     "hist_items": ("sequence", "none")}
    by_name = {column.name: column for column in spec.columns}
    assert (by_name["genres"].separator, by_name["genres"].max_len) == ("|", 3)
    assert (by_name["hist_items"].separator, by_name["hist_items"].max_len) == ("^", 5)
    assert [label.name for label in spec.labels] == ["click"]
    assert (spec.user, spec.item, spec.group, spec.weight) == ("user_id", "movie_id", "user_id", "weight")
    assert (spec.split.method, spec.split.column) == ("time", "timestamp")
    sides = [column.side for column in spec.columns]
    assert sides == ["user", "item", "user", "item", "context", "item", "context"]
    data = prepare([tmp_path / "clicks.csv"], spec, tmp_path / "out")
    assert sum(len(data.split(name)) for name in data.names) == 400


def test_every_guess_has_its_reason(tmp_path: Path):
    _clicks().write_parquet(tmp_path / "clicks.parquet")
    text = infer_spec([tmp_path / "clicks.parquet"])
    for said in ("# label click: only 0 and 1 (", "# 30 different values, 100 % numbers",
                 "joined by '|', up to 3", "a long tail, so floor(ln(x)^2)",
                 "# left out: row: another whole number in each of 400 rows",
                 "# left out: same: constant in the sample ('x')", "# left out: nothing: empty in the sample",
                 "# left out: note: another value in each of 400 rows", "# not an input: timestamp: moments"):
        assert said in text
    tables = text.split("[[columns]]\n")[1:]
    assert all(table.startswith("# ") for table in tables)


def test_a_rating_becomes_a_threshold_in_the_middle(tmp_path: Path):
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"user": rng.integers(0, 9, 200), "item": rng.integers(0, 9, 200),
                          "rating": rng.integers(1, 6, 200)})
    frame.write_csv(tmp_path / "r.csv")
    spec = DataSpec.parse(tomllib.loads(infer_spec([tmp_path / "r.csv"])), "draft")
    assert (spec.labels[0].raw, spec.labels[0].above, spec.labels[0].drop_equal) == ("rating", 3.0, True)
    assert (spec.split.method, spec.split.keys) == ("hash", ("user", "item"))


def test_a_split_column_and_an_unnamed_label_are_found(tmp_path: Path):
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"a": rng.integers(0, 9, 90), "odd \"name\"": rng.integers(0, 2, 90),
                          "split": ["train", "valid", "test"] * 30})
    frame.write_csv(tmp_path / "r.csv")
    text = infer_spec([tmp_path / "r.csv"])
    spec = DataSpec.parse(tomllib.loads(text), "draft")
    assert [label.raw for label in spec.labels] == ["odd \"name\""]
    assert "no column has a label's name: check this" in text
    assert (spec.split.method, spec.split.column) == ("column", "split")


def test_files_named_like_splits(tmp_path: Path):
    for name in ("train", "test"):
        _clicks(50).drop("timestamp").write_csv(tmp_path / f"{name}.csv")
    text = infer_spec([tmp_path / "train.csv", tmp_path / "test.csv"])
    assert DataSpec.parse(tomllib.loads(text), "draft").split.method == "files"


def test_nothing_to_learn_from_is_said(tmp_path: Path):
    pl.DataFrame({"a": [1, 1], "b": ["x", "x"]}).write_csv(tmp_path / "c.csv")
    with pytest.raises(InputError, match=r"c\.csv: no column among \['a', 'b'\] looks like an input"):
        infer_spec([tmp_path / "c.csv"])
    with pytest.raises(InputError, match="no file is given"):
        infer_spec([])


def _films(folder: Path, **columns) -> tuple[Path, Path]:
    """Rows of users and items (and further columns), and a table of what is known of items."""
    rng = np.random.default_rng(0)
    rows = {"user_id": rng.integers(0, 20, 300), "movie_id": rng.integers(0, 30, 300), **columns}
    pl.DataFrame(rows).write_csv(folder / "films.csv")
    genres = ["a|b", "b|c", "c", "a|c", "a|b|c"] * 6
    known = {"movie_id": range(30), "genres": genres, "colour": ["red", "blue"] * 15}
    pl.DataFrame(known).write_csv(folder / "movies.csv")
    return folder / "films.csv", folder / "movies.csv"


def _drafted(folder: Path, rows: Path, table: Path, **more) -> tuple[DataSpec, str]:
    text = infer_spec([rows], [table], folder, **more)
    (folder / "s.toml").write_text(text)
    return DataSpec.load(folder / "s.toml"), text


def test_users_and_items_without_a_label_are_drafted_as_interactions(tmp_path: Path):
    rng = np.random.default_rng(1)
    moments = rng.integers(10**9, 2 * 10**9, 300)
    files = _films(tmp_path, position=rng.integers(0, 200, 300), timestamp=moments)
    spec, text = _drafted(tmp_path, *files)
    assert (spec.user, spec.item, spec.labels, spec.group) == ("user_id", "movie_id", (), "")
    assert (spec.interactions.time, spec.interactions.rating) == ("timestamp", "")
    assert (spec.split.method, spec.split.column, spec.split.random) == ("user", "timestamp", False)
    assert [(c.name, c.kind, c.side) for c in spec.columns] == [
        ("user_id", "categorical", "user"), ("movie_id", "categorical", "item"), ("genres", "bag", "item"),
        ("colour", "categorical", "item")]
    assert "# left out: position: rankings read ids, and columns of side tables" in text
    assert "# not an input: timestamp" in text
    data = prepare([files[0]], spec, tmp_path / "out", tables_from=tmp_path)
    assert data.names == ("train", "valid", "test")
    assert len(data.split("test")) == data.schema.size("user")


@pytest.mark.parametrize("unit", ["s", "ms", "text"])
def test_a_time_is_known_by_its_values_where_no_name_says_it(tmp_path: Path, unit: str):
    moments = np.random.default_rng(1).integers(1_700_000_000, 1_705_000_000, 300)
    values = {"s": moments, "ms": moments * 1000,
              "text": [str(np.datetime64(int(moment), "s")) for moment in moments]}[unit]
    spec, text = _drafted(tmp_path, *_films(tmp_path, moment=values))
    assert (spec.interactions.time, spec.split.column) == ("moment", "moment")
    days = [np.datetime64(int(moment), "s").astype("datetime64[D]") for moment in sorted(moments)[::299]]
    assert f'time = "moment"  # by its values alone: moments from {days[0]} to {days[1]}' in text
    timed = _films(tmp_path, moment=values, timestamp=moments[::-1])
    assert _drafted(tmp_path, *timed)[0].interactions.time == "timestamp"


@pytest.mark.parametrize(("name", "first"), [("order_id", 1_700_000_000), ("price", 10_000),
                                             ("phone", 4_930_000_000)])
def test_other_numbers_are_no_moments(tmp_path: Path, name: str, first: int):
    numbers = np.random.default_rng(1).integers(first, first + 5_000_000, 300)
    assert _drafted(tmp_path, *_films(tmp_path, **{name: numbers}))[0].interactions.time == ""


def test_ratings_are_labels_unless_rankings_are_asked_for(tmp_path: Path):
    files = _films(tmp_path, stars=np.random.default_rng(1).integers(1, 6, 300))
    spec, text = _drafted(tmp_path, *files)
    assert spec.interactions is None
    assert "--interactions drafts one for rankings" in text
    spec, text = _drafted(tmp_path, *files, interactions=True)
    assert (spec.interactions.rating, spec.interactions.above) == ("stars", 3.0)
    assert (spec.split.method, spec.split.random, spec.split.keys) == ("user", True, ("user_id", "movie_id"))
    assert "no column looks like a time" in text
    data = prepare([files[0]], spec, tmp_path / "out", tables_from=tmp_path)
    counted = pl.read_csv(files[0]).filter(pl.col("stars") > 3).unique(["user_id", "movie_id"])
    assert sum(len(data.split(name)) for name in data.names) == len(counted)


@pytest.mark.parametrize("parts", [["train", "test"], ["train", "valid", "test"]])
def test_a_split_without_valid_is_drafted_with_a_cut(tmp_path: Path, parts: list[str]):
    """By a column, and by files."""
    files = _films(tmp_path, split=(parts * 300)[:300], click=[0, 1] * 150)
    spec, _ = _drafted(tmp_path, *files, interactions=True)
    assert (spec.split.method, spec.split.cut_valid) == ("column", 0.0 if "valid" in parts else 0.1)
    data = prepare([files[0]], spec, tmp_path / "out", tables_from=tmp_path)
    assert {*data.names} == {"train", "valid", "test"}
    for part in parts:
        pl.read_csv(files[0]).drop("split").write_csv(tmp_path / f"{part}.csv")
    text = infer_spec([tmp_path / f"{part}.csv" for part in parts], interactions=True)
    spec = DataSpec.parse(tomllib.loads(text), "draft")
    assert (spec.split.method, spec.split.cut_valid) == ("files", 0.0 if "valid" in parts else 0.1)


def test_rankings_without_users_or_items_are_refused(tmp_path: Path):
    path, _ = _films(tmp_path)
    for name, said in (("user_id", "that of users"), ("movie_id", "those of items")):
        pl.read_csv(path).rename({name: "who"}).write_csv(tmp_path / "other.csv")
        with pytest.raises(InputError, match=rf"other\.csv: rankings need .* none .* {said}; rename"):
            infer_spec([tmp_path / "other.csv"], interactions=True)
