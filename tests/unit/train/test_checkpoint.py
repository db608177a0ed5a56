"""Checkpoints: equal after a round trip, refused with one sentence when damaged."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save

from recsys_zoo.errors import InputError
from recsys_zoo.predictor import load
from recsys_zoo.train import checkpoint
from recsys_zoo.train.checkpoint import (
    load_tensors,
    load_weights,
    read_config,
    save_checkpoint,
    save_tensors,
)
from recsys_zoo.zoo import create

from . import toys


@pytest.fixture
def saved(tmp_path):
    model = create("lr", toys.SCHEMA, seed=3, embedding={"init_std": 0.5})
    folder = tmp_path / "checkpoint"
    save_checkpoint(folder, model, "lr", model.cfg.model_dump(mode="json"), extra={"label": "y"})
    return folder, model


def test_round_trip(saved):
    folder, model = saved
    x, _ = toys.inputs(16, 0)
    predictor = load(folder)
    expected = torch.sigmoid(model.eval()(x)).detach()
    assert torch.equal(torch.from_numpy(predictor.predict_inputs(x)), expected)
    assert torch.equal(torch.from_numpy(predictor.predict_inputs(x, batch_size=5)), expected)
    assert predictor.config["label"] == "y"
    assert json.loads((folder / "card.json").read_text())["name"] == "LR"


def test_tensors_are_written_from_where_they_lie(tmp_path, monkeypatch):
    """Without a copy, which a matrix of all items has no memory for; the bytes are those of the library."""
    tensors = {"b": torch.randn(9, 4), "a": torch.arange(5), "none": torch.zeros(0, 3)}
    expected = save(tensors)
    monkeypatch.setattr(torch.Tensor, "clone", None)
    save_tensors(tmp_path / "x", tensors)
    assert (tmp_path / "x").read_bytes() == expected


def test_views_of_one_memory_are_written_apart(tmp_path):
    whole = torch.randn(9, 4)
    views = {"whole": whole, "part": whole[3:7], "turned": whole.t(), "again": whole}
    found = load_tensors(tmp_path / "x", save_tensors(tmp_path / "x", views))
    for name, view in views.items():
        assert torch.equal(found[name], view)


def test_a_full_disk_is_said(tmp_path, monkeypatch):
    def full(*_):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(InputError, match="x: cannot write: No space left on device"):
        save_tensors(tmp_path / "x", {"a": torch.ones(3)})
    assert not list(tmp_path.iterdir())


def test_nothing_in_the_folder_is_a_pickle(saved):
    folder, _ = saved
    assert sorted(p.name for p in folder.iterdir()) == ["card.json", "config.json", "model.safetensors"]


@pytest.mark.parametrize("place", [0, 200, -1])
def test_a_flipped_byte_is_refused(saved, place):
    folder, _ = saved
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"model.safetensors: its SHA-256 is not the one recorded"):
        load(folder)


def test_missing_and_damaged_parts_are_named(saved, tmp_path):
    folder, _ = saved
    with pytest.raises(InputError, match=r"no such folder"):
        load(tmp_path / "nowhere")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"model.safetensors: no such file; the checkpoint is incomplete"):
        load(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "name": "fm"}))
    with pytest.raises(InputError, match=r"config.json: damaged \(its digest differs\)"):
        load(folder)
    (folder / "config.json").write_text(json.dumps({**config, "format": 99}))
    with pytest.raises(InputError, match=r"format 99 is not known to this version"):
        load(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config.json: damaged"):
        load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"no config.json here"):
        load(folder)


def test_weights_of_another_shape_are_refused(saved):
    folder, _ = saved
    columns = (toys.SCHEMA.columns[0].model_copy(update={"vocab_size": 61}), *toys.SCHEMA.columns[1:])
    other = create("lr", toys.SCHEMA.model_copy(update={"columns": columns}))
    with pytest.raises(InputError, match=r"do not fit model 'lr': size mismatch"):
        load_weights(folder, other, read_config(folder))
