"""One contender of ctr.py: FuxiCTR from a checkout, with its own model, loader, loss, clipping and optimiser.

Runs in FuxiCTR's environment (see benchmarks/peers/fuxictr.py); recsys_zoo is not imported.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from shapes import TRAIN_ROWS, generate
from worker import serve

COMMON = {
    "task": "binary_classification",
    "loss": "binary_crossentropy",
    "metrics": ["AUC"],
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "gpu": -1,
    "verbose": 0,
    "embedding_dim": 16,
    "embedding_regularizer": 0,
    "net_regularizer": 0,
    "batch_norm": False,
    "net_dropout": 0,
    "model_id": "speed",
    "monitor": "AUC",
    "monitor_mode": "max",
    "early_stop_patience": 2,
    "dataset_id": "speed",
}
MODELS: dict[str, dict[str, Any]] = {
    "DeepFM": {"hidden_units": [400, 400, 400], "hidden_activations": "relu"},
    "DCNv2": {
        "model_structure": "parallel",
        "num_cross_layers": 3,
        "use_low_rank_mixture": False,
        "parallel_dnn_hidden_units": [400, 400, 400],
        "dnn_activations": "relu",
    },
    "AutoInt": {
        "attention_layers": 3,
        "num_heads": 2,
        "attention_dim": 64,
        "use_residual": True,
        "use_scale": False,
        "layer_norm": False,
        "use_wide": False,
        "dnn_hidden_units": [],
    },
}


class FuxiCTR:
    """Steps of BaseModel.train_step, timed in three parts.

    settings: `options` (of the model, instead of those in MODELS), `names` (of the columns), `rows` (of
    training) and `num_workers` (of the loader).
    """

    def __init__(self, shape: str, model: str, batch: int, settings: dict[str, Any], seed: int = 1) -> None:
        sys.path.insert(0, os.environ["FUXICTR"])
        setattr(np, "unicode_", np.str_)  # noqa: B010 - a name that NumPy 2 dropped
        features = importlib.import_module("fuxictr.features")
        loaders = importlib.import_module("fuxictr.pytorch.dataloaders")
        importlib.import_module("fuxictr.pytorch.torch_utils").seed_everything(seed=seed)
        self.folder = tempfile.TemporaryDirectory()
        place, data = Path(self.folder.name), generate(shape, settings.get("rows", TRAIN_ROWS))
        names = settings.get("names") or [f"c{i}" for i in range(len(data.sizes))]
        arrays = {"train": (data.ids, data.labels), "test": (data.test_ids, data.test_labels)}
        for split, (ids, labels) in arrays.items():
            columns = {name: ids[:, i] for i, name in enumerate(names)}
            np.savez(place / f"{split}.npz", **columns, click=labels)
        columns = [
            {n: {"source": "", "type": "categorical", "padding_idx": 0, "vocab_size": size + 1}}
            for n, size in zip(names, data.sizes, strict=True)
        ]
        record = {
            "dataset_id": "speed",
            "num_fields": len(names),
            "total_features": sum(data.sizes),
            "input_length": len(names),
            "labels": ["click"],
            "features": columns,
        }
        (place / "feature_map.json").write_text(json.dumps(record), encoding="utf-8")
        feature_map = features.FeatureMap("speed", str(place))
        chosen = settings.get("options") or MODELS[model]
        if "regularizer" in chosen:  # of all parameters: excludes one for each kind
            chosen = {"embedding_regularizer": None, "net_regularizer": None, **chosen}
        options = {**COMMON, **chosen, "model_root": str(place), "batch_size": batch}
        options = {name: value for name, value in options.items() if value is not None}
        feature_map.load(str(place / "feature_map.json"), options)
        model_class = getattr(importlib.import_module("model_zoo"), model)
        self.model = model_class(feature_map, **options)
        self.model._max_gradient_norm = 10.0
        self.model.train()
        loader = {"data_format": "npz", "batch_size": batch, "num_workers": settings.get("num_workers", 1)}
        paths = {f"{split}_data": str(place / f"{split}.npz") for split in ("train", "test")}
        both = loaders.RankDataLoader(feature_map, stage="both", shuffle=True, **paths, **loader)
        self.train, _, self.test = both.make_iterator()
        self.batches, self.test_labels = iter(self.train), data.test_labels

    def steps(self, count: int) -> dict[str, float]:
        spent = {"loading": 0.0, "forward_backward": 0.0, "optimiser": 0.0}
        model = self.model
        for _ in range(count):
            since = time.perf_counter()
            batch = next(self.batches, None)
            if batch is None:
                self.batches = iter(self.train)
                batch = next(self.batches)
            loaded = time.perf_counter()
            model.optimizer.zero_grad()
            loss = model.compute_loss(model.forward(batch), model.get_labels(batch))
            loss.backward()
            passed = time.perf_counter()
            torch.nn.utils.clip_grad_norm_(model.parameters(), model._max_gradient_norm)
            model.optimizer.step()
            spent["loading"] += loaded - since
            spent["forward_backward"] += passed - loaded
            spent["optimiser"] += time.perf_counter() - passed
        return spent

    def scores(self) -> tuple[Any, Any]:
        return self.model.predict(self.test), self.test_labels


if __name__ == "__main__":
    serve(FuxiCTR)
