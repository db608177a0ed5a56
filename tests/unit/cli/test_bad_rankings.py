"""Bad interactions and bad questions to a ranking: one sentence each, exit code 2, nothing half written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

SCHEMA = """
dataset = "films"
user = "who"
item = "what"
columns = [{{name = "who", side = "user"}}, {{name = "what", side = "item"}}]

[interactions]
{rules}

[split]
method = "column"
column = "part"
"""
SPLITS = {0: "valid", 1: "test"}
GOOD = pl.DataFrame([(who, what, SPLITS.get((who + 3 * what) % 5, "train")) for who in range(12)
                     for what in range(9) if (who * what) % 4 < 3],
                    schema=["who", "what", "part"], orient="row")


def rows(split: str) -> pl.DataFrame:
    return GOOD.filter(pl.col("part") == split)


def replaced(column: str, value) -> pl.DataFrame:
    """With another value in row 3."""
    kept = [*GOOD[column].to_list()]
    kept[2] = value
    return GOOD.with_columns(pl.Series(column, kept, strict=False))


@pytest.fixture
def prepare(tmp_path, monkeypatch, run) -> Callable:
    monkeypatch.chdir(tmp_path)

    def call(frame: pl.DataFrame, rules: str = "", file: str = "films.parquet") -> tuple[int, str, str]:
        frame.write_parquet(file) if file.endswith(".parquet") else frame.write_csv(file)
        Path("films.toml").write_text(SCHEMA.format(rules=rules))
        return run("prepare", file, "--schema", "films.toml", "--out", "data")

    return call


REPEATED = pl.concat([GOOD, GOOD.slice(4, 2)])
IN_TRAIN = pl.concat([rows("train"), rows("valid"), rows("train").with_columns(part=pl.lit("test"))])


@pytest.mark.parametrize(("frame", "rules", "said"), [
    (REPEATED, 'repeats = "refuse"', "2 rows repeat a pair of user and item, the first of them row 97 of"),
    (IN_TRAIN, "", "split 'test': the rules of interactions leave none of its"),
    (GOOD, "user_core = 99", "none of the 96 rows is left; lower user_core and item_core"),
    (replaced("who", None), "", "column 'who', row 3: no value, which is needed to know the user"),
    (replaced("what", None), "", "column 'what', row 3: no value, which is needed to know the item"),
    (GOOD.with_columns(pl.concat_list("who")), "", "column 'who' holds List(Int64), neither text nor number"),
    (GOOD.with_columns(pl.struct("what").alias("what")), "", "neither text nor numbers; convert it"),
    (GOOD.with_columns(who=pl.lit(float("nan"))), "", "column 'who', row 1: no value"),
    (GOOD.drop("what"), "", "no column named 'what'"),
    (replaced("part", "dev"), "", "no split named 'dev'; choose one of"),
    (rows("test"), "", "no row belongs to 'train'"),
], ids=["repeated", "test in train", "core", "no user", "no item", "list", "struct", "nan", "no column",
        "no split", "no train"])
def test_bad_interactions(prepare, frame, rules, said):
    code, _, err = prepare(frame, rules)
    assert code == 2
    assert said in err
    assert err.count("\n") == 1
    assert not Path("data").exists()


def test_an_empty_user_in_a_text_file(prepare):
    code, _, err = prepare(replaced("who", None), file="films.csv")
    said = "error: films.csv: column 'who', row 3: no value, which is needed to know the user\n"
    assert (code, err) == (2, said)


def test_repeats_are_refused_only_where_there_are_some(prepare):
    assert prepare(GOOD, 'repeats = "refuse"')[0] == 0
    assert prepare(REPEATED)[0] == 0


@pytest.mark.parametrize(("stars", "above", "said"), [
    ("4", 9, "error: interactions: no stars is above 9; lower interactions.above\n"),
    ("x", 3, "column 'stars', row 1: 'x' is not a number; mend the file or name another rating\n"),
    ("", 3, "column 'stars', row 1: no rating; fill it in or leave the row out\n"),
    ("inf", 3, "column 'stars', row 1: 'inf' is not a finite number; mend the file\n"),
])
def test_bad_ratings(prepare, stars, above, said):
    code, _, err = prepare(GOOD.with_columns(stars=pl.lit(stars)), f'rating = "stars"\nabove = {above}')
    assert code == 2
    assert err.endswith(said)
    assert not Path("data").exists()


@pytest.mark.parametrize(("frame", "rules", "said"), [
    (IN_TRAIN, 'repeats = "keep"', "no user has a relevant item that was not seen before"),
    (GOOD.filter(pl.col("part") != "test"), "", "no split named 'test'"),
    (GOOD.filter(pl.col("part") != "valid"), "", "there is no split valid, on which"),
], ids=["all seen", "no test", "no valid"])
def test_nothing_to_rank(prepare, run, frame, rules, said):
    assert prepare(frame, rules)[0] == 0
    code, _, err = run("train", "popularity", "data", "--out", "run")
    assert code == 2
    assert said in err
    assert not Path("run/row.json").exists()


@pytest.mark.parametrize("name", ["popularity", "mf"])
def test_lists_longer_than_the_catalogue(prepare, run, name):
    assert prepare(GOOD)[0] == 0
    said = "error: ks: films has 9 items, and no list of 10 can be made of them; give smaller lengths\n"
    assert run("train", name, "data", "--out", "run", "--set", "ks=[3,10]") == (2, "", said)
    assert not Path("run").exists()


def test_cold_users_and_items_and_users_without_test_rows_are_said_by_the_audit(prepare, run):
    test = rows("test").filter(pl.col("who") > 1)
    new = test.with_columns(who=pl.col("who") + (pl.col("who") % 3 == 0) * 100,
                            what=pl.col("what") + (pl.col("what") % 4 == 0) * 100)
    assert prepare(pl.concat([rows("train"), rows("valid"), new]))[0] == 0
    code, out, err = run("audit", "data")
    assert code == 0, err
    users, items = (float((new[name] > 99).mean()) for name in ("who", "what"))
    assert f"! {users:.1%} of the test rows are of users without a row in train and valid" in out
    assert f"! {items:.1%} of the test rows are of items without a row in train and valid" in out
    assert "users have no test row and are in no mean" in out


@pytest.fixture
def trained(prepare, run) -> Callable:
    assert prepare(GOOD)[0] == 0
    assert run("train", "popularity", "data", "--out", "run")[0] == 0
    return run


def test_bad_questions(trained):
    pl.DataFrame({"who": [[1], [2]]}).write_parquet("lists.parquet")
    pl.DataFrame({"who": [1, None]}).write_parquet("empty.parquet")
    pl.DataFrame({"whom": [1]}).write_csv("other.csv")
    for words, said in (
        (("--user", "3", "-k", "10"), "k = 10: a list of 9 items has 1 to 9 places"),
        (("--user", "3", "-k", "0"), "k = 0: a list of 9 items has 1 to 9 places"),
        (("--user", "nobody"), "nothing was learnt of user 'nobody'"),
        (("--user", ""), "users: number 1 is missing"),
        (("--users", "lists.parquet"), "column 'who' holds List(Int64), neither text nor numbers"),
        (("--users", "empty.parquet"), "empty.parquet: column 'who', row 2: no value"),
        (("--users", "other.csv"), "no column named 'who'"),
    ):
        code, _, err = trained("recommend", "run", *words, "--out", "lists.csv")
        assert (code, said in err, err.count("\n")) == (2, True, 1), err
        assert not Path("lists.csv").exists()
