"""FuxiCTR's configuration as a recipe and a schema file of ours, with every difference in meaning said."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ..errors import InputError, unknown_name
from .fuxicolumns import add_schema
from .fuximodels import DEFAULTS, MODELS, finish_model
from .imported import Imported, check, fill_settings, left_out, number, optimizer, read_yaml

_COMMON = {"embedding_dim": 10, "learning_rate": 1e-3, "batch_size": 32, "epochs": 1}
_TRAIN = {
    "batch_size": "batch_size",
    "learning_rate": "lr",
    "epochs": "epochs",
    "seed": "seed",
    "early_stop_patience": "patience",
    "patience": "patience",
    "max_gradient_norm": "clip_norm",
}
_SHARED = {"batch_norm": "batch_norm", "net_dropout": "dropout"}
# Weights of the metrics in the number that is maximised -> our name.
_MONITORS = {
    (("AUC", 1),): "auc",
    (("gAUC", 1),): "gauc",
    (("logloss", -1),): "logloss",
    (("AUC", 1), ("logloss", -1)): "auc-logloss",
    (("AUC", 1), ("gAUC", 1)): "auc+gauc",
}
# Where files lie, how much is printed, what is looked at: nothing that changes the result.
_WITHOUT_EFFECT = {
    "model",
    "dataset_id",
    "model_root",
    "num_workers",
    "verbose",
    "pickle_feature_encoder",
    "debug_mode",
    "metrics",
    "monitor",
    "monitor_mode",
    "reduce_lr_on_plateau",
    "gpu",
    "model_id",
    "data_root",
    "data_format",
    "train_data",
    "valid_data",
    "test_data",
    "data_block_size",
    "streaming",
    "base_config",
    "base_expid",
    "version",
    "group_id",
    "min_categr_count",
}
# Options with the only value that we have too.
_FIXED: dict[str, tuple[Any, ...]] = {
    "loss": ("binary_crossentropy", "binary_cross_entropy", "bce"),
    "shuffle": (True,),
    "task": ("binary_classification",),
    "save_best_only": (True,),
    "eval_steps": (None,),
    "use_features": (None,),
    "feature_specs": (None,),
    "feature_config": (None,),
    "product_type": ("inner",),
    "use_attention": (True,),
    "norm_type": ("BN",),
    "bn_only_once": (False,),
    "embedding_dropout": (0,),
    "accumulation_steps": (1,),
}
# Options that finish_model looks at after all others.
_LATER = {
    "use_low_rank_mixture",
    "num_experts",
    "layer_norm",
    "use_residual",
    "attention_dropout",
    "ensemble_dnn",
}


def import_fuxictr(folder: Path | str, experiment: str, data: Path | str | None = None) -> Imported:
    """Read model_config.yaml and dataset_config.yaml (or folders of such names) of a FuxiCTR configuration.

    data: the folder of feature_map.json, which is read where dataset_config.yaml does not list the columns;
    else data_root/dataset_id as FuxiCTR has it.
    InputError for files that are missing or no YAML, for an unknown experiment, model or data set, and for a
    value that our settings refuse.
    """
    folder = Path(folder)
    models = _tables(folder, "model_config")
    names = [name for name in models if name != "Base"]
    if experiment not in names:
        raise unknown_name("experiment", experiment, names)
    options = {**models.get("Base", {}), **models[experiment]}
    found = _recipe(options, experiment)
    tables = _tables(folder, "dataset_config", needed=False)
    dataset = str(options.get("dataset_id"))
    described = tables.get(dataset) or {}
    place = Path(data) if data else Path(str(described.get("data_root") or "")) / dataset
    if described.get("feature_cols"):
        if data:
            raise InputError(f"--data {data}: the configuration lists the columns already; leave --data out")
        add_schema(found, described, options)
    elif (place / "feature_map.json").is_file():
        add_schema(found, _read_map(place / "feature_map.json", dataset, found), options)
    else:
        found.differences.append(
            f"the data set {dataset!r} is not described by columns there (its files are encoded already), "
            f"and there is no {place / 'feature_map.json'}; give --data FOLDER, or prepare the raw files "
            "with an own schema file"
        )
    check(found)
    return found


def _tables(folder: Path, name: str, needed: bool = True) -> dict[str, Any]:
    """The named tables of name.yaml, or, where there is none, of the files in the folder `name`."""
    whole = folder / f"{name}.yaml"
    parts = [] if whole.is_file() else sorted((folder / name).glob("*.yaml"))
    tables: dict[str, Any] = {}
    for path in parts or ([whole] if needed or whole.is_file() else []):
        values = {name: {} if table is None else table for name, table in read_yaml(path).items()}
        if not all(isinstance(v, dict) for v in values.values()):
            raise InputError(f"{path}: is no table of named tables, as FuxiCTR's configurations are")
        tables |= values
    return tables


def _read_map(path: Path, dataset: str, found: Imported) -> dict[str, Any]:
    """The columns and labels of feature_map.json as dataset_config.yaml describes them."""
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        columns = [(name, dict(facts)) for entry in read["features"] for name, facts in entry.items()]
        labels, owner = [{"name": name} for name in read["labels"]], read["dataset_id"]
    except (ValueError, TypeError, KeyError, AttributeError):
        raise InputError(f"{path}: is no feature map of FuxiCTR, with features and labels") from None
    if owner != dataset:
        raise InputError(f"{path}: is of the data set {owner!r}, and the experiment's is {dataset!r}")
    found.differences.append(
        f"the columns are those of {path}, for the raw files: it does not say which values were too rare, "
        "how lists are written and which end of them is kept, how numbers were filled, scaled or put into "
        "buckets; set min_count, separator, kind, fill and rule so. The tables have "
        f"{read.get('total_features')} rows there"
    )
    ids = ("vocab_size", "padding_idx", "oov_idx")  # of the encoded files
    named = [
        {"name": name, "feature_encoder": None, **{k: v for k, v in facts.items() if k not in ids}}
        for name, facts in columns
    ]
    return {"label_col": labels, "feature_cols": named}


def _recipe(given: dict[str, Any], experiment: str) -> Imported:
    asked = str(given.get("model"))
    name, renamed = MODELS.get(asked, ("", {}))
    if not name:
        raise unknown_name("model to translate", asked, MODELS)
    options = {**_COMMON, **DEFAULTS.get(asked, {}), **given}
    model: dict[str, Any] = {"name": name, "embedding": {}}
    train: dict[str, Any] = {"monitor": _monitor(options)}
    found = Imported(
        "FuxiCTR",
        {
            "board": experiment,
            "data": str(options.get("dataset_id", "")),
            "hparams": "default",
            "model": model,
            "train": train,
        },
    )
    for key, value in options.items():
        if key in renamed or key in _SHARED:
            fill_settings(model, renamed.get(key, _SHARED.get(key, "")), value)
        elif key in _TRAIN:
            train[_TRAIN[key]] = value
        elif key == "optimizer":
            optimizer(key, value, train, found.differences)
        elif key == "embedding_dim":
            model["embedding"]["dim"] = value
        elif key.endswith("regularizer"):
            _regulariser(key, value, train, found.differences)
        elif key not in _WITHOUT_EFFECT and not _is_ours(key, value):
            found.differences.append(left_out(key, value))
    if options.get("reduce_lr_on_plateau") is False:
        train["plateau_factor"] = 1.0
    finish_model(name, model, options)
    found.differences += _standing(name, options)
    return found


def _is_ours(key: str, value: Any) -> bool:
    """Whether an option without a setting of its own has the value that the model here always has."""
    if key.endswith("activations"):
        return value is None or str(value).lower() == "relu"
    if key in _LATER:
        return True
    return key in _FIXED and value in _FIXED[key]


def _regulariser(key: str, value: Any, train: dict[str, Any], differences: list[str]) -> None:
    squared = re.fullmatch(r"l2\(([-+.\deE]+)\)", value) if isinstance(value, str) else None
    value = number(squared[1], key) if squared else value
    if value in (None, "") or isinstance(value, int):
        return  # FuxiCTR reads floats and texts alone: a whole number adds nothing
    if not isinstance(value, float):
        differences.append(f"{key} = {value!r}: only squared norms with one weight are here; it is left out")
        return
    if key != "net_regularizer":
        train["table_l2"] = value
    if key != "embedding_regularizer":
        train["net_l2"] = value


def _monitor(options: dict[str, Any]) -> str:
    asked = options.get("monitor", "AUC")
    sign = -1 if options.get("monitor_mode") == "min" else 1
    weights = asked if isinstance(asked, dict) else {str(asked): 1}
    found = _MONITORS.get(tuple(sorted((str(metric), sign * w) for metric, w in weights.items())))
    if found is None:
        raise InputError(
            f"monitor = {asked!r} with monitor_mode = {options.get('monitor_mode', 'max')!r} is not "
            "translated; choose AUC, gAUC, AUC - logloss or AUC + gAUC with max, or logloss with min"
        )
    return found


def _standing(name: str, options: dict[str, Any]) -> list[str]:
    """What differs whatever the settings are."""
    lines = [
        "the same seed draws other random numbers: compare means over seeds, not single runs",
        "one padding row a table where FuxiCTR has one a column: it counts more parameters, for the same "
        "functions",
        "logloss keeps probabilities 1e-7 away from 0 and 1; FuxiCTR 2 leaves that to scikit-learn",
        f"where the network itself differs is said by `recsys-zoo show {name}`",
    ]
    if options.get("seed") is None:
        lines.append("no seed is given: here it is 1")
    if name == "deepfm":
        lines.append("one bias, the MLP's, where FuxiCTR 2 has a second one in the first-order term")
    return lines
