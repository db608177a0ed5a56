"""Score raw frames with a trained model: no training data, no data set object, unknown values allowed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .batch import Inputs
from .errors import InputError
from .models.base import CTRModel, Model
from .schema import Schema
from .train.checkpoint import load_weights, read_config
from .zoo import create

if TYPE_CHECKING:
    from .data.encode import Encoder


class Predictor:
    """A model with the encoders of its training data."""

    def __init__(self, model: Model, folder: Path, config: dict[str, Any]) -> None:
        self.model, self.folder, self.config = model.eval(), folder, config
        self._encoder: Encoder | None = None

    @property
    def schema(self) -> Schema:
        return self.model.schema

    @property
    def encoder(self) -> Encoder:
        """The encoders of the training data; InputError when the checkpoint has none."""
        if self._encoder is None:
            from .data.encode import Encoder

            if not (self.folder / "vocab").is_dir():
                instead = "score prepared inputs with `predict_inputs` instead"
                if not isinstance(self.model, CTRModel):
                    instead = "prepare files to train on"
                raise InputError(
                    f"{self.folder}: holds no encoders (it was trained on generated data); {instead}"
                )
            self._encoder = Encoder.open(self.folder / "vocab")
        return self._encoder

    def encode(self, frame: Any) -> Inputs:
        """Model inputs of a raw polars or pandas frame (or dict of lists) with the raw input columns."""
        return self.encoder.encode(frame)

    def predict(self, frame: Any, batch_size: int = 16384) -> np.ndarray:
        """Click probabilities [rows], float32, in row order. Values unseen in training count as unknown."""
        return self.predict_inputs(self.encode(frame), batch_size)

    @torch.no_grad()
    def predict_inputs(self, x: Inputs, batch_size: int = 16384) -> np.ndarray:
        """Click probabilities [rows] of encoded inputs, in the precision of the training."""
        if batch_size < 1:
            raise InputError(f"batch_size={batch_size}: give a number of rows from 1 on")
        if not isinstance(self.model, CTRModel):
            raise InputError(f"{self.folder}: holds {self.model.name}, which ranks items; use load_ranker")
        bf16 = self.config.get("precision") == "bf16"
        device = next(self.model.parameters()).device
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            parts = [
                torch.sigmoid(self.model(x.rows(i, i + batch_size).to(device)).float()).cpu()
                for i in range(0, len(x), batch_size)
            ]
        return torch.cat(parts).numpy() if parts else np.zeros(0, np.float32)


def checkpoint_folder(folder: Path) -> Path:
    """A run's checkpoint/ folder, or the folder itself when it is one; InputError for anything else."""
    folder = Path(folder)
    if not folder.exists():
        raise InputError(f"{folder}: no such folder")
    inner = folder / "checkpoint"
    if inner.is_dir():
        return inner
    if (folder / "row.json").is_file():
        raise InputError(f"{folder}: its checkpoint folder is missing; train again into another folder")
    if (folder / "state").is_dir():
        raise InputError(
            f"{folder}: this run is not finished; go on with `recsys-zoo train --resume {folder}`"
        )
    return folder


def load(folder: Path | str, device: str = "cpu") -> Predictor:
    """A trained model from a run or checkpoint folder; InputError when it is damaged or incomplete."""
    found = checkpoint_folder(Path(folder))
    config, place = read_config(found), _device(device)
    schema = Schema.parse(config["schema"], str(found / "config.json"))
    model = create(config["name"], schema, seed=0, **config["settings"])
    load_weights(found, model, config)
    return Predictor(model.to(place), found, config)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise InputError(f"device={name!r}: torch knows no such device; choose cpu or cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device={name!r}: no CUDA device here; use cpu")
    return device
