"""A trained model as a folder: settings as JSON, weights as safetensors, encoders. Nothing is ever
unpickled."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from ..config import json_digest
from ..errors import InputError
from ..files import restore, sha256_file, whole_file, whole_folder, write_whole
from ..itemlists import ItemLists
from ..models.base import Model

FORMAT = 2
SEEN = "seen.safetensors"


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> str:
    """Write a safetensors file whole; returns its SHA-256. Tensors are written from where they lie."""
    held: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, tensor in tensors.items():
        here = tensor.detach().cpu().contiguous()
        place = here.untyped_storage().data_ptr()
        held[name] = here.clone() if place in places else here  # the format knows no shared memory
        places.add(place)
    with whole_file(path) as file, _system_errors():
        save_file(held, file.name)
    return sha256_file(path)


@contextlib.contextmanager
def _system_errors() -> Iterator[None]:
    """What the system told safetensors, as an OSError again."""
    try:
        yield
    except SafetensorError as error:
        found = re.search(r"os error (\d+)", str(error))
        if found is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1]))) from None


def load_tensors(path: Path, digest: str) -> dict[str, Tensor]:
    """Read a safetensors file; InputError when it is missing, cut off, or not the bytes that were written."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; the checkpoint is incomplete")
    if sha256_file(path) != digest:
        raise InputError(
            f"{path}: its SHA-256 is not the one recorded when it was saved; the file is damaged, "
            "use another copy or train again"
        )
    try:
        return load(path.read_bytes())
    except SafetensorError as error:
        raise InputError(f"{path}: not a safetensors file: {error}") from None


def save_checkpoint(
    folder: Path,
    model: Model,
    name: str,
    settings: dict[str, Any],
    encoding: Path | None = None,
    extra: dict[str, Any] | None = None,
    seen: ItemLists | None = None,
) -> None:
    """Write config.json, model.safetensors, card.json and vocab/ (a copy of the data's encoders) as one
    folder.

    `settings` are the model's complete settings; `extra` (plain JSON values) is kept beside them; `seen`, of
    models that rank, are the items that each user had in what the model was fitted on.
    """
    with whole_folder(folder) as building:
        digest = save_tensors(building / "model.safetensors", model.state_dict())
        if encoding is not None:
            shutil.copytree(encoding, building / "vocab")
        write_whole(building / "card.json", model.card.model_dump_json(indent=1))
        if seen is not None:
            save_tensors(building / SEEN, {"offsets": seen.offsets, "items": seen.items.to(torch.int32)})
        files = {
            str(p.relative_to(building)): sha256_file(p)
            for p in sorted((building / "card.json", building / SEEN, *building.glob("vocab/**/*")))
            if p.is_file()
        }
        config = {
            "format": FORMAT,
            "name": name,
            "settings": settings,
            "weights_sha256": digest,
            "schema": model.schema.model_dump(mode="json"),
            "files_sha256": files,
            **(extra or {}),
        }
        write_whole(building / "config.json", json.dumps({**config, "digest": json_digest(config)}, indent=1))


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a checkpoint; InputError when the folder is no checkpoint or of an unknown format."""
    restore(folder)
    path = Path(folder) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        digest, found = config.pop("digest", ""), config["format"]
    except FileNotFoundError:
        raise InputError(f"{folder}: no config.json here; give the checkpoint folder of a run") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{path}: damaged; use another copy or train again") from None
    if found != FORMAT:
        raise InputError(f"{path}: format {found!r} is not known to this version (it reads {FORMAT})")
    if digest != json_digest(config):
        raise InputError(f"{path}: damaged (its digest differs); use another copy or train again")
    for name, expected in config["files_sha256"].items():
        file = Path(folder) / name
        if not file.is_file() or sha256_file(file) != expected:
            raise InputError(f"{file}: missing or damaged (SHA-256 differs); use another copy or train again")
    return config


def load_weights(folder: Path, model: Model, config: dict[str, Any]) -> None:
    """Fill a model built from the checkpoint's settings; InputError when names or shapes do not fit."""
    tensors = load_tensors(Path(folder) / "model.safetensors", config["weights_sha256"])
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        first = str(error).strip().splitlines()[-1].strip()
        raise InputError(f"{folder}: the weights do not fit model {config['name']!r}: {first}") from None


def load_seen(folder: Path, config: dict[str, Any]) -> ItemLists | None:
    """The items that each user had in what the model was fitted on; None where they were not kept."""
    if SEEN not in config["files_sha256"]:
        return None
    lists = load_tensors(Path(folder) / SEEN, config["files_sha256"][SEEN])
    return ItemLists(lists["offsets"], lists["items"].long())


class TrainingState:
    """The resumable state of a run: state.json names the tensor files that belong to it and is replaced last.

    A kill between two writes therefore leaves the previous state whole.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.best: dict[str, str] = {}

    def exists(self) -> bool:
        return (self.folder / "state.json").is_file()

    def save_best(self, tensors: dict[str, Tensor], label: str) -> None:
        """Keep the best weights under a name of their own; they count once `save` has named them."""
        name = f"best-{label}.safetensors"
        self.best = {"file": name, "sha256": save_tensors(self.folder / name, tensors)}

    def save(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Write the tensors, then state.json, then remove what it no longer names."""
        name = f"now-{values['global_step']}-{values['stage']}-{values['epoch']}.safetensors"
        digest = save_tensors(self.folder / name, tensors)
        record = {**values, "now": {"file": name, "sha256": digest}, "best_file": self.best}
        write_whole(self.folder / "state.json", json.dumps(record, indent=1))
        for path in self.folder.glob("*.safetensors"):
            if path.name not in (name, self.best.get("file")):
                path.unlink()

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The tensors and values of the last complete save."""
        path = self.folder / "state.json"
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            raise InputError(f"{path}: damaged; delete the run folder and train again") from None
        self.best = values["best_file"]
        return load_tensors(self.folder / values["now"]["file"], values["now"]["sha256"]), values

    def load_best(self) -> dict[str, Tensor]:
        return load_tensors(self.folder / self.best["file"], self.best["sha256"])


def rng_state(device: torch.device) -> dict[str, Tensor]:
    """Random states that dropout draws from."""
    states = {"rng/cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["rng/cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_rng_state(tensors: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(tensors["rng/cpu"])
    if device.type == "cuda" and "rng/cuda" in tensors:
        torch.cuda.set_rng_state(tensors["rng/cuda"], device)
