"""`recsys-zoo demo`: the main job on a problem whose best possible score is known."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from . import audit, launch, references, runs
from .board.draws import Bank
from .board.page import write_page
from .board.rank import rank
from .board.rows import append_row, read_rows
from .board.scores import score_files
from .board.table import print_table
from .data.describe import describe
from .data.planted import plant
from .data.prepare import prepare
from .data.store import Prepared
from .errors import InputError
from .files import disk_errors
from .runs import RunConfig
from .tasks.binary import BinaryTask
from .train.config import TrainConfig

SEED = 1
MARKER = ".recsys-zoo-demo"  # only a folder that holds it is ever deleted
TRAIN = {"epochs": 20, "batch_size": 2048, "lr": 2e-3, "seed": SEED}
EMBEDDING = {"dim": 8, "init_std": 0.01}
_MLP = {"hidden": [128, 128], "dropout": 0.2}
MODELS = {
    "lr": ({}, {}),
    "fm": ({}, {"table_l2": 1e-4}),
    "dnn": (_MLP, {"table_l2": 1e-3}),
    "deepfm": (_MLP, {"table_l2": 1e-3}),
    "autoint.official": (
        {"layers": 2, "attention_dim": 32},
        {"table_l2": 1e-4, "batch_size": 1024, "lr": 3e-3},
    ),
}  # settings of the model, settings of its training


def run_demo(out: Path, rows: int = 0) -> None:
    """Raw CSV -> prepared data -> five models -> rows, ranked table and page, all below `out` (made anew)."""
    if out.exists():
        if any(out.iterdir()) and not (out / MARKER).is_file():
            raise InputError(f"{out}: exists and is no folder of an earlier demo; choose another --out")
        shutil.rmtree(out)
    with disk_errors(out):
        out.mkdir(parents=True)
        (out / MARKER).touch()
    planted = plant(rows or 200_000, SEED)
    planted.write_csv(out / "clicks.csv")
    print(f"wrote {out / 'clicks.csv'}: {len(planted.labels):,} rows of a planted click problem")
    data = prepare([out / "clicks.csv"], planted.spec(), out / "prepared")
    print(describe(data))
    file = out / "rows.jsonl"
    floors = references.floors(data, "planted", command="recsys-zoo demo")
    for row in floors:
        append_row(file, row)
    _add_ceiling(data, planted.probability[planted.split == "test"], file)
    for name, (settings, training) in MODELS.items():
        print(f"\n{name}", flush=True)
        train = TrainConfig(**{**TRAIN, **training})
        model = {"name": name, "embedding": EMBEDDING, **settings}
        cfg = RunConfig(board="planted", data=str(out / "prepared"), model=model, train=train).resolved()
        row = runs.train(
            cfg, data, launch.default_folder(cfg, out), command="recsys-zoo demo", say=lambda _: None
        )
        append_row(file, row)
    record = audit.audit(data, floors=floors)
    audit.save(record, audit.file_beside(file, data.data_digest, ""))
    ranking = rank(read_rows(file), bank=Bank([file], score_files(out)))
    ranking = replace(ranking, warnings=tuple(record["warnings"]))
    print()
    print_table(ranking)
    write_page(out / "board.html", [ranking], "recsys_zoo demo")
    print(f"\nrows: {file}\npage: {out / 'board.html'}")


def _add_ceiling(data: Prepared, truth: np.ndarray, file: Path) -> None:
    """A row of the true click probabilities: the Bayes-optimal scores, which no model beats but by luck."""
    scores = torch.from_numpy(truth.astype("float32"))
    found = BinaryTask(data).metrics(scores, data.split("test"))
    metrics = {f"test.{name}": value for name, value in found.items()}
    metrics |= runs.test_extras(scores, data, 0, 200)[0]
    cfg = RunConfig(board="planted", model={"name": "true_probabilities"})
    row = runs.make_row(cfg, data, metrics, seed=SEED, status="done", role="ceiling", hparams="none",
                        table_update="none", precision="none", command="recsys-zoo demo")  # fmt: skip
    append_row(file, row)
    print(f"ceiling: the true probabilities have test AUC {found['auc']:.6f}, logloss {found['logloss']:.6f}")
