"""Splits gather the rows asked for; a damaged, foreign or incomplete folder is refused with one sentence."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_leaves

from recsys_zoo.data.prepare import prepare
from recsys_zoo.data.store import Prepared, Split
from recsys_zoo.errors import InputError, UnknownName
from recsys_zoo.schema import Column, Schema

from .tables import as_frame, toy_rows, toy_spec

SCHEMA = Schema(dataset="d", labels=("y",), columns=(
    Column(name="bag", kind="bag", vocab_size=99, max_len=2),
    Column(name="a", kind="categorical", vocab_size=99), Column(name="n", kind="numeric"),
    Column(name="b", kind="categorical", vocab_size=99),
    Column(name="s", kind="sequence", vocab_size=99, max_len=3)))


def _split(**changes: np.ndarray | None) -> Split:
    arrays = {"ids": np.arange(70).reshape(10, 7), "numeric": np.arange(10.0)[:, None],
              "labels": np.arange(10) % 2}
    return Split(SCHEMA, **{**arrays, **changes})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    as_frame(toy_rows()).write_parquet(tmp_path / "toy.parquet")
    prepare([tmp_path / "toy.parquet"], toy_spec(), tmp_path / "out")
    return tmp_path / "out"


def test_a_batch_holds_the_rows_asked_for_in_their_order():
    batch = _split().batch(np.array([7, 2, 7]))
    assert batch.inputs.ids.tolist() == [[49, 50], [14, 15], [49, 50]]  # a, b: categoricals come first
    assert batch.inputs.bags["bag"].tolist() == [[51, 52], [16, 17], [51, 52]]
    assert batch.inputs.bags["s"].tolist() == [[53, 54, 55], [18, 19, 20], [53, 54, 55]]
    assert batch.inputs.numeric.tolist() == [[7.0], [2.0], [7.0]]
    assert batch.labels.tolist() == [1.0, 0.0, 1.0]
    assert batch.inputs.ids.dtype == torch.int32


def test_absent_weights_are_ones_and_absent_groups_zeros():
    batch = _split().batch(slice(0, 2))
    assert batch.weight.tolist() == [1.0, 1.0]
    assert batch.group.tolist() == [0, 0]
    given = _split(weight=np.arange(10.0), group=np.arange(10)[::-1]).batch(np.array([3]))
    assert (given.weight.tolist(), given.group.tolist()) == ([3.0], [6])


def test_a_slice_is_a_view_and_equals_the_gather():
    split = _split()
    view, gathered = split.batch(slice(2, 9)), split.batch(np.arange(2, 9))
    assert view.inputs.ids.data_ptr() == split.inputs(slice(2, None)).ids.data_ptr()
    leaves = torch.utils._pytree.tree_leaves
    for one, two in zip(leaves(view), leaves(gathered), strict=True):
        assert torch.equal(one, two)


def test_several_labels_stay_two_dimensional():
    schema = SCHEMA.model_copy(update={"labels": ("click", "buy")})
    split = Split(schema, np.zeros((4, 7)), np.zeros((4, 1)), np.arange(8.0).reshape(4, 2))
    assert split.batch(np.array([1, 3])).labels.tolist() == [[2.0, 3.0], [6.0, 7.0]]


def test_first_rows_are_views(folder: Path):
    split = Prepared.open(folder).split("train")
    part = split.first(2)
    assert len(part) == 2
    assert np.shares_memory(part.ids, split.ids)
    for tensor, expected in zip(tree_leaves(part.batch(slice(0, 2))), tree_leaves(split.batch(slice(0, 2))),
                                strict=True):
        assert torch.equal(tensor, expected)


def test_a_split_on_a_device_takes_row_numbers_there(folder: Path):
    split = Prepared.open(folder).split("train")
    there = split.on(torch.device("meta"))
    batch = there.batch(torch.tensor([2, 0], device="meta"))
    like = split.batch(np.array([2, 0]))
    for tensor, expected in zip(tree_leaves(batch), tree_leaves(like), strict=True):
        assert (tensor.device.type, tensor.shape, tensor.dtype) == ("meta", expected.shape, expected.dtype)
    same = split.on(torch.device("cpu")).batch(torch.tensor([2, 0]))
    assert all(map(torch.equal, tree_leaves(same), tree_leaves(like)))


@pytest.mark.parametrize(("name", "array"), [
    ("ids", np.zeros((10, 6))), ("numeric", np.zeros((9, 1))), ("labels", np.zeros((10, 2))),
    ("weight", np.zeros(9)), ("group", np.zeros((10, 1)))])
def test_a_matrix_of_another_shape_is_refused(name: str, array: np.ndarray):
    with pytest.raises(InputError, match=f"{name} has shape"):
        _split(**{name: array})


def test_in_memory_data_has_a_digest_of_its_content():
    one = Prepared.in_memory(SCHEMA, {"train": _split()})
    same = Prepared.in_memory(SCHEMA, {"train": _split()})
    labels = np.arange(10) % 2
    labels[4] = 1
    other = Prepared.in_memory(SCHEMA, {"train": _split(labels=labels)})
    assert one.data_digest == same.data_digest != other.data_digest
    assert Prepared.in_memory(SCHEMA, {"train": _split()}, "abc").data_digest == "abc"
    assert one.names == ("train",)
    assert one.table_sizes == {"a": 99, "b": 99, "bag": 99, "s": 99}


def test_an_unknown_split_is_named_with_near_matches(folder: Path):
    with pytest.raises(UnknownName, match=r"did you mean \['valid'\]"):
        Prepared.open(folder).split("valdi")


def test_an_untouched_folder_verifies(folder: Path):
    Prepared.open(folder).verify()


@pytest.mark.parametrize("name", ["train/ids.npy", "test/labels.npy", "encoding/user.parquet", "schema.json"])
def test_a_flipped_byte_is_found_and_the_file_named(folder: Path, name: str):
    content = bytearray((folder / name).read_bytes())
    content[-3] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: "):
        Prepared.open(folder).verify()


def test_an_edited_record_is_found(folder: Path):
    record = json.loads((folder / "prepared.json").read_text())
    record["table_sizes"]["user"] += 1
    (folder / "prepared.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="digest does not fit"):
        Prepared.open(folder).verify()


def test_open_names_what_is_missing(folder: Path, tmp_path: Path):
    with pytest.raises(InputError, match=r"no such folder; make it with `recsys-zoo prepare"):
        Prepared.open(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"is .* a prepared folder"):
        Prepared.open(tmp_path)
    (folder / "valid" / "numeric.npy").unlink()
    with pytest.raises(InputError, match=r"valid/numeric\.npy: no such file"):
        Prepared.open(folder)


def test_open_refuses_a_truncated_matrix(folder: Path):
    path = folder / "train" / "ids.npy"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputError, match=r"train/ids\.npy: not a whole \.npy file"):
        Prepared.open(folder)


def test_open_refuses_a_matrix_of_other_rows_or_type(folder: Path):
    ids = np.load(folder / "test" / "ids.npy")
    np.save(folder / "test" / "ids.npy", ids[:-1])
    with pytest.raises(InputError, match=r"11 rows where prepared\.json says 12"):
        Prepared.open(folder)
    np.save(folder / "test" / "ids.npy", ids.astype(np.int64))
    with pytest.raises(InputError, match="holds int64, not int32"):
        Prepared.open(folder)


def test_open_refuses_pickled_objects(folder: Path):
    np.save(folder / "test" / "labels.npy", np.array([{}] * 12, object), allow_pickle=True)
    with pytest.raises(InputError, match=r"labels\.npy: not a whole"):
        Prepared.open(folder)


def test_open_refuses_another_format_and_broken_json(folder: Path):
    record = json.loads((folder / "prepared.json").read_text())
    (folder / "prepared.json").write_text(json.dumps({**record, "format": 2}))
    with pytest.raises(InputError, match="format 2 where 1 was expected"):
        Prepared.open(folder)
    (folder / "prepared.json").write_text(json.dumps({**record, "splits": {"train": {}}}))
    with pytest.raises(InputError, match="a split without rows or files"):
        Prepared.open(folder)
    (folder / "prepared.json").write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        Prepared.open(folder)


def test_the_store_is_read_without_polars(folder: Path):
    code = ("import sys; from recsys_zoo.data.store import Prepared; d = Prepared.open(sys.argv[1]); "
            "d.verify(); d.split('train').batch(slice(0, 4)); sys.exit('polars' in sys.modules)")
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, timeout=60)
