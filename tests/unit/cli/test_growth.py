"""Side tables and new days on the command line, up to a trained model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import recsys_zoo
from recsys_zoo.data.store import Prepared

from .shop import QUICK, SPEC, shop

TABLE = """
[[tables]]
files = ["items.csv"]
key = "item"
columns = ["tags", "colour"]
"""


@pytest.fixture
def side(tmp_path, monkeypatch) -> pl.DataFrame:
    """The shop with tags and colours in a table of 24 of its 25 items; the schema lies in another folder."""
    monkeypatch.chdir(tmp_path)
    Path("schemas").mkdir()
    columns = SPEC.replace("\n[split]", '\n[[columns]]\nname = "colour"\nside = "item"\n\n[split]')
    Path("schemas/shop.toml").write_text(columns + TABLE)
    items = pl.DataFrame({"item": [f"i{k}" for k in range(24)], "tags": [f"t{k % 5}|t6" for k in range(24)],
                          "colour": ["red", "blue", "grey"] * 8})  # fmt: skip
    items.write_csv("schemas/items.csv")
    clicks = shop().drop("tags")
    clicks.write_csv("shop.csv")
    return clicks.join(items, on="item", how="left", maintain_order="left")


def test_a_model_of_joined_data_scores_frames_with_and_without_the_columns(side, run):
    code, out, err = run("prepare", "shop.csv", "--schema", "schemas/shop.toml", "--out", "data")
    assert code == 0, err
    absent = side["tags"].null_count()
    assert absent > 5
    assert f"items.csv: 24 keys; {absent} rows have another item or none, and miss its columns" in out
    assert run("train", "lr", "data", "--out", "run", *QUICK)[0] == 0
    model = recsys_zoo.load("run")
    scores = model.predict(side)
    assert len(set(scores.tolist())) > 100
    assert np.array_equal(scores, model.predict(side.select("user", "item", "price")))
    assert not np.array_equal(scores, model.predict(side.with_columns(colour=pl.lit("red"))))
    assert run("predict", "run", "shop.csv", "--out", "scores.parquet")[0] == 0
    assert np.array_equal(pl.read_parquet("scores.parquet")["score"].to_numpy(), scores)
    pl.read_csv("shop.csv").with_columns(tags=pl.lit("t1")).write_csv("some.csv")
    code, _, err = run("predict", "run", "some.csv", "--out", "none.csv")
    assert code == 2
    assert "error: some.csv: has 'tags' but not 'colour' of the side table 'items.csv'" in err
    assert not Path("none.csv").exists()


def test_new_days_are_appended_and_old_checkpoints_stay_of_use(side, run):
    assert run("prepare", "shop.csv", "--schema", "schemas/shop.toml", "--out", "data")[0] == 0
    assert run("train", "lr", "data", "--out", "run", *QUICK)[0] == 0
    sizes = {name: len(Prepared.open("data").split(name)) for name in ("train", "valid", "test")}
    day = shop(100).drop("tags").with_columns(user=pl.col("user").replace("u3", "newcomer"))
    day.write_csv("day.csv")
    items = pl.read_csv("schemas/items.csv")
    items.vstack(pl.DataFrame({"item": ["i24"], "tags": ["t1"], "colour": ["red"]})).write_csv(
        "schemas/items.csv"
    )
    words = ("prepare", "--append", "data", "--split", "test=day.csv", "--schema", "schemas/shop.toml")
    code, out, err = run(*words)
    assert code == 0, err
    assert "items.csv: 25 keys" in out
    data = Prepared.open("data")
    assert len(data.split("test")) == sizes["test"] + 100
    code, out, err = run("evaluate", "run")  # same vocabularies and rules, another side table
    assert code == 0, err
    assert "test.auc" in out
    words = ("prepare", "--append", "data", "--split", "train=day.csv", "--grow")
    code, _, err = run(*words)
    assert (code, err.count("\n")) == (2, 1)
    assert "day.csv: has the same bytes as 'day.csv', which data holds already" in err
    assert run(*words, "--allow-repeat")[0] == 0
    grown = Prepared.open("data")
    grown.verify()
    assert len(grown.split("train")) == sizes["train"] + 100
    assert json.loads(Path("data/prepared.json").read_text())["appended"][1]["new_ids"] == {"user": 1}
    assert grown.split("train").ids.max(0)[0] == data.schema.column("user").vocab_size
    code, _, err = run("evaluate", "run")
    assert code == 2
    assert "its columns or vocabularies are not those the model was trained with" in err
    assert run("train", "lr", "data", "--out", "again", *QUICK)[0] == 0


def test_a_draft_with_a_side_table(side, run):
    words = (
        "prepare",
        "shop.csv",
        "--infer",
        "--table",
        "schemas/items.csv",
        "--schema",
        "schemas/draft.toml",
    )
    assert run(*words)[0] == 0
    assert 'files = ["items.csv"]' in Path("schemas/draft.toml").read_text()
    code, out, err = run("prepare", "shop.csv", "--schema", "schemas/draft.toml", "--out", "data")
    assert code == 0, err
    assert "items.csv: 24 keys" in out


@pytest.mark.parametrize(("words", "said"), [
    (("day.csv", "--append", "data"), "day.csv: say which split new rows go to, for example"),
    (("--append", "data", "--infer", "--split", "train=day.csv"), "--append takes no --infer, --out, "),
    (("--append", "data", "--out", "b", "--split", "train=day.csv"), "--append takes no --infer, --out, "),
    (("--append", "data", "--split", "day.csv"), "--split day.csv: write it as NAME=FILE"),
    (("--append", "data"), "no file is given; name the split of each file to append"),
    (("--append", "nothing", "--split", "train=day.csv"), "nothing: no such folder"),
    (("shop.csv", "--schema", "shop.toml", "--out", "c", "--grow"), "--grow belongs to --append DIR"),
    (("shop.csv", "--schema", "shop.toml", "--out", "c", "--allow-repeat"),
     "--allow-repeat belongs to --append DIR"),
    (("shop.csv", "--schema", "shop.toml", "--out", "c", "--table", "t.csv"), "--table belongs to --infer"),
    (("shop.csv", "--schema", "shop.toml", "--interactions"), "--interactions belongs to --infer"),
])  # fmt: skip
def test_words_that_do_not_belong_together(prepared, run, words, said):
    shop(60).write_csv("day.csv")
    before = Path("data/prepared.json").read_bytes()
    code, _, err = run("prepare", *words)
    assert (code, err.count("\n")) == (2, 1)
    assert said in err
    assert Path("data/prepared.json").read_bytes() == before
