"""`recommend` and `index` by commands: files in and out, and a sentence for every mistake."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from recsys_zoo import cli, cli_rank, load_ranker
from recsys_zoo.data.encode import Encoder
from recsys_zoo.data.store import Prepared

from .shop import QUICK
from .test_rankings import films  # noqa: F401 - a fixture


@pytest.fixture
def trained(films, run) -> Path:  # noqa: F811
    """A run of mf in the folder."""
    assert run("prepare", "films.csv", "--schema", "films.toml", "--out", "data")[0] == 0
    assert run("train", "mf", "data", "--set", "train.epochs=2", "--out", "mf")[0] == 0
    return films


def test_lists_of_a_file_of_users(trained, run):
    asked = ["12", "3", "12", "39"]
    pl.DataFrame({"more": [1.5] * 4, "who": asked}).write_csv("users.csv")
    pl.DataFrame({"who": list(map(int, asked))}).write_parquet("users.parquet")
    items, scores = load_ranker("mf").recommend(asked, 5)
    expected = {"user": [u for u in asked for _ in range(5)], "rank": [1, 2, 3, 4, 5] * 4,
                "item": items.ravel().tolist(), "score": pytest.approx(scores.ravel().tolist(), rel=1e-5)}
    for users, out in (("users.csv", "a.parquet"), ("users.parquet", "b.csv")):
        code, said, err = run("recommend", "mf", "--users", users, "-k", 5, "--out", out)
        assert (code, err) == (0, "")
        assert said == f"wrote 20 rows to {out}: 4 lists of 5 items\n"
        read = pl.read_parquet if out.endswith("parquet") else pl.read_csv
        frame = read(out).with_columns(pl.col("user", "item").cast(pl.String))
        assert frame.to_dict(as_series=False) == expected
    assert not [path for path in Path().iterdir() if path.name.startswith((".a", ".b", "tmp"))]


def test_a_file_of_users_is_read_as_the_data_were_or_by_its_names(films, run):  # noqa: F811
    rows = pl.read_csv("films.csv")
    rows.write_csv("bare.csv", include_header=False, separator=";")
    names = ", ".join(f'"{name}"' for name in rows.columns)
    schema = Path("films.toml").read_text() + f'\n[read]\nheader = [{names}]\nseparator = ";"\n'
    Path("bare.toml").write_text(schema)
    assert run("prepare", "bare.csv", "--schema", "bare.toml", "--out", "data")[0] == 0
    assert run("train", "popularity", "data", "--out", "run")[0] == 0
    rows[:2].write_csv("some.csv", include_header=False, separator=";")
    rows[:2].write_csv("named.csv", separator=";")
    lists = [run("recommend", "run", "--users", name, "-k", 3)[:2] for name in ("some.csv", "named.csv")]
    assert lists[0] == lists[1]
    code, out = lists[0]
    assert (code, len(out.splitlines())) == (0, 7)


def test_lists_of_all_users_and_of_some(trained, run):
    everybody = pl.read_csv(run("recommend", "mf", "-k", 4)[1].encode())
    assert everybody["user"].unique().sort().to_list() == list(range(40))
    code, out, err = run("recommend", "mf", "--user", 7, "--user", 2, "-k", 4)
    assert (code, err) == (0, "")
    some = pl.read_csv(out.encode())
    assert some["user"].unique(maintain_order=True).to_list() == [7, 2]
    by_item = everybody.filter(pl.col("user").is_in([7, 2])).sort("user", "rank")
    # blocks of other users round otherwise
    assert_frame_equal(some.sort("user", "rank"), by_item, rel_tol=1e-5)


def test_seen_items_are_left_out_unless_asked_for(trained, run):
    data = Prepared.open("data")
    encoder = Encoder.open("data/encoding")
    ids = [data.split(name).ids for name in ("train", "valid")]
    pairs = [zip(encoder.decode("who", i[:, 0]), encoder.decode("what", i[:, 1]), strict=True) for i in ids]
    seen = {item for part in pairs for user, item in part if user == "7"}
    assert seen
    without, err = (run("recommend", "mf", "--user", 7, "-k", 30)[place] for place in (1, 2))
    listed = set(pl.read_csv(without.encode(), schema_overrides={"item": pl.String})["item"])
    assert listed == {str(i) for i in range(30)} - seen
    assert f"{len(seen)} of 30 places in the lists are empty; too few items are left" in err
    whole = run("recommend", "mf", "--user", 7, "-k", 30, "--with-seen")[1]
    assert len(whole.splitlines()) == 31


def test_an_index_is_made_measured_and_searched(trained, run):
    code, out, err = run("index", "mf", "--out", "ix", "-k", 5)
    assert (code, err) == (0, "")
    assert "recall of the exact top 5  1.0000  (40 users, seed 1)" in out
    assert "users a second" in out
    assert json.loads(Path("ix/index.json").read_text())["worth"]["k"] == 5
    plain, indexed = (run("recommend", "mf", "-k", 5, *more)[1] for more in ((), ("--index", "ix")))
    items = [pl.read_csv(text.encode())["item"] for text in (plain, indexed)]
    assert (items[0] == items[1]).mean() > 0.99


def test_unknown_users_and_like_items(trained, run):
    code, _, err = run("recommend", "mf", "--user", "me", "--user", "3", "--out", "x.csv")
    assert (code, Path("x.csv").exists()) == (2, False)
    assert "nothing was learnt of user 'me'; leave them out, or give them what is popular: --unknown" in err
    code, out, _ = run("recommend", "mf", "--user", "me", "-k", 3, "--unknown", "popular")
    assert code == 0
    assert [line.split(",")[:2] for line in out.splitlines()[1:]] == [["me", "1"], ["me", "2"], ["me", "3"]]
    code, out, err = run("recommend", "mf", "--like", 4, "--like", 9, "-k", 2)
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "like,rank,item,score"
    assert [line.split(",")[0] for line in out.splitlines()[1:]] == ["4", "4", "9", "9"]


def test_mistakes_are_told(trained, run):
    assert run("train", "itemknn", "data", "--out", "knn")[0] == 0
    assert run("train", "cml", "data", "--set", "train.epochs=1", "--out", "cml")[0] == 0
    assert run("index", "cml", "--out", "of_cml")[0] == 0
    Path("users.csv").write_text("user\n3\n")
    Path("holes.csv").write_text("who,x\n3,1\n,1\n")
    mf = ("recommend", "mf")
    for words, said in (
        ((*mf, "-k", 0), "k = 0: a list of 30 items has 1 to 30 places"),
        ((*mf, "-k", 31), "k = 31: a list of 30 items has 1 to 30 places"),
        ((*mf, "--users", "users.csv"), "users.csv: no column named 'who'"),
        ((*mf, "--users", "holes.csv"), "holes.csv: column 'who', row 2: no value, which is needed to"),
        ((*mf, "--users", "none.csv"), "none.csv: no such file"),
        ((*mf, "--users", "users.csv", "--user", 3), "give one of them"),
        ((*mf, "--like", 3, "--with-seen"), "belong to lists for users"),
        ((*mf, "--like", "three"), "no item 'three'; leave them out"),
        ((*mf, "--out", "x.txt"), "--out x.txt: the name must end in .csv or .parquet"),
        ((*mf, "--index", "of_cml"), "of_cml: is the index of another run"),
        ((*mf, "--index", "nowhere"), "no such file; `recsys-zoo index RUN --out DIR` makes an index"),
        (("recommend", "nowhere"), "nowhere: no such folder"),
        (("recommend", "knn", "--like", 3), "itemknn: has no vectors"),
        (("index", "knn", "--out", "ix"), "itemknn: has no vectors of users and items"),
        (("index", "mf", "--out", "data"), "data: exists and is no index"),
        (("index", "mf", "--out", "ix", "--lists", 3), "lists and probes belong to ivf"),
        (("index", "mf", "--out", "ix", "-k", 31), "k = 31: a list of 30 items"),
    ):
        code, out, err = run(*words)
        assert (code, out) == (2, ""), words
        assert said in err, err
        assert "Traceback" not in err
    assert not Path("ix").exists()
    assert not Path("x.txt").exists()


def test_a_click_model_is_refused(prepared, run):
    assert run("train", "lr", "data", "--out", "clicks", *QUICK)[0] == 0
    for words in (("recommend", "clicks"), ("index", "clicks", "--out", "ix")):
        code, _, err = run(*words)
        assert (code, "holds lr, which gives click probabilities and ranks no items" in err) == (2, True), err


def test_a_reader_who_leaves_is_no_error(trained, monkeypatch):
    there, here = os.pipe()
    os.close(there)
    monkeypatch.setattr(sys, "argv", ["recsys-zoo", "recommend", "mf"])
    with os.fdopen(here, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        with pytest.raises(SystemExit) as stop:
            cli.main()
        print("what Python still flushes at its end goes nowhere", flush=True)
    assert stop.value.code == 0


@pytest.mark.parametrize(("items", "k"), [(7, 7), (20, 20), (500, 20)])
def test_where_nothing_is_said_a_list_has_twenty_items_or_all(items, k):
    assert cli_rank._default(SimpleNamespace(model=SimpleNamespace(num_items=items))) == k
