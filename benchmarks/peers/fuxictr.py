"""Train FuxiCTR on our data files: the yardstick for our own CTR models.

FuxiCTR (https://github.com/reczoo/FuxiCTR, Apache-2.0) does all that can move a number: vocabulary, model,
initialisation, optimiser, regulariser, early stopping and metrics. This script writes the split files as CSV,
hands over the settings of fuxictr.toml beside it and appends one CSV row per finished run. A run that has its
row already is skipped, so a queue can be restarted.

Python needs torch, `polars<2`, keras_preprocessing, pandas, pyarrow, h5py, scikit-learn, PyYAML and tqdm;
recsys_zoo is not imported. `--fuxictr` is a git checkout (the wheel carries no CTR models):

    python benchmarks/peers/fuxictr.py --fuxictr CHECKOUT --data DATA --board frappe_x1 --models DNN,DeepFM \
        --work SCRATCH --out benchmarks/results/peers/fuxictr_frappe_x1.csv

frappe_x1     DATA/frappe_x1/{train_resampled_negatives,valid,test}.parquet. The train negatives are re-drawn:
              a row may be set beside a published one only with that remark (it stands in `note`).
movielens_1m  AutoInt's reading, from the folder `--splits` with {train,valid,test}.parquet.

Columns: `seconds` is FuxiCTR's `fit` with its validation passes; `test_auc_unseen_pairs` is the AUC of test
rows whose (user, item) is not in train; `embedding_regularizer` is the weight, which LR and FM put on all
parameters.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler

COLUMNS = [
    *("system", "fuxictr_commit", "board", "model", "seed", "valid_auc", "valid_logloss", "test_auc"),
    *("test_logloss", "test_auc_unseen_pairs", "epochs", "best_epoch", "params", "seconds"),
    *("embedding_regularizer", "threads", "torch", "fp32_matmul_precision", "note"),
]
TUNING = "tuning trial"
LOADER = "batches sliced whole, same rows and order as FuxiCTR's loader"
MALLOC_VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
# Read by name out of **kwargs by FuxiCTR; every other setting must be a named parameter of the model.
READ_ELSEWHERE = {
    *("loss", "optimizer", "metrics", "shuffle", "verbose", "batch_size", "epochs", "seed", "model_root"),
    *("dataset_id", "data_root", "data_format", "train_data", "valid_data", "test_data", "data_loader"),
}


@dataclass(frozen=True)
class Setting:
    """A model of a board: FuxiCTR's class and options, their source, the parameter count printed there."""

    model_class: str
    options: dict[str, Any]
    source: str
    published_params: int | None = None

    @property
    def weight_key(self) -> str:
        """The option that holds the regulariser."""
        return "regularizer" if "regularizer" in self.options else "embedding_regularizer"


@dataclass(frozen=True)
class Board:
    """A data set as FuxiCTR sees it; multi-valued columns are '|'-joined and mean-pooled."""

    train_file: str
    categorical: list[str]
    multi_valued: list[str]
    batch_size: int
    note: str
    models: dict[str, Setting]


def load_settings() -> tuple[dict[str, Any], dict[str, Board]]:
    """The settings common to all runs, and the boards."""
    tables = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    common, boards = tables.pop("common"), {}
    for name, table in tables.items():
        models = {model: Setting(**entry) for model, entry in table.pop("models").items()}
        boards[name] = Board(**table, models=models)
    return common, boards


def read_splits(board: Board, folder: Path) -> dict[str, pd.DataFrame]:
    """Train, valid and test of a board in the row order of the files."""
    columns = ["label", *board.categorical, *board.multi_valued]
    files = {"train": board.train_file, "valid": "valid.parquet", "test": "test.parquet"}
    return {split: pd.read_parquet(folder / name)[columns] for split, name in files.items()}


def prepare_dataset(name: str, board: Board, splits: dict[str, pd.DataFrame], work: Path) -> dict[str, Any]:
    """FuxiCTR's data settings, after it has built vocabulary (train only), feature map and encoded files.

    FuxiCTR does not build again where its feature map exists: one scratch folder, one version of the data.
    """
    # keras_preprocessing, with which FuxiCTR pads, asks for a name that NumPy 2 dropped
    setattr(np, "unicode_", np.str_)  # noqa: B010
    preprocess = importlib.import_module("fuxictr.preprocess")
    raw = work / "csv" / name
    raw.mkdir(parents=True, exist_ok=True)
    paths = {f"{split}_data": str(raw / f"{split}.csv") for split in splits}
    for frame, path in zip(splits.values(), paths.values(), strict=True):
        frame.to_csv(path, index=False)
    features: list[dict[str, Any]] = [{"name": c, "type": "categorical"} for c in board.categorical]
    pooling = {"splitter": "|", "max_len": 6, "feature_encoder": "layers.MaskedAveragePooling()"}
    features += [{"name": c, "type": "sequence", **pooling} for c in board.multi_valued]
    features = [{**feature, "active": True, "dtype": "str"} for feature in features]
    place = {"dataset_id": name, "data_root": str(work / "encoded"), "data_format": "csv"}
    encoder = preprocess.FeatureProcessor(features, {"name": "label", "dtype": "float"}, **place)
    encoded = preprocess.build_dataset(encoder, min_categr_count=1, **place, **paths)
    return {**place, **dict(zip(paths, encoded, strict=True))}


def sliced_loader(feature_map: Any, data_path: str, batch_size: int, shuffle: bool, **_: Any) -> Any:
    """The very batches of FuxiCTR's ParquetDataLoader (same draws), cut out at once instead of row by row."""
    parquet = importlib.import_module("fuxictr.pytorch.dataloaders.parquet_dataloader")
    dataset = parquet.ParquetDataset(feature_map, data_path + ".parquet")
    columns = [*feature_map.features, *feature_map.labels]

    def by_column(rows: Any) -> dict[str, torch.Tensor]:
        batch = torch.from_numpy(rows)
        return {c: batch[:, feature_map.get_column_index(c)] for c in columns}

    order = RandomSampler(dataset) if shuffle else SequentialSampler(dataset)
    batches = BatchSampler(order, batch_size, drop_last=False)
    loader: Any = DataLoader(dataset, batch_size=None, sampler=batches, collate_fn=by_column)
    loader.num_samples, loader.num_blocks = len(dataset), 1
    return loader


def check_settings(model_class: Any, base_class: Any, settings: dict[str, Any]) -> None:
    """Raise on a setting that FuxiCTR would swallow silently in **kwargs."""
    named = {name for c in (model_class, base_class) for name in inspect.signature(c).parameters}
    if unknown := sorted(set(settings) - named - READ_ELSEWHERE):
        raise ValueError(f"{model_class.__name__} does not know the settings {unknown}")


def matmul_error() -> float:
    """Largest error of a float32 product under the present precision, relative to the largest exact entry."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(rows, 400, generator=generator) for rows in (4096, 400))
    exact = left.double() @ right.double()
    return float(((left @ right).double() - exact).abs().max() / exact.abs().max())


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows finished so far."""
    if not path.exists():
        return []
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Add one row by writing a new file and renaming it over the old one."""
    rows, temporary = [*read_rows(path), row], path.with_suffix(".tmp")
    with temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(temporary, path)


def run_key(row: dict[str, Any]) -> tuple[str, ...]:
    """What makes two rows the same run."""
    keys = ("fuxictr_commit", "board", "model", "seed", "embedding_regularizer")
    own = re.search(r"options [0-9a-f]{8}", row["note"])
    return (*(str(row[key]) for key in keys), str(TUNING in row["note"]), own[0] if own else "")


def watch(model: Any, medians: list[float | None]) -> list[float]:
    """The validation AUC of each epoch, as training goes on; it ends where the best so far is below the
    median at hand for as many epochs."""
    judge, curve = model.checkpoint_and_earlystop, []

    def judged(logs: dict[str, float], **more: Any) -> None:
        judge(logs, **more)
        curve.append(round(logs["AUC"], 6))
        median = medians[len(curve) - 1] if len(curve) <= len(medians) else None
        if median is not None and max(curve) < median:
            model._stop_training = True

    model.checkpoint_and_earlystop = judged
    return curve


def train_and_score(setting: Setting, settings: dict[str, Any], unseen: np.ndarray | None,
                    test_too: bool = True, trial: dict[str, Any] | None = None) -> dict[str, Any]:
    """One run: fit, then score the best checkpoint. The test scores are saved in the scratch folder.

    trial: "medians" by which it is pruned, "curve" a file for the AUC of each epoch.
    """
    utils, features = (importlib.import_module(f"fuxictr.{name}") for name in ("utils", "features"))
    loaders = importlib.import_module("fuxictr.pytorch.dataloaders")
    model_class = getattr(importlib.import_module("model_zoo"), setting.model_class)
    check_settings(model_class, importlib.import_module("fuxictr.pytorch.models").BaseModel, settings)

    utils.set_logger(settings)
    importlib.import_module("fuxictr.pytorch.torch_utils").seed_everything(seed=settings["seed"])
    data_dir = Path(settings["data_root"], settings["dataset_id"])
    feature_map = features.FeatureMap(settings["dataset_id"], str(data_dir))
    feature_map.load(str(data_dir / "feature_map.json"), settings)
    model = model_class(feature_map, **settings)
    params, run_id = sum(p.numel() for p in model.parameters()), settings["model_id"]
    sizes = f"{params} parameters (published: {setting.published_params})"
    print(f"{run_id}: {sizes}, vocabulary {feature_map.total_features}", flush=True)

    train, valid = loaders.RankDataLoader(feature_map, stage="train", **settings).make_iterator()
    curve = watch(model, trial["medians"] if trial else [])
    start = time.perf_counter()
    model.fit(train, validation_data=valid, **settings)
    seconds = time.perf_counter() - start
    row = {"params": params, "seconds": f"{seconds:.1f}", "epochs": model._epoch_index + 1}
    row["best_epoch"] = row["epochs"] - model._stopping_steps
    row |= _metrics("valid", model, valid)
    if trial:
        Path(trial["curve"]).write_text(json.dumps(curve), encoding="utf-8")
    if not test_too:
        return row
    test = loaders.RankDataLoader(feature_map, stage="test", **settings).make_iterator()
    row |= _metrics("test", model, test)
    scores = model.predict(test).astype(np.float32)
    np.save(Path(settings["model_root"], f"{run_id}_test_scores.npy"), scores)
    if unseen is not None:
        labels = test.dataset.darray[:, feature_map.get_column_index(feature_map.labels[0])]
        row["test_auc_unseen_pairs"] = f"{roc_auc_score(labels[unseen], scores[unseen]):.6f}"
    return row


def _metrics(split: str, model: Any, loader: Any) -> dict[str, str]:
    return {f"{split}_{name.lower()}": f"{value:.6f}" for name, value in model.evaluate(loader).items()}


def parse_arguments(boards: Iterable[str]) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train FuxiCTR on our data files, one CSV row per run.")
    add = parser.add_argument
    add("--fuxictr", type=Path, required=True, help="git checkout of FuxiCTR")
    add("--data", default=os.environ.get("RECSYS_ZOO_DATA", "data"), help="folder of the boards")
    add("--splits", type=Path, help="prepared split folder, instead of DATA/BOARD")
    add("--board", choices=sorted(boards), required=True)
    add("--models", help="comma-separated, default: all of the board")
    add("--seeds", default="1,2,3,4,5", help="comma-separated")
    add("--epochs", type=int, default=100, help="cap on the epochs of a run")
    add("--tune", help="comma-separated regulariser weights: first choose by validation AUC with seed 0")
    add("--tune-epochs", type=int, default=10, help="cap on the epochs of a tuning trial")
    add("--options", type=json.loads, default={}, help="JSON: options of the models in place of the board's")
    add("--trial", type=json.loads, help="JSON: a trial of a tuning, which never scores test; medians: AUC "
        "by epoch below which it is pruned, curve: file for the AUC of each epoch")
    add("--threads", type=int, default=1)
    add("--fp32-matmul-precision", choices=("highest", "high", "medium"), default="medium")
    add("--work", type=Path, required=True, help="scratch folder: CSV files, checkpoints, test scores")
    add("--out", type=Path, required=True, help="result CSV, one row appended per finished run")
    return parser.parse_args()


class Queue:
    """The runs of one board, one after another."""

    def __init__(self, args: argparse.Namespace, common: dict[str, Any], board: Board) -> None:
        self.board, self.out, self.work = board, args.out, args.work.resolve()
        self.options, self.trial = args.options, args.trial
        digest = hashlib.sha256(json.dumps(args.options, sort_keys=True).encode()).hexdigest()[:8]
        self.own = f"options {digest}" if args.options else ""
        self.out.parent.mkdir(parents=True, exist_ok=True)
        splits = read_splits(board, args.splits or Path(args.data, args.board))
        self.settings = {**common, **prepare_dataset(args.board, board, splits, self.work)}
        self.settings |= {"batch_size": board.batch_size, "model_root": str(self.work / "checkpoints")}
        self.settings |= {"data_loader": sliced_loader}
        self.unseen = None
        if {"user", "item"} <= set(board.categorical):
            pairs = {k: pd.MultiIndex.from_frame(frame[["user", "item"]]) for k, frame in splits.items()}
            self.unseen = ~pairs["test"].isin(pairs["train"])
        git = ["git", "--git-dir", str(args.fuxictr / ".git"), "rev-parse", "--short=12", "HEAD"]
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
        self.fixed = {"system": "fuxictr", "fuxictr_commit": commit, "torch": torch.__version__}
        self.fixed |= {"board": args.board, "threads": args.threads}
        self.fixed |= {"fp32_matmul_precision": args.fp32_matmul_precision}
        self.remarks = [LOADER, *(f"{k}={os.environ[k]}" for k in MALLOC_VARIABLES if k in os.environ)]

    def run(self, name: str, seed: int, weight: float, epochs: int, *remarks: str) -> None:
        """Train one model with one seed unless its row is there."""
        setting = self.board.models[name]
        remarks = (*remarks, self.own) if self.own else remarks
        note = "; ".join([self.board.note, *remarks, f"epoch cap {epochs}", *self.remarks])
        row = {**self.fixed, "model": name, "seed": seed, "embedding_regularizer": weight, "note": note}
        if run_key(row) in map(run_key, read_rows(self.out)):
            return
        run_id = f"{row['board']}_{name}_reg{weight:g}_seed{seed}" + ("_tuning" if TUNING in remarks else "")
        run_id += f"_{self.own.replace(' ', '_')}" if self.own else ""
        own = {"seed": seed, "epochs": epochs, "model_id": run_id, setting.weight_key: weight}
        own = {**setting.options, **self.options, **own}
        row |= train_and_score(setting, {**self.settings, **own}, self.unseen, not self.trial, self.trial)
        append_row(self.out, row)
        test = row.get("test_auc", "not scored")
        print(f"{run_id}: valid {row['valid_auc']} test {test} in {row['seconds']} s", flush=True)

    def tuned_weight(self, name: str, candidates: list[float], epochs: int) -> float:
        """The candidate of best validation AUC with seed 0."""
        for weight in candidates:
            self.run(name, 0, weight, epochs, TUNING)
        rows = [r for r in read_rows(self.out) if r["model"] == name and TUNING in r["note"]]
        return float(max(rows, key=lambda row: float(row["valid_auc"]))["embedding_regularizer"])


def main() -> None:
    """Run what the command line asks for."""
    common, boards = load_settings()
    args = parse_arguments(boards)
    torch.set_num_threads(args.threads)
    torch.set_float32_matmul_precision(args.fp32_matmul_precision)
    print(f"float32 product, {args.fp32_matmul_precision}: relative error {matmul_error():.1e}", flush=True)
    sys.path.insert(0, str(args.fuxictr.resolve()))
    queue = Queue(args, common, boards[args.board])
    for name in args.models.split(",") if args.models else list(queue.board.models):
        setting = queue.board.models[name]
        weight = float({**setting.options, **args.options}[setting.weight_key])
        remarks = ["tuned" if args.options else setting.source]
        if args.tune:
            weight = queue.tuned_weight(name, [float(w) for w in args.tune.split(",")], args.tune_epochs)
            remarks.append("regulariser chosen on validation AUC")
        for seed in args.seeds.split(","):
            queue.run(name, int(seed), weight, args.epochs, *remarks)


if __name__ == "__main__":
    main()
