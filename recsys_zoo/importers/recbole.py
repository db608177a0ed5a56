"""RecBole's configuration as a recipe and a schema file of ours, with every difference in meaning said."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError, unknown_name
from .atomic import HANDLED, add_schema
from .imported import Imported, check, fill_settings, left_out, number, optimizer, read_yaml
from .recnets import NETS, Net

# RecBole's own settings of a click model, where a configuration is silent.
_DEFAULTS: dict[str, Any] = {
    "seed": 2020,
    "epochs": 300,
    "train_batch_size": 2048,
    "learner": "adam",
    "learning_rate": 1e-3,
    "eval_step": 1,
    "stopping_step": 10,
    "weight_decay": 0.0,
    "valid_metric": "AUC",
    "metric_decimal_place": 4,
    "data_path": "dataset/",
    "field_separator": "\t",
    "seq_separator": " ",
    "USER_ID_FIELD": "user_id",
    "ITEM_ID_FIELD": "item_id",
    "TIME_FIELD": "timestamp",
    "LABEL_FIELD": "label",
    "load_col": {"inter": ["user_id", "item_id"]},
    "numerical_features": [],
    "filter_inter_by_user_or_item": True,
    "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "group_by": None, "mode": "labeled"},
}
_TABLES = ("load_col", "unload_col", "unused_col", "threshold", "seq_len", "discretization", "eval_args")
_TABLES += ("clip_grad_norm",)
_LISTS = ("numerical_features", "normalize_field", "benchmark_filename")
_LISTS_BY_FILE = ("load_col", "unload_col", "unused_col")
_TRAIN = {"epochs": "epochs", "train_batch_size": "batch_size", "learning_rate": "lr", "seed": "seed"}
_MONITORS = {"auc": "auc", "logloss": "logloss", "gauc": "gauc"}
# Places, logs, what is looked at, names that click models do not read: nothing that changes the result.
_WITHOUT_EFFECT = {"model", "dataset", "gpu_id", "use_gpu", "worker", "state", "reproducibility", "data_path"}
_WITHOUT_EFFECT |= {"checkpoint_dir", "show_progress", "save_dataset", "dataset_save_path", "wandb_project"}
_WITHOUT_EFFECT |= {"save_dataloaders", "dataloaders_save_path", "log_wandb", "loss_decimal_place", "metrics"}
_WITHOUT_EFFECT |= {"eval_batch_size", "valid_metric_bigger", "topk", "require_pow", "config_files", "nproc"}
_WITHOUT_EFFECT |= {"NEG_PREFIX", "LIST_SUFFIX", "ITEM_LIST_LENGTH_FIELD", "MAX_ITEM_LIST_LENGTH"}
_WITHOUT_EFFECT |= {"POSITION_FIELD", "HEAD_ENTITY_ID_FIELD", "TAIL_ENTITY_ID_FIELD", "RATING_FIELD"}
_WITHOUT_EFFECT |= {"RELATION_ID_FIELD", "ENTITY_ID_FIELD", "kg_reverse_r", "entity_kg_num_interval"}
_WITHOUT_EFFECT |= {"relation_kg_num_interval", "alias_of_user_id", "alias_of_item_id", "repeatable"}
_WITHOUT_EFFECT |= {"alias_of_entity_id", "alias_of_relation_id", "enable_scaler"}
# Looked at together; settings with the only value that we have too.
_TOGETHER = {"eval_step", "stopping_step", "clip_grad_norm", "valid_metric", "learner", "weight_decay"}
_TOGETHER |= {"metric_decimal_place", "embedding_size", "reg_weight", *HANDLED}
_FIXED: dict[str, tuple[Any, ...]] = {
    "shuffle": (True,),
    "enable_amp": (False,),
    "transform": (None,),
    "train_neg_sample_args": (None, "None"),
    "preload_weight": (None,),
    "additional_feat_suffix": (None, []),
    "encoding": (None, "utf-8"),
    "fields": (None,),
    "use_inner": (True,),
    "use_outer": (False,),
    "direct": (True,),
    "dropout_prob": (0.0,),
    "double_tower": (None, False),
}


def import_recbole(
    files: Sequence[Path | str], model: str = "", dataset: str = "", data: Path | str | None = None
) -> Imported:
    """Read RecBole's configuration files (later ones win) and the headers of the data set's atomic files.

    model and dataset: where the files do not name them. data: the folder with `dataset`.inter, else
    data_path/dataset as RecBole has it. Without that file there is no schema: types stand in its header.
    InputError for files that cannot be read, an unknown model, a metric of validation that is not here, and
    for a value that our settings refuse.
    """
    given: dict[str, Any] = {}
    for file in files:
        given |= read_yaml(Path(file))
    model = model or str(given.get("model") or "")
    dataset = dataset or str(given.get("dataset") or "")
    if not model or not dataset:
        missing = "model" if not model else "dataset"
        raise InputError(f"the configuration names no {missing}; give --{missing} NAME")
    if model not in NETS:
        raise unknown_name("model to translate", model, NETS)
    net = NETS[model]
    options = {**_DEFAULTS, **net.defaults, **given}
    _check_forms(options)
    found = Imported("RecBole", _recipe(net, options, dataset))
    say, known = found.differences.append, {*net.settings, *net.also, *_TRAIN, *_WITHOUT_EFFECT, *_TOGETHER}
    for key, value in options.items():
        if key not in known and not (key in _FIXED and value in _FIXED[key]):
            say(left_out(key, value))
    found.differences += _of_training(options, found.recipe["train"])
    found.differences += _of_network(net, options)
    found.differences += _standing(options)
    add_schema(found, options, dataset, Path(data) if data else Path(str(options["data_path"])) / dataset)
    check(found)
    return found


def _check_forms(options: dict[str, Any]) -> None:
    """InputError where a text stands for a list of names: parts of it would be taken for names."""
    for keys, form, word in ((_TABLES, dict, "table"), (_LISTS, list, "list")):
        for key in keys:
            if options.get(key) is not None and not isinstance(options[key], form):
                raise InputError(f"{key} = {options[key]!r}: is no {word}, as RecBole has it")
    for key in _LISTS_BY_FILE:
        for kind, names in (options.get(key) or {}).items():
            if not (names is None or isinstance(names, list) or (names == "*" and key == "load_col")):
                raise InputError(f"{key}: {kind} = {names!r}: is no list of columns")


def _recipe(net: Net, options: dict[str, Any], dataset: str) -> dict[str, Any]:
    metric = str(options["valid_metric"])
    if metric.lower() not in _MONITORS:
        raise InputError(f"valid_metric = {metric!r} is not translated; choose one of AUC, LogLoss, GAUC")
    steps = max(_whole(options, "eval_step"), 1)
    train: dict[str, Any] = {ours: options[key] for key, ours in _TRAIN.items()}
    train |= {
        "monitor": _MONITORS[metric.lower()],
        "patience": (_whole(options, "stopping_step") + 1) * steps,
        "min_delta": 0.0,
        "plateau_factor": 1.0,
        "clip_norm": _clip(options.get("clip_grad_norm")),
    }
    if options["weight_decay"]:
        train["table_l2"] = train["net_l2"] = options["weight_decay"]
    model: dict[str, Any] = {"name": net.name, "embedding": {"dim": options["embedding_size"]}, **net.always}
    for key, targets in net.settings.items():
        fill_settings(model, targets, options[key])
    net.finish(model, options)
    return {"board": dataset, "data": dataset, "hparams": "default", "model": model, "train": train}


def _whole(options: dict[str, Any], key: str) -> int:
    if not isinstance(options[key], int):
        raise InputError(f"{key} = {options[key]!r}: is no whole number")
    return options[key]


def _clip(asked: Any) -> float:
    """RecBole clips only when told; a norm that no gradient reaches is the same as none."""
    return number(asked["max_norm"], "clip_grad_norm: max_norm") if asked and "max_norm" in asked else 1e30


def _of_training(options: dict[str, Any], train: dict[str, Any]) -> list[str]:
    lines = []
    clip, steps = options.get("clip_grad_norm"), options["eval_step"]
    optimizer("learner", options["learner"], train, lines)
    if options["weight_decay"]:
        lines.append(
            "weight_decay becomes table_l2 and net_l2: on all parameters, biases too, as there, but here it "
            "counts in the norm that clip_grad_norm clips; there it is added after clipping"
        )
    if clip and clip.get("norm_type", 2) != 2:
        lines.append(f"clip_grad_norm = {clip!r}: the norm is the Euclidean one here")
    if steps > 1:
        lines.append(
            f"eval_step = {steps}: validation follows every epoch here, so any epoch can be the best one; "
            f"patience counts {train['patience']} epochs"
        )
    if steps < 1:
        lines.append(f"eval_step = {steps}: RecBole keeps the last epoch, here the best one on valid is kept")
    places = options["metric_decimal_place"]
    lines.append(
        f"the metric of validation is rounded to {places} places there, so that an epoch a little worse than "
        "the best one can take its place; here it is not: training may stop earlier, at another epoch"
    )
    lines.append("logloss keeps probabilities 1e-7 away from 0 and 1, there 1e-15")
    if train["monitor"] == "gauc":
        lines.append(
            "GAUC weights users by their positives there, over positives and sampled negatives; here by "
            "their rows, over the rows of the file"
        )
    return lines


def _of_network(net: Net, options: dict[str, Any]) -> list[str]:
    lines = list(net.notes)
    weight = options.get("reg_weight")
    if weight and net.penalised:
        lines.append(
            f"reg_weight = {weight!r}: that many times the norm (not its square) of {net.penalised} is added "
            "to the loss there; such a term is not here"
        )
    elif weight:
        lines.append(left_out("reg_weight", weight))
    return lines


def _standing(options: dict[str, Any]) -> list[str]:
    """What differs whatever the settings are."""
    return [
        "the same seed draws other random numbers: compare means over seeds, not single runs",
        "settings that RecBole ships for a data set of this name are not read: pass them as a first file",
        "tables start there by Xavier, N(0, 2 / (rows + width)) over all columns together, here from "
        "N(0, embedding.init_std^2): set it for the same start",
        "each value of the whole files has a row of its own there, before the split, so also one that only "
        "validation or test has (its row is never trained); here such values share the row 'unknown'",
        "a missing value reads row 0 of its column there, drawn and trained like the others; here 'unknown'",
        "rows without user or item are dropped there, here they are kept",
        "every network holds a first-order table there, also where it reads none: it counts more parameters",
    ]
