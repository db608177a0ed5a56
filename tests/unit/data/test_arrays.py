"""Vectors out of HDF5 and .npz files, whole and damaged."""

from __future__ import annotations

import random
import sys
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest

from recsys_zoo.data import arrays
from recsys_zoo.data.arrays import named_vectors, read_vectors
from recsys_zoo.errors import InputError

from ..test_fuzz import accidents, damaged, one_sentence


def write(path: Path, **content) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **content)
        return path
    with h5py.File(path, "w") as file:
        for name, values in content.items():
            file[name] = values
    return path


@pytest.mark.parametrize("file", ["v.h5", "v.npz"])
@pytest.mark.parametrize("width", ["f4", "f8", "i2"])
def test_keys_and_values(tmp_path, monkeypatch, file, width):
    monkeypatch.setattr(arrays, "_BLOCK", 3)
    value = (9 * np.random.default_rng(0).normal(size=(7, 5))).astype(width)
    found = read_vectors(write(tmp_path / file, key=np.arange(7) * 3, value=value), tmp_path, "get it")
    assert found.keys.to_list() == ["0", "3", "6", "9", "12", "15", "18"]
    assert found.matrix.dtype == np.float32
    np.testing.assert_array_equal(found.matrix, value.astype(np.float32))


@pytest.mark.parametrize(
    ("file", "keys"),
    [
        ("v.h5", ["ä", "b c"]),  # texts of any length
        ("v.h5", np.array(["ä".encode(), b"b c"])),  # texts of one length
        ("v.npz", np.array(["ä", "b c"])),
        ("v.npz", np.array(["ä".encode(), b"b c"])),
    ],
)
def test_texts_as_keys_and_other_names(tmp_path, file, keys):
    path = write(tmp_path / file, ids=keys, emb=np.eye(2), key=[1, 2, 3])
    found = read_vectors(path, tmp_path, "get it", ("ids", "emb"))
    assert found.keys.to_list() == ["ä", "b c"]
    np.testing.assert_array_equal(found.matrix, np.eye(2))


@pytest.mark.parametrize("file", ["v.h5", "v.npz"])
@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"key": [1, 2]}, r"has no data set 'value' beside \['key'\]; get it"),
        ({"value": [[1.0]]}, r"has no data set 'key' beside \['value'\]; get it"),
        ({"key": [1, 2], "value": [1.0, 2.0]}, r"keys int64 \[2\], vectors \[2\]; whole numbers .* get it"),
        ({"key": [1], "value": [[[1.0]]]}, r"keys int64 \[1\], vectors \[1, 1, 1\]"),
        ({"key": [1], "value": np.ones((1, 0))}, r"keys int64 \[1\], vectors \[1, 0\]"),
        ({"key": [1.5], "value": [[1.0]]}, r"keys float64 \[1\], vectors \[1, 1\]"),
        ({"key": [1], "value": np.array([[b"a"]])}, r"vectors of type \|S1; numbers were expected; get it"),
        ({"key": [1, 2], "value": [[1.0]]}, r"2 keys and a matrix \[1, 1\]; give one vector a key"),
        ({"key": [1, 1], "value": [[1.0], [2.0]]}, r"key '1' \(vector 1\) is missing or double"),
        ({"key": np.array([b"\xff"]), "value": [[1.0]]}, r"damaged, or not .* \('utf-8' codec .*\); get it"),
    ],
)
def test_another_form(tmp_path, file, content, sentence):
    with pytest.raises(InputError, match=rf"{file}: {sentence}"):
        read_vectors(write(tmp_path / file, **content), tmp_path, "get it")


def test_files_that_are_something_else(tmp_path):
    np.save(tmp_path / "v.npy", np.ones((2, 2)))
    (tmp_path / "v.npy").rename(tmp_path / "v.npz")
    with pytest.raises(InputError, match=r"v\.npz: is a single array; save keys and vectors by numpy.savez"):
        read_vectors(tmp_path / "v.npz", tmp_path, "get it")
    objects = write(tmp_path / "o.npz", key=np.array(["a"], object), value=np.ones((1, 2)))
    with pytest.raises(InputError, match=r"o\.npz: damaged, or not an .npz file \(Object arrays"):
        read_vectors(objects, tmp_path, "get it")
    (tmp_path / "v.h5").write_text("key,value\n")
    with pytest.raises(InputError, match=r"v\.h5: damaged, or not HDF5 \(.*\); get it"):
        read_vectors(tmp_path / "v.h5", tmp_path, "get it")
    for name in ("w.h5", "w.npz"):
        with pytest.raises(InputError, match=rf"{name}: no such file; get it"):
            read_vectors(tmp_path / name, tmp_path, "get it")


@pytest.mark.parametrize("file", ["v.h5", "v.npz"])
def test_damaged_files(tmp_path, file):
    path = write(tmp_path / file, key=np.arange(999), value=np.ones((999, 9)))
    whole, read = path.read_bytes(), partial(read_vectors, path, tmp_path, "get it")
    assert one_sentence(read)
    rng = random.Random(1)
    contents = [whole[: rng.randrange(len(whole))] for _ in range(10)]
    contents += [damaged(whole, changes) for changes in accidents(60)]
    refused = 0
    for content in contents:
        path.write_bytes(content)
        refused += not one_sentence(read)
    assert refused > 30


@pytest.mark.parametrize("file", ["v.h5", "v.npz", "compressed.npz"])
def test_any_byte_may_be_another(tmp_path, file):
    path, content = tmp_path / file, {"key": np.arange(9), "value": np.ones((9, 2))}
    if file == "compressed.npz":
        np.savez_compressed(path, **content)
    else:
        write(path, **content)
    whole, read = path.read_bytes(), partial(read_vectors, path, tmp_path, "get it")
    rng = random.Random(1)
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ rng.randrange(1, 256)]) + whole[place + 1 :])
        one_sentence(read)


def test_without_h5py(tmp_path, monkeypatch):
    path = write(tmp_path / "v.h5", key=[1], value=[[1.0]])
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match=r"v\.h5: HDF5 files need h5py: pip install 'recsys-zoo\[hdf5\]'"):
        read_vectors(path, tmp_path, "get it")


def test_files_of_several_columns(tmp_path):
    write(tmp_path / "v.h5", key=[1, 2], value=np.eye(2), ids=[3], emb=[[4.0]])
    file = tmp_path / "v.h5"
    with named_vectors([f"item={file}", f"user={file}:ids:emb"], tmp_path / "out") as found:
        assert {name: v.keys.to_list() for name, v in found.items()} == {"item": ["1", "2"], "user": ["3"]}
        assert [v.matrix.tolist() for v in found.values()] == [[[1, 0], [0, 1]], [[4]]]
        assert not any(v.join for v in found.values())
    assert [p.name for p in tmp_path.iterdir()] == ["v.h5"]


@pytest.mark.parametrize(
    "entry", ["item", "=v.h5", "item=", "item=v.h5:ids", "item=v.h5:a:b:c", "item=v.h5::b"]
)
def test_entries_of_another_form(tmp_path, entry):
    with (
        pytest.raises(InputError, match=f"--vectors {entry}: write it as COLUMN=FILE or"),
        named_vectors([entry], tmp_path / "out"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []
