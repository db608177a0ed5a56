"""From a table and a file of vectors to a trained model, by the command line alone."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from recsys_zoo import load
from recsys_zoo.data.encode import Encoder
from recsys_zoo.data.store import Prepared

from .shop import QUICK, shop

DIM = 4  # of QUICK
KEYS = [f"i{k}" for k in range(3, 31)]  # the shop sells i0 to i24
PREPARE = ("prepare", "shop.csv", "--schema", "shop.toml", "--out", "data")
ONE_STEP = ("--set", "train.batch_size=1000", "--set", "train.epochs=1", "--set", "train.lr=0.01")


def matrix(rows: int = len(KEYS), dim: int = DIM) -> np.ndarray:
    return np.random.default_rng(6).normal(size=(rows, dim)).astype(np.float32)


@pytest.fixture
def files(folder):
    np.savez("items.npz", key=np.array(KEYS), value=matrix())
    with h5py.File("items.h5", "w") as file:
        file["ids"], file["emb"] = KEYS, matrix()
    return folder


@pytest.mark.parametrize("file", ["items.npz", "items.h5:ids:emb"])
def test_a_model_starts_from_the_vectors(files, run, file):
    code, out, err = run(*PREPARE, "--vectors", f"item={file}")
    assert code == 0, err
    assert "item: 22 values start from vectors of width 4, 3 without one from zeros; 6 vectors of" in out
    data = Prepared.open("data")
    data.verify()
    start = data.vectors()["item"]
    texts = Encoder.open("data/encoding").decode("item", np.arange(len(start)))
    assert set(texts) - {None} == set(shop()["item"])  # no key has joined them
    by_key = dict(zip(KEYS, matrix(), strict=True))
    for text, row in zip(texts, start, strict=True):
        np.testing.assert_array_equal(row, by_key.get(text, np.zeros(DIM)))
    for frozen in ("[]", '["item"]'):
        words = (*QUICK, *ONE_STEP, "--set", f"model.embedding.frozen={frozen}")
        code, out, err = run("train", "fm", "data", "--out", f"run{len(frozen)}", *words)
        assert code == 0, err
        assert "column item: 1 table of this model starts from the data's vectors" in out
        trained = load(f"run{len(frozen)}").model.embedding.matrix("item").detach().numpy()
        moved = np.abs(trained - start)
        if frozen == "[]":  # one step of Adam moves every row that training has, by the learning rate at most
            assert (moved[2:].max(1) > 0.005).all()
            assert moved.max() < 0.0101
        else:
            assert moved.max() == 0
    assert sorted(p.name for p in files.iterdir() if p.name.startswith(".")) == []


def test_vectors_stay_when_rows_are_appended(files, run):
    assert run(*PREPARE, "--vectors", "item=items.npz")[0] == 0
    before = np.array(Prepared.open("data").vectors()["item"])
    shop(40).with_columns(item=shop(40)["item"].replace("i5", "i27")).write_csv("day.csv")
    code, out, err = run("prepare", "--append", "data", "--split", "train=day.csv", "--grow")
    assert code == 0, err
    after = Prepared.open("data").vectors()["item"]
    np.testing.assert_array_equal(after[:-1], before)
    assert not after[-1].any()
    assert "item: 22 values start from vectors of width 4, 4 without one from zeros" in out


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("itm=items.npz", "no column named 'itm'; did you mean ['item']?"),
        ("price=items.npz", "items.npz: column 'price' has no vocabulary of texts of its own; give"),
        ("item=items.h5", "items.h5: has no data set 'key' beside ['emb', 'ids']; --vectors takes item"),
        ("item=items.npz:key:emb", "items.npz: has no data set 'emb' beside ['key', 'value']; --vectors"),
        ("item=flat.npz", "flat.npz: keys int64 [3], vectors [3]; whole numbers or texts [N] and vectors"),
        ("item=short.npz", "short.npz: 28 keys and a matrix [5, 4]; give one vector a key, [keys, width]"),
        ("item=odd.npz", "odd.npz: the vector of key 'i9' is not finite; mend it or leave the key out"),
        ("item=others.npz", "others.npz: none of its 3 keys (the first is '0') is a value of column 'item'"),
        ("item=none.npz", "none.npz: no such file; --vectors takes item=FILE or item=FILE:KEYS:VECTORS"),
        ("item", "--vectors item: write it as COLUMN=FILE or COLUMN=FILE:KEYS:VECTORS"),
    ],
)
def test_wrong_vectors_are_one_sentence_and_leave_nothing(files, run, word, sentence):
    odd = matrix()
    odd[6, 1] = np.nan
    np.savez("flat.npz", key=np.arange(3), value=np.ones(3))
    np.savez("short.npz", key=np.array(KEYS), value=matrix(5))
    np.savez("odd.npz", key=np.array(KEYS), value=odd)
    np.savez("others.npz", key=np.arange(3), value=matrix(3))
    before = sorted(p.name for p in files.iterdir())
    code, _, err = run(*PREPARE, "--vectors", word)
    assert (code, err.count("\n")) == (2, 1)
    assert sentence in err
    assert sorted(p.name for p in files.iterdir()) == before


def test_two_files_for_one_column(files, run):
    code, _, err = run(*PREPARE, "--vectors", "item=items.npz", "--vectors", "item=items.h5:ids:emb")
    assert code == 2
    assert "item=items.h5:ids:emb: column 'item' has vectors already; leave one out" in err


def test_a_model_of_another_width_says_so(files, run):
    assert run(*PREPARE, "--vectors", "item=items.npz")[0] == 0
    code, _, err = run("train", "fm", "data", "--out", "run", *QUICK, "--set", "model.embedding.dim=6")
    assert (code, err.count("\n")) == (2, 1)
    assert "vectors of width 4 for column 'item', the model's rows have 6; set embedding.dim or" in err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--append", "data", "--split", "train=shop.csv"), "takes no --infer, --out, --table or --vectors"),
        (("shop.csv", "--infer"), "--vectors belongs to --out DIR; give both, or leave it out"),
    ],
)
def test_vectors_belong_to_a_preparation(files, run, words, sentence):
    code, _, err = run("prepare", *words, "--vectors", "item=items.npz")
    assert code == 2
    assert sentence in err
