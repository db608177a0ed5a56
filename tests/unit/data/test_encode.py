"""New frames get the ids that preparation gave to the same rows; the encoder's folder stands alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from recsys_zoo.batch import Inputs
from recsys_zoo.data.encode import Encoder
from recsys_zoo.data.prepare import prepare
from recsys_zoo.data.read import read_frame
from recsys_zoo.data.store import Prepared
from recsys_zoo.errors import InputError, UnknownName

from .tables import Row, as_frame, toy_rows, toy_spec


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return toy_rows(60)


@pytest.fixture(scope="module")
def data(rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("encode")
    as_frame(rows).write_csv(folder / "toy.csv")
    return prepare([folder / "toy.csv"], toy_spec(), folder / "out")


@pytest.fixture(scope="module")
def encoder(data: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    copy = tmp_path_factory.mktemp("checkpoint") / "vocab"
    shutil.copytree(data.folder / "encoding", copy)
    return Encoder.open(copy)


def _equal(one: Inputs, two: Inputs) -> bool:
    bags = one.bags.keys() == two.bags.keys() and all(torch.equal(one.bags[k], two.bags[k]) for k in one.bags)
    return torch.equal(one.ids, two.ids) and torch.equal(one.numeric, two.numeric) and bags


def _without_labels(rows: list[Row]) -> pl.DataFrame:
    return as_frame([row for row in rows if row["part"] == "test"]).drop("click", "part")


def test_a_copy_of_the_encoding_alone_gives_the_prepared_ids(data: Prepared, encoder: Encoder,
                                                             rows: list[Row]):
    assert encoder.schema == data.schema
    assert _equal(encoder.encode(_without_labels(rows)), data.split("test").inputs(slice(None)))


def test_polars_pandas_dicts_and_files_are_encoded_alike(encoder: Encoder, rows: list[Row], tmp_path: Path):
    frame = _without_labels(rows)
    frame.write_csv(tmp_path / "new.csv")
    expected = encoder.encode(frame)
    records = frame.to_dicts()
    pandas = pd.DataFrame(records)
    as_list = {name: [record[name] for record in records] for name in frame.columns}
    other_types = pandas.astype({"user": "category", "count": "float64"})
    arrays = {name: pandas.convert_dtypes()[name].array for name in pandas}
    indices = {name: pd.Index(pandas[name]) for name in pandas}
    for same in (pandas, pandas.convert_dtypes(), other_types, as_list, arrays, indices,
                 {name: np.array(values, object) for name, values in as_list.items()},
                 read_frame(tmp_path / "new.csv"), pandas.set_index("user", drop=False)):
        assert _equal(encoder.encode(same), expected)


def test_integers_with_gaps_in_pandas_are_the_same_values(tmp_path: Path):
    rows = [{**row, "user": str(k % 4)} for k, row in enumerate(toy_rows())]
    as_frame(rows).write_parquet(tmp_path / "t.parquet")
    prepare([tmp_path / "t.parquet"], toy_spec(columns=[{"name": "user"}], item=""), tmp_path / "out")
    encoder = Encoder.open(tmp_path / "out" / "encoding")
    expected = encoder.encode({"user": ["3", None, "0"]}).ids.tolist()
    assert expected[1] == [1]
    assert encoder.encode(pd.DataFrame({"user": [3, None, 0]})).ids.tolist() == expected
    assert encoder.encode({"user": [3, None, 0]}).ids.tolist() == expected


def test_unknown_and_missing_values(encoder: Encoder):
    frame = {"user": ["nobody", None], "item": [None, "i0"], "price": [None, 2.0], "tags": [None, "no|i1"],
             "seen": ["", "i0^no^i0^no"], "count": [None, 1]}
    x = encoder.encode(frame)
    known = encoder.vocabularies["item"].encode(pl.Series(["i0"]))[0]
    assert x.ids[:, :2].tolist() == [[1, 1], [1, known]]
    assert x.ids[0, 2:].tolist() == [1, 1]  # no bucket
    assert x.numeric[0].tolist() == [0.0, 0.0]
    assert x.bags["tags"][0].tolist() == [0, 0]
    assert x.bags["tags"][1][0] == 1
    assert x.bags["seen"].tolist() == [[0, 0, 0], [1, known, 1]]


def test_known_ids_decode_to_their_values(encoder: Encoder, rows: list[Row]):
    frame = _without_labels(rows)
    ids = encoder.encode(frame).ids
    back = encoder.decode("user", ids[:, 0].numpy())
    for text, number, decoded in zip(frame["user"], ids[:, 0].tolist(), back, strict=True):
        assert decoded == (text if number > 1 else None)
    assert encoder.decode("seen", np.array([0, 1])) == [None, None]
    with pytest.raises(InputError, match="'price' is numeric"):
        encoder.decode("price", np.array([2]))
    with pytest.raises(UnknownName, match="did you mean"):
        encoder.decode("usr", np.array([2]))


def test_no_rows_give_empty_inputs(encoder: Encoder, rows: list[Row]):
    empty = _without_labels(rows).head(0)
    for nothing in (empty, pd.DataFrame(empty.to_dict(as_series=False))):
        x = encoder.encode(nothing)
        assert len(x) == 0
        assert x.bags["seen"].shape == (0, 3)


@pytest.mark.parametrize(("change", "said"), [
    (lambda f: f.drop("user"), r"frame: no column named 'user'; did you mean"),
    (lambda f: f.rename({"count": "cout"}), r"no column named 'count'; did you mean \['cout'"),
    (lambda f: f.with_columns(price=pl.lit("dear")), r"frame: column 'price', row 1: 'dear' is not a number"),
    (lambda f: {name: values[:1] if name == "user" else values[:2] for name, values in f.to_dict().items()},
     "frame: not columns of equal length"),
    (lambda f: f.rows(), "frame: expected a polars or pandas frame or a dict of columns, got list"),
    (lambda f: pd.concat([pd.DataFrame(f.to_dicts()), pd.DataFrame({"user": ["a"] * f.height})], axis=1),
     "frame: two columns are named 'user'"),
])
def test_a_frame_that_does_not_fit_is_refused(encoder: Encoder, rows: list[Row], change, said: str):
    with pytest.raises(InputError, match=said):
        encoder.encode(change(_without_labels(rows)))


def test_save_and_open_again(encoder: Encoder, rows: list[Row], tmp_path: Path):
    encoder.save(tmp_path / "again")
    again = Encoder.open(tmp_path / "again")
    assert again.schema == encoder.schema
    assert again.fitted == encoder.fitted
    assert _equal(again.encode(_without_labels(rows)), encoder.encode(_without_labels(rows)))


@pytest.mark.parametrize("name", ["spec.json", "numeric.json", "user.parquet"])
def test_an_incomplete_encoder_is_named(encoder: Encoder, tmp_path: Path, name: str):
    encoder.save(tmp_path / "again")
    (tmp_path / "again" / name).unlink()
    with pytest.raises(InputError, match=f"{name}: no such file"):
        Encoder.open(tmp_path / "again")
