"""Pretrained vectors: from keys and a matrix to the rows of a vocabulary, and on into a model's tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from recsys_zoo import runs
from recsys_zoo.data import vectors as module
from recsys_zoo.data.append import append
from recsys_zoo.data.encode import Encoder
from recsys_zoo.data.prepare import prepare
from recsys_zoo.data.store import Prepared
from recsys_zoo.data.vectors import Vectors
from recsys_zoo.errors import InputError, UnknownName
from recsys_zoo.nn.embedding import load_vectors
from recsys_zoo.zoo import create

from .tables import as_frame, naive, toy_rows, toy_spec

DIM = 3
KEYS = ["i1", "i2", "i3", "i0", "i77", "i12"]  # i77 is in no row, i0 is the most frequent of training


def vectors(keys: list[str] | None = None, dim: int = DIM) -> Vectors:
    keys = KEYS if keys is None else keys
    rng = np.random.default_rng(3)
    return Vectors(pl.Series(keys), rng.normal(size=(len(keys), dim)), "vectors")


def prepared(tmp_path: Path, name: str = "out", **changes) -> Prepared:
    path = tmp_path / "toy.parquet"
    as_frame(toy_rows()).write_parquet(path)
    return prepare([path], toy_spec(), tmp_path / name, **{"vectors": {"item": vectors()}, **changes})


def test_rows_follow_the_vocabulary(tmp_path, monkeypatch):
    """Every key is a value, seen or not; a value without a vector, padding and unknown have zeros."""
    monkeypatch.setattr(module, "_BLOCK", 2)
    data = prepared(tmp_path)
    data.verify()
    rows, encoder = data.vectors()["item"], Encoder.open(data.folder / "encoding")
    texts = encoder.decode("item", np.arange(len(rows)))
    by_key = dict(zip(KEYS, vectors().matrix.astype(np.float32), strict=True))
    known = naive(toy_rows())[0]["item"]  # value -> id, without vectors
    assert set(texts) == {None, *known, *KEYS}
    assert len(rows) == 2 + len(set(known) | set(KEYS)) == data.schema.column("seen").vocab_size
    assert set(known) - set(KEYS)
    for text, row in zip(texts, rows, strict=True):
        np.testing.assert_array_equal(row, by_key.get(text, np.zeros(DIM)))


def test_a_key_seen_too_rarely_keeps_its_count_and_its_row(tmp_path):
    """min_count = 2 makes i12, seen once or never in training, unknown unless it has a vector."""
    seen = [
        value
        for row in toy_rows()
        if row["part"] == "train"
        for value in (row["item"], *row["seen"].split("^"))
        if value
    ]
    rare = next(value for value in sorted(set(seen)) if seen.count(value) == 1)
    data = prepared(tmp_path, vectors={"item": vectors([rare])})
    vocabulary = Encoder.open(data.folder / "encoding").vocabularies["item"]
    counts = dict(zip(vocabulary.values, vocabulary.counts, strict=True))
    assert counts[rare] == 1
    assert {v: n for v, n in counts.items() if v != rare} == {
        v: seen.count(v) for v in set(seen) if seen.count(v) >= 2
    }


def test_vectors_are_part_of_the_digest(tmp_path):
    plain = prepared(tmp_path, "plain", vectors=None)
    one, again = prepared(tmp_path, "one"), prepared(tmp_path, "again", batch_rows=7)
    other = vectors()
    other.matrix[2, 1] += 1
    two = prepared(tmp_path, "two", vectors={"item": other})
    assert one.data_digest == again.data_digest
    assert len({plain.data_digest, one.data_digest, two.data_digest}) == 3
    assert "vectors" not in plain.record
    assert plain.vectors() == {}


@pytest.mark.parametrize("grow", [False, True])
def test_appending_keeps_the_rows_and_puts_zeros_behind_them(tmp_path, monkeypatch, grow):
    monkeypatch.setattr(module, "_BLOCK", 2)
    old = prepared(tmp_path)
    before = np.array(old.vectors()["item"])
    later = [{**row, "item": "i200"} for row in toy_rows()]
    as_frame(later).write_parquet(tmp_path / "later.parquet")
    data = append(old.folder, {"train": [tmp_path / "later.parquet"]}, grow=grow)
    data.verify()
    after = data.vectors()["item"]
    np.testing.assert_array_equal(after[: len(before)], before)
    assert (len(after) > len(before)) == grow
    assert not after[len(before) :].any()


def test_changed_bytes_are_found(tmp_path):
    data = prepared(tmp_path)
    path = data.folder / "vectors" / "item.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"vectors/item\.npy: its bytes are not the ones that were written"):
        Prepared.open(data.folder).verify()
    np.save(path, np.zeros((2, DIM), np.float32))
    with pytest.raises(InputError, match=r"item\.npy: has shape \[2, 3\], but the vocabulary has \d+ rows"):
        Prepared.open(data.folder).vectors()
    np.save(path, np.zeros((2, DIM)))
    with pytest.raises(InputError, match=r"item\.npy: holds float64, not float32"):
        Prepared.open(data.folder).vectors()
    path.unlink()
    with pytest.raises(InputError, match=r"item\.npy: no such file"):
        Prepared.open(data.folder).vectors()


def test_numbers_as_keys_are_the_values_of_the_files():
    assert Vectors(pl.Series([7, 12]), np.ones((2, 1)), "v").keys.to_list() == ["7", "12"]
    assert Vectors(pl.Series([7.0, 12.5]), np.ones((2, 1)), "v").keys.to_list() == ["7", "12.5"]


@pytest.mark.parametrize(
    ("keys", "matrix", "sentence"),
    [
        (["a", "b", "a"], np.ones((3, 2)), r"v: key 'a' \(vector 1\) is missing or double; give every"),
        (["a", None], np.ones((2, 2)), r"v: key None \(vector 2\) is missing or double"),
        (["a", ""], np.ones((2, 2)), r"v: key None \(vector 2\)"),
        (["a"], np.ones((2, 2)), r"v: 1 keys and a matrix \[2, 2\]; give one vector a key"),
        (["a", "b"], np.ones(2), r"v: 2 keys and a matrix \[2\]"),
        ([], np.ones((0, 2)), r"v: 0 keys and a matrix \[0, 2\]"),
    ],
)
def test_wrong_vectors(keys, matrix, sentence):
    with pytest.raises(InputError, match=sentence):
        Vectors(pl.Series(keys, dtype=pl.String), matrix, "v")


@pytest.mark.parametrize(
    ("column", "sentence"),
    [
        ("itm", r"no column named 'itm'; did you mean \['item'\]"),
        (
            "seen",
            "vectors: column 'seen' has no vocabulary of texts of its own; give the vectors to column 'item'",
        ),
        ("price", "vectors: column 'price' has no vocabulary .* to a categorical column"),
        ("bucket", "vectors: column 'bucket' has no vocabulary"),
    ],
)
def test_columns_that_take_no_vectors(tmp_path, column, sentence):
    with pytest.raises((InputError, UnknownName), match=sentence):
        prepared(tmp_path, vectors={column: vectors()})
    assert [p.name for p in tmp_path.iterdir()] == ["toy.parquet"]


def test_a_vector_that_is_not_finite(tmp_path):
    wrong = vectors()
    wrong.matrix[3, 0] = np.nan
    with pytest.raises(InputError, match="vectors: the vector of key 'i0' is not finite; mend it or leave"):
        prepared(tmp_path, vectors={"item": wrong})
    assert [p.name for p in tmp_path.iterdir()] == ["toy.parquet"]


def test_a_split_cannot_take_the_place_of_the_vectors():
    with pytest.raises(InputError, match="split name 'vectors'"):
        toy_spec(split={"method": "hash", "fractions": {"train": 0.5, "vectors": 0.5}})


def test_every_table_of_a_model_takes_them(tmp_path):
    rows = torch.from_numpy(prepared(tmp_path).vectors()["item"])
    schema = Prepared.open(tmp_path / "out").schema
    model = create("hofm", schema, seed=0, embedding={"dim": DIM}, order=3)  # two tables beside first-order
    before = model.linear.embedding.matrix("item").clone()
    assert load_vectors(model, "item", rows) == 2
    for layer in model.embeddings:
        assert torch.equal(layer.matrix("item"), rows)
        assert torch.equal(layer.matrix("seen"), rows)
    assert torch.equal(model.linear.embedding.matrix("item"), before)
    assert load_vectors(create("lr", schema), "item", rows) == 0
    with pytest.raises(
        InputError, match="vectors of width 3 for column 'item', the model's rows have 5; set"
    ):
        load_vectors(create("fm", schema, embedding={"dim": 5}), "item", rows)


@pytest.mark.parametrize("frozen", [True, False])
def test_a_run_starts_from_them(tmp_path, frozen):
    """Frozen columns end the run with the data's vectors bit for bit, others have moved from them."""
    data, said = prepared(tmp_path), []
    cfg = runs.RunConfig.parse(
        {
            "model": {"name": "fm", "embedding": {"dim": DIM, "frozen": ["item"] if frozen else []}},
            "train": {"epochs": 1, "batch_size": 8, "seed": 0},
            "bootstrap": 0,
        },
        "test",
    )
    row = runs.train(cfg, data, tmp_path / "run", callbacks=[], say=said.append)
    assert row.status == "done"
    assert row.selection == "valid"
    assert "column item: 1 table of this model starts from the data's vectors" in said
    from recsys_zoo.predictor import load

    trained = load(tmp_path / "run").model.embedding.matrix("item").detach()
    start = torch.from_numpy(data.vectors()["item"])
    assert torch.equal(trained, start) == frozen
    if not frozen:
        assert (trained - start).abs().max() < 0.1  # a handful of Adam steps away from them
