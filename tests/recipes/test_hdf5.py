"""Vectors out of HDF5 files, whole and damaged."""

from __future__ import annotations

import sys

import h5py
import numpy as np
import pytest

from data_prep import hdf5
from recsys_zoo.errors import InputError


def write(path, **content):
    with h5py.File(path, "w") as file:
        for name, values in content.items():
            file[name] = values
    return path


@pytest.mark.parametrize("width", ["f4", "f8"])
def test_keys_and_values(tmp_path, monkeypatch, width):
    monkeypatch.setattr(hdf5, "_BLOCK", 3)
    value = np.random.default_rng(0).normal(size=(7, 5)).astype(width)
    found = hdf5.read_vectors(write(tmp_path / "v.h5", key=np.arange(7) * 3, value=value), tmp_path, "get it")
    assert found.keys.to_list() == ["0", "3", "6", "9", "12", "15", "18"]
    assert found.matrix.dtype == np.float32
    np.testing.assert_array_equal(found.matrix, value.astype(np.float32))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"key": [1, 2]}, r"v\.h5: has no data set 'value' beside \['key'\]; get it"),
        ({"value": [[1.0]]}, r"v\.h5: has no data set 'key' beside \['value'\]; get it"),
        (
            {"key": [1, 2], "value": [1.0, 2.0]},
            r"v\.h5: key int64 \[2\], value \[2\]; whole numbers .* get it",
        ),
        ({"key": [1.5], "value": [[1.0]]}, r"v\.h5: key float64 \[1\]"),
        ({"key": [1, 2], "value": [[1.0]]}, r"v\.h5: 2 keys and a matrix \[1, 1\]; give one vector a key"),
        ({"key": [1, 1], "value": [[1.0], [2.0]]}, r"v\.h5: key '1' \(vector 1\) is missing or double"),
    ],
)
def test_another_form(tmp_path, content, sentence):
    with pytest.raises(InputError, match=sentence):
        hdf5.read_vectors(write(tmp_path / "v.h5", **content), tmp_path, "get it")


def test_a_damaged_file(tmp_path):
    path = write(tmp_path / "v.h5", key=np.arange(999), value=np.ones((999, 9)))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"v\.h5: damaged, or not HDF5 \(.*\); get it"):
        hdf5.read_vectors(path, tmp_path, "get it")
    with pytest.raises(InputError, match=r"w\.h5: no such file; get it"):
        hdf5.read_vectors(tmp_path / "w.h5", tmp_path, "get it")


def test_without_h5py(tmp_path, monkeypatch):
    path = write(tmp_path / "v.h5", key=[1], value=[[1.0]])
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match=r"v\.h5: HDF5 files need h5py: pip install 'recsys-zoo\[hdf5\]'"):
        hdf5.read_vectors(path, tmp_path, "get it")
