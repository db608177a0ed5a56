"""From another library's configuration to a trained model, by the command line alone."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest

from .shop import shop

NAMES = {"user": "user_id:token", "item": "item_id:token", "price": "price:float", "click": "label:float"}
CONFIG = """
model: DeepFM
dataset: shop
load_col: {inter: [user_id, item_id, price, label]}
numerical_features: [price]
normalize_all: True
mlp_hidden_size: [8]
embedding_size: 4
train_batch_size: 64
epochs: 2
"""


@pytest.fixture
def atomic(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("shop").mkdir()
    frame = shop().select(*NAMES).rename(NAMES)
    frame.write_csv("shop/shop.inter", separator="\t")
    Path("shop.yaml").write_text(CONFIG)
    return tmp_path


def test_the_printed_command_is_one_for_a_shell(atomic, run):
    Path("shop").rename("my shop")
    names = ("--data", "my shop", "--out", "r.toml", "--schema", "the schema.toml")
    _, out, _ = run("import", "shop.yaml", *names)
    words = shlex.split(out.splitlines()[-1].removeprefix("next: recsys-zoo "))
    assert words[:-1] == ["prepare", "my shop/shop.inter", "--schema", "the schema.toml", "--out"]
    assert run(*words[:-1], "data")[0] == 0
    shutil.copy("my shop/shop.inter", "all rows.tsv")
    _, out, _ = run("prepare", "--infer", "all rows.tsv", "--schema", "a draft.toml")
    words = shlex.split(out.partition("edit it, then: recsys-zoo ")[2])
    assert words == ["prepare", "all rows.tsv", "--schema", "a draft.toml", "--out", "DIR"]


def test_recboles_files_are_imported_prepared_and_trained(atomic, run):
    words = ("import", "shop.yaml", "--data", "shop", "--out", "recipe.toml", "--schema", "schema.toml")
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    assert "wrote recipe.toml\nwrote schema.toml\ndiffers: " in out
    assert out.splitlines()[-1] == "next: recsys-zoo prepare shop/shop.inter --schema schema.toml --out DIR"
    said = [line.removeprefix("differs: ") for line in out.splitlines() if line.startswith("differs: ")]
    for file in ("recipe.toml", "schema.toml"):
        assert [f"# {line}" for line in said] == Path(file).read_text().splitlines()[1 : 1 + len(said)]
    assert run("prepare", "shop/shop.inter", "--schema", "schema.toml", "--out", "data")[0] == 0
    code, out, err = run("train", "recipe.toml", "data", "--out", "run")
    assert code == 0, err
    assert "test.auc" in out
    assert run(*words)[::2] == (2, "error: recipe.toml: exists already; choose another name\n")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("missing.yaml",), "missing.yaml: no such file"),
        (("shop",), "shop: a FuxiCTR folder goes alone, with --experiment NAME"),
        (("shop", "--experiment", "x", "--model", "FM"), "a FuxiCTR folder goes alone"),
        (("shop", "--experiment", "x"), "shop/model_config.yaml: no such file"),
        (("shop.yaml", "--experiment", "x"), "--experiment needs a FuxiCTR folder, and shop.yaml is none"),
        (("shop.yaml", "--model", "FiGNN"), "no model to translate named 'FiGNN'"),
        (("shop.yaml", "--schema", "s.toml"), "dataset/shop/shop.inter: no such file"),
    ],
)
def test_a_mistake_is_one_sentence_and_writes_nothing(words, sentence, atomic, run):
    before = sorted(atomic.rglob("*"))
    code, out, err = run("import", *words, "--out", "recipe.toml")
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert sentence in err
    assert err.count("\n") == 1
    assert sorted(atomic.rglob("*")) == before
