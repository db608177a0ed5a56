"""FuxiCTR's configuration as a recipe and a schema file of ours, with every difference in meaning said."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .config import write_toml
from .errors import InputError, unknown_name
from .files import write_whole

# FuxiCTR's class -> registry name, and its options -> settings of the model ("a b": one sets two settings).
MODELS: dict[str, tuple[str, dict[str, str]]] = {
    "LR": ("lr", {}),
    "FM": ("fm", {}),
    "FFM": ("ffm", {}),
    "FwFM": ("fwfm", {"linear_type": "linear_type"}),
    "FmFM": ("fmfm", {}),
    "AFM": ("afm", {"attention_dim": "attention_dim"}),
    "NFM": ("nfm", {"hidden_units": "hidden"}),
    "DNN": ("dnn", {"hidden_units": "hidden"}),
    "WideDeep": ("wide_deep", {"hidden_units": "hidden"}),
    "DeepFM": ("deepfm", {"hidden_units": "hidden"}),
    "PNN": ("ipnn", {"hidden_units": "hidden"}),
    "DCN": ("dcn", {"num_cross_layers": "layers", "crossing_layers": "layers", "dnn_hidden_units": "hidden"}),
    "DCNv2": (
        "dcnv2",
        {
            "model_structure": "structure",
            "num_cross_layers": "layers",
            "low_rank": "rank",
            "parallel_dnn_hidden_units": "hidden",
            "stacked_dnn_hidden_units": "stacked_hidden",
        },
    ),
    "xDeepFM": (
        "xdeepfm",
        {"cin_hidden_units": "cin", "cin_layer_units": "cin", "dnn_hidden_units": "hidden"},
    ),
    "AutoInt": (
        "autoint.fuxi",
        {
            "attention_layers": "layers",
            "num_heads": "heads",
            "attention_dim": "attention_dim",
            "use_scale": "scale",
            "use_wide": "wide",
            "dnn_hidden_units": "hidden",
            "net_dropout": "dropout attention_dropout",
        },
    ),
    "FinalMLP": (
        "finalmlp",
        {
            "mlp1_hidden_units": "hidden",
            "mlp1_dropout": "dropout",
            "mlp1_batch_norm": "batch_norm",
            "mlp2_hidden_units": "second_hidden",
            "mlp2_dropout": "second_dropout",
            "use_fs": "gates",
            "mlp2_batch_norm": "second_batch_norm",
            "fs_hidden_units": "gate_hidden",
            "fs1_context": "context",
            "fs2_context": "second_context",
            "num_heads": "heads",
        },
    ),
}
_TRAIN = {
    "batch_size": "batch_size",
    "learning_rate": "lr",
    "epochs": "epochs",
    "seed": "seed",
    "early_stop_patience": "patience",
    "patience": "patience",
}
_SHARED = {"batch_norm": "batch_norm", "net_dropout": "dropout"}
_MONITORS = {"AUC": "auc", "gAUC": "gauc", "logloss": "logloss"}
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
    "optimizer": ("adam",),
    "loss": ("binary_crossentropy", "binary_cross_entropy"),
    "shuffle": (True,),
    "task": ("binary_classification",),
    "save_best_only": (True,),
    "eval_steps": (None,),
    "use_features": (None,),
    "feature_specs": (None,),
    "feature_config": (None,),
    "product_type": ("inner",),
    "use_residual": (True,),
}
_NORMALISERS = {"StandardScaler": "standardise"}
_BUCKETS = {"quantile_bucket": "quantile", "numeric_log_bucket": "log_square"}


@dataclass
class Imported:
    """A recipe and, where the data set is described, a schema, as nested plain values; what differs."""

    recipe: dict[str, Any]
    schema: dict[str, Any] | None
    differences: list[str] = field(default_factory=list)


def import_fuxictr(folder: Path | str, experiment: str) -> Imported:
    """Read model_config.yaml and dataset_config.yaml of a FuxiCTR configuration folder.

    InputError for files that are missing or no YAML, and for an unknown experiment, model or data set.
    """
    folder = Path(folder)
    models = _read(folder / "model_config.yaml")
    names = [name for name in models if name != "Base"]
    if experiment not in names:
        raise unknown_name("experiment", experiment, names)
    options = {**(models.get("Base") or {}), **models[experiment]}
    found = _recipe(options, experiment)
    data = _read(folder / "dataset_config.yaml") if (folder / "dataset_config.yaml").is_file() else {}
    described = data.get(str(options.get("dataset_id")))
    if described and described.get("feature_cols"):
        found.schema = _schema(str(options["dataset_id"]), described, options, found.differences)
    else:
        found.differences.append(
            f"the data set {options.get('dataset_id')!r} is not described by columns there (its files are "
            "encoded "
            "already); prepare the raw files with an own schema file"
        )
    return found


def write_imported(found: Imported, out: Path, schema: Path | None = None) -> list[str]:
    """Write the recipe (and the schema file) with the differences as comments; returns what to tell.

    InputError when a file is there already, or when a schema is asked for and the columns are not known.
    """
    for path in filter(None, (out, schema)):
        if path.exists():
            raise InputError(f"{path}: exists already; choose another name")
    if schema is not None and found.schema is None:
        raise InputError(f"--schema {schema}: {found.differences[-1]}")
    head = "".join(
        f"# {line}\n" for line in ("From a FuxiCTR configuration. It differs:", *found.differences)
    )
    write_whole(out, head + write_toml(found.recipe))
    lines = [f"wrote {out}", *(f"differs: {line}" for line in found.differences)]
    if schema is not None and found.schema is not None:
        write_whole(
            schema,
            "# From a FuxiCTR configuration; edit, then `recsys-zoo prepare`.\n" + write_toml(found.schema),
        )
        lines.insert(1, f"wrote {schema}")
    return lines


def _read(path: Path) -> dict[str, Any]:
    try:
        import yaml
    except ImportError:
        raise InputError("reading YAML needs PyYAML: pip install 'recsys-zoo[import]'") from None
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict) or not all(isinstance(v, dict) for v in values.values()):
        raise InputError(f"{path}: is no table of named tables, as FuxiCTR's configurations are")
    return values


def _recipe(options: dict[str, Any], experiment: str) -> Imported:
    name, renamed = MODELS.get(str(options.get("model")), ("", {}))
    if not name:
        raise unknown_name("model to translate", str(options.get("model")), MODELS)
    model: dict[str, Any] = {"name": name, "embedding": {}}
    train: dict[str, Any] = {"monitor": _monitor(options)}
    found = Imported(
        {
            "board": experiment,
            "data": str(options.get("dataset_id", "")),
            "hparams": "default",
            "model": model,
            "train": train,
        },
        None,
    )
    for key, value in options.items():
        value = _number(value)
        if key in renamed or key in _SHARED:
            for target in renamed.get(key, _SHARED.get(key, "")).split():
                model[target] = value if value is not None else []
        elif key in _TRAIN:
            train[_TRAIN[key]] = value
        elif key == "embedding_dim":
            model["embedding"]["dim"] = value
        elif key.endswith("regularizer"):
            _regulariser(key, value, train, found.differences)
        elif key not in _WITHOUT_EFFECT and not _is_ours(key, value, model):
            found.differences.append(
                f"{key} = {value!r} has no counterpart and is left out: the run is another one"
            )
    if name == "dcnv2" and options.get("use_low_rank_mixture"):
        model["experts"] = options.get("num_experts", 4)
    if name == "dcnv2" and not options.get("use_low_rank_mixture"):
        model.pop("rank", None)
    if name.startswith("autoint") and options.get("layer_norm"):
        model["norm"] = "pre_relu"
    found.differences += _standing(name)
    return found


def _is_ours(key: str, value: Any, model: dict[str, Any]) -> bool:
    """Whether an option without a setting of its own has the value that the model here always has."""
    if key.endswith("activations"):
        return value is None or str(value).lower() == "relu"
    if key in ("use_low_rank_mixture", "num_experts", "layer_norm"):
        return True  # looked at after all others
    return key in _FIXED and value in _FIXED[key]


def _number(value: Any) -> Any:
    """YAML 1.1 reads 1e-3 as a text; here it is the number that was meant."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _regulariser(key: str, value: Any, train: dict[str, Any], differences: list[str]) -> None:
    if value in (None, 0, ""):
        return
    if not isinstance(value, int | float):
        differences.append(f"{key} = {value!r}: only squared norms with one weight are here; it is left out")
        return
    if key != "net_regularizer":
        train["table_l2"] = float(value)
    if key != "embedding_regularizer":
        train["net_l2"] = float(value)


def _monitor(options: dict[str, Any]) -> str:
    asked = options.get("monitor", "AUC")
    if isinstance(asked, str) and asked in _MONITORS:
        return _MONITORS[asked]
    known = {("AUC", "logloss"): "auc-logloss", ("AUC", "gAUC"): "auc+gauc"}
    found = known.get(tuple(sorted(asked))) if isinstance(asked, dict) else None
    if found is None:
        raise InputError(
            f"monitor = {asked!r} is not translated; choose one of AUC, gAUC, logloss and their pairs"
        )
    return found


def _standing(name: str) -> list[str]:
    """What differs whatever the settings are."""
    lines = [
        "the same seed draws other random numbers: compare means over seeds, not single runs",
        "one padding row a table where FuxiCTR has one a column: it counts more parameters, for the same "
        "functions",
    ]
    if name in ("deepfm", "wide_deep", "nfm"):
        lines.append("one bias, the MLP's, where FuxiCTR 2 has a second one in the first-order term")
    return lines


def _schema(
    name: str, described: dict[str, Any], options: dict[str, Any], differences: list[str]
) -> dict[str, Any]:
    labels = described.get("label_col") or {}
    labels = labels if isinstance(labels, list) else [labels]
    schema: dict[str, Any] = {
        "dataset": name,
        "labels": [label["name"] for label in labels if "name" in label],
    }
    if options.get("group_id"):
        schema["group"] = str(options["group_id"])
    smallest = int(options.get("min_categr_count") or described.get("min_categr_count") or 1)
    schema["columns"] = []
    for entry in described["feature_cols"]:
        names = entry["name"] if isinstance(entry["name"], list) else [entry["name"]]
        for column in names if entry.get("active", True) else ():
            made = _column(str(column), entry, smallest, differences)
            schema["columns"] += [made] if made else []
    return schema


def _column(name: str, entry: dict[str, Any], smallest: int, differences: list[str]) -> dict[str, Any] | None:
    kind, column = str(entry.get("type", "categorical")), {"name": name}
    if kind == "meta":
        return None
    if kind not in ("categorical", "numeric", "sequence"):
        differences.append(f"column {name!r} of type {kind!r} has no counterpart and is left out")
        return None
    bucketed = bool(entry.get("category_processor"))
    column["kind"] = kind = "categorical" if bucketed else kind
    if entry.get("source") in ("user", "item"):
        column["side"] = entry["source"]
    if kind == "numeric":
        scaler = entry.get("normalizer")
        column["rule"] = _NORMALISERS.get(str(scaler), "linear")
        if scaler and str(scaler) not in _NORMALISERS:
            differences.append(
                f"column {name!r}: normalizer {scaler!r} is not here; the numbers stay as they are"
            )
        differences.append(
            f"column {name!r}: its vector starts with embedding.init_std, in FuxiCTR by Xavier"
        )
    elif entry.get("category_processor"):
        rule = _BUCKETS.get(str(entry["category_processor"]))
        if rule is None:
            differences.append(
                f"column {name!r}: {entry['category_processor']!r} is not here; values stay themselves"
            )
        else:
            column |= {
                "rule": rule,
                **({"bins": int(entry["num_buckets"])} if "num_buckets" in entry else {}),
            }
    elif entry.get("share_embedding"):
        column["share_with"] = str(entry["share_embedding"])
    else:
        column["min_count"] = int(entry.get("min_categr_count", smallest))
    if kind == "sequence":
        column |= {"separator": entry.get("splitter") or " ", "max_len": int(entry.get("max_len") or 0)}
        differences.append(
            f"column {name!r}: pooled by the mean of what is present, also in the first-order term, where "
            "FuxiCTR "
            f"adds up; its encoder there is {entry.get('feature_encoder')!r}"
        )
    if entry.get("preprocess"):
        differences.append(
            f"column {name!r}: preprocess {entry['preprocess']!r} is not applied; do it before"
        )
    return column
