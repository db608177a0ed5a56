"""One contender of topk.py: RecBole with its own data set, loaders, samplers, trainer and evaluation.

Runs in an environment of RecBole; recsys_zoo is not imported.
"""

from __future__ import annotations

import itertools
import logging
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import recbole
import torch
from interactions import DIM, Interactions, generate
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed
from worker import serve

K = 20


def write(data: Interactions, folder: Path) -> None:
    """Its atomic files: training, validation and, because it wants one, a test file of one row."""
    (folder / "speed").mkdir()
    for part, pairs in (("train", data.train), ("valid", data.test), ("test", data.test[:, :1])):
        rows = "\n".join(f"{u}\t{i}" for u, i in pairs.T.tolist())
        text = f"user_id:token\titem_id:token\n{rows}\n"
        (folder / "speed" / f"speed.{part}.inter").write_text(text, encoding="utf-8")


class RecBole:
    """rank: BPR with the given vectors by `Trainer.evaluate`; bpr and lightgcn: `Trainer._train_epoch`."""

    def __init__(self, eval_batch_size: int, batch: int, layers: int) -> None:
        sys.argv = sys.argv[:1]  # its Config reads the command line
        logging.disable(logging.INFO)
        data = generate()
        self.folder = tempfile.TemporaryDirectory()
        os.chdir(self.folder.name)  # its logs go to the working directory
        write(data, Path(self.folder.name))
        self.settings = {
            "data_path": self.folder.name,
            "checkpoint_dir": self.folder.name,
            "benchmark_filename": ["train", "valid", "test"],
            "load_col": {"inter": ["user_id", "item_id"]},
            "eval_args": {"mode": "full", "order": "RO", "group_by": "user", "split": {"RS": [8, 1, 1]}},
            "use_gpu": False,
            "embedding_size": DIM,
            "n_layers": layers,
            "train_batch_size": batch,
            "eval_batch_size": eval_batch_size,
            "metrics": ["Recall", "NDCG"],
            "topk": [K],
            "valid_metric": f"NDCG@{K}",
            "metric_decimal_place": 9,
            "show_progress": False,
            "state": "ERROR",
        }
        threads = torch.get_num_threads()
        config = self._config("BPR")
        self.dataset = create_dataset(config)
        self.train, self.valid, _ = data_preparation(config, self.dataset)
        self.trainers: dict[str, Any] = {}  # made when they are first wanted
        self.given = self._trainer("BPR")
        self._give(data)
        torch.set_num_threads(threads)
        self.facts = {"digest": data.digest(), "version": f"{recbole.__version__}, torch {torch.__version__}",
                      "pairs": len(self.train.dataset), "users": len(self.valid.uid_list),
                      "users_a_batch": self.valid.step}

    def _config(self, model: str) -> Config:
        config = Config(model=model, dataset="speed", config_dict=self.settings)
        init_seed(1, True)
        return config

    def _trainer(self, name: str) -> Any:
        config = self._config(name)
        model = get_model(name)(config, self.train.dataset)
        return get_trainer(config["MODEL_TYPE"], name)(config, model)

    def _give(self, data: Interactions) -> None:
        """The given vectors under its own numbers of users and items."""
        model = self.given.model
        for column, table, vectors in (("user_id", model.user_embedding, data.users),
                                       ("item_id", model.item_embedding, data.items)):
            tokens = self.dataset.field2id_token[column]
            known = np.array([int(token) for token in tokens[1:]])  # the first one is padding
            with torch.no_grad():
                table.weight[1:] = torch.from_numpy(vectors[known])

    def rank(self) -> dict[str, float]:
        """Full ranking by the given vectors."""
        found = self.given.evaluate(self.valid, load_best_model=False, show_progress=False)
        return {"recall": float(found[f"recall@{K}"]), "ndcg": float(found[f"ndcg@{K}"])}

    def bpr(self, steps: int = 0) -> dict[str, Any]:
        """An epoch, or some steps of it."""
        return self._train("BPR", steps)

    def lightgcn(self, steps: int = 0) -> dict[str, Any]:
        """The same."""
        return self._train("LightGCN", steps)

    def _train(self, name: str, steps: int) -> dict[str, Any]:
        batches = itertools.islice(self.train, steps) if steps else self.train
        if name not in self.trainers:
            self.trainers[name] = self._trainer(name)
        self.trainers[name]._train_epoch(batches, 0)
        pairs, batch = len(self.train.dataset), self.settings["train_batch_size"]
        return {"pairs": min(steps * batch, pairs) if steps else pairs}


if __name__ == "__main__":
    serve(RecBole)
