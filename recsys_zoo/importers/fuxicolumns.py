"""The data set of a FuxiCTR configuration as a schema, with every difference in meaning said."""

from __future__ import annotations

import shlex
from typing import Any

from ..errors import InputError
from .imported import Imported, has_first_order, number

# Options of a data set and of a column that are looked at; all others are said to be left out.
_DATA = {"data_root", "data_format", "train_data", "valid_data", "test_data", "min_categr_count", "label_col"}
_DATA |= {"feature_cols", "num_buckets", "valid_size", "test_size", "split_type", "rebuild_dataset"}
_DATA |= {"data_block_size"}
_COLUMN = {"name", "active", "dtype", "type", "source", "min_categr_count", "category_processor"}
_COLUMN |= {"num_buckets", "share_embedding", "splitter", "max_len", "padding", "fill_na", "normalizer"}
_COLUMN |= {"embedding_dim", "feature_encoder", "preprocess"}
_MEAN, _SUM = (None, "layers.MaskedAveragePooling()"), "layers.MaskedSumPooling()"


def add_schema(found: Imported, described: dict[str, Any], options: dict[str, Any]) -> None:
    """Put the schema, the widths of single columns and what differs into `found`."""
    labels = _named(described, "label_col")
    schema: dict[str, Any] = {
        "dataset": str(options["dataset_id"]),
        "labels": [str(label["name"]) for label in labels],
    }
    if options.get("group_id"):
        schema["group"] = str(options["group_id"])
    _say_files(found, described)
    for label in labels:
        if label.get("preprocess"):
            found.differences.append(
                f"label {label['name']!r}: preprocess {label['preprocess']!r} is not applied; "
                "do it before"
            )
    common = {"min_categr_count": 1, "num_buckets": 10}
    common |= {key: source[key] for source in (options, described) for key in common if source.get(key)}
    columns, entries = [], []
    for entry in _named(described, "feature_cols"):
        names = entry["name"] if isinstance(entry["name"], list) else [entry["name"]]
        for name in names if entry.get("active", True) else ():
            made = _column(str(name), {**common, **entry}, found)
            columns += [made] if made else []
            entries += [entry] if made else []
    found.schema = schema | {"columns": columns}
    _say_pooling(found, entries)


def _named(described: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The tables under label_col or feature_cols; InputError for an entry that is none or has no name."""
    entries = described.get(key) or []
    entries = entries if isinstance(entries, list) else [entries]
    for entry in entries:
        if not isinstance(entry, dict) or "name" not in entry:
            raise InputError(f"{key}: {entry!r} is no table with a name, as FuxiCTR has it")
    return entries


def _say_files(found: Imported, described: dict[str, Any]) -> None:
    """Which files are which split, and what of it is not done."""
    say = found.differences.append
    files = {split: described.get(f"{split}_data") for split in ("train", "valid", "test")}
    if files["train"]:
        later = [("--split", f"{split}={files[split]}") for split in ("valid", "test") if files[split]]
        found.prepare = shlex.join([str(files["train"]), *(word for words in later for word in words)])
    if files["valid"] and files["valid"] == files["test"]:
        say(
            "valid_data is test_data: the best epoch is chosen on the test rows there; give prepare rows of "
            "their own"
        )
    for key in ("valid_size", "test_size"):
        if described.get(key):
            say(
                f"{key} = {described[key]!r} ({described.get('split_type', 'sequential')}) is not applied: "
                "give prepare one file a split, or a [split] table"
            )
    if described.get("data_format", "csv") not in ("csv", "parquet"):
        say(
            f"data_format = {described['data_format']!r}: prepare reads CSV, TSV and Parquet; "
            "convert the files"
        )
    for key in sorted(described.keys() - _DATA):
        say(f"{key} = {described[key]!r} of the data set has no counterpart and is left out")


def _column(name: str, entry: dict[str, Any], found: Imported) -> dict[str, Any] | None:
    kind, column = str(entry.get("type", "categorical")), {"name": name}
    if kind == "meta":
        return None
    if kind not in ("categorical", "numeric", "sequence"):
        found.differences.append(f"column {name!r} of type {kind!r} has no counterpart and is left out")
        return None
    say = _Say(name, found.differences)
    if entry.get("source") in ("user", "item"):
        column["side"] = entry["source"]
    if kind == "numeric":
        column |= _numeric(entry, say)
    elif entry.get("category_processor"):
        column |= _bucketed(entry, say)
    else:
        column |= _values(kind, entry, say)
    if entry.get("embedding_dim"):
        widths = found.recipe["model"]["embedding"].setdefault("widths", {})
        widths[name] = say.number(entry, "embedding_dim", int)
    if entry.get("preprocess"):
        say(f"preprocess {entry['preprocess']!r} is not applied; do it before")
    for key in sorted(entry.keys() - _COLUMN):
        say(f"{key} = {entry[key]!r} has no counterpart and is left out")
    return column


class _Say:
    """Adds a line about one column."""

    def __init__(self, name: str, differences: list[str]) -> None:
        self.name, self.differences = name, differences

    def __call__(self, line: str) -> None:
        self.differences.append(f"column {self.name!r}: {line}")

    def number(self, entry: dict[str, Any], key: str, kind: type[int] | type[float] = float) -> Any:
        """The number under `key`, 0 where there is none; InputError names the column."""
        return number(entry.get(key, 0), f"column {self.name!r}: {key}", kind)


def _numeric(entry: dict[str, Any], say: _Say) -> dict[str, Any]:
    """Missing numbers are filled before the scaler there, with 0 unless told."""
    scaler = entry.get("normalizer")
    if scaler not in (None, "StandardScaler"):
        say(f"normalizer {scaler!r} is not here; the numbers stay as they are")
    if entry.get("feature_encoder"):
        say(f"feature_encoder = {entry['feature_encoder']!r} has no counterpart and is left out")
    say("its vector starts with embedding.init_std, in FuxiCTR by Xavier")
    rule = "standardise" if scaler == "StandardScaler" else "linear"
    return {"kind": "numeric", "rule": rule, "fill": say.number(entry, "fill_na")}


def _bucketed(entry: dict[str, Any], say: _Say) -> dict[str, Any]:
    processor = str(entry["category_processor"])
    if processor == "quantile_bucket":
        say(
            "quantile_bucket: buckets of all training rows, by rank; FuxiCTR interpolates the limits, and "
            "its version 2 fits but never applies them"
        )
        bins, fill = say.number(entry, "num_buckets", int), say.number(entry, "fill_na")
        return {"kind": "categorical", "rule": "quantile", "bins": bins, "fill": fill}
    if processor == "numeric_log_bucket":  # of FuxiCTR 1
        return {"kind": "categorical", "rule": "log_square"}
    say(f"{processor!r} is not here; values stay themselves")
    return {"kind": "categorical"}


def _values(kind: str, entry: dict[str, Any], say: _Say) -> dict[str, Any]:
    """A categorical column or a sequence: its vocabulary, and how a sequence is cut."""
    column: dict[str, Any] = {"kind": kind}
    if kind == "sequence":
        # Padding behind goes with keeping the first values, as a bag does; in front, with the last ones.
        column["kind"] = "sequence" if entry.get("padding") == "pre" else "bag"
        max_len = say.number(entry, "max_len", int) if entry.get("max_len") else 0
        column |= {"separator": entry.get("splitter") or "^", "max_len": max_len}
        if column["max_len"]:
            say("an empty text between two separators takes one of the max_len places there, none here")
    elif entry.get("feature_encoder"):
        say(f"feature_encoder = {entry['feature_encoder']!r} has no counterpart and is left out")
    if entry.get("share_embedding"):
        column["share_with"] = str(entry["share_embedding"])
        say(
            f"its vocabulary is counted over both it and {entry['share_embedding']!r}; FuxiCTR drops rare "
            "values of each for itself, and gives each column its own first-order weights, shared here"
        )
    else:
        column["min_count"] = say.number(entry, "min_categr_count", int)
    if entry.get("dtype", "str") != "str":
        say(
            f"values are read as {entry['dtype']} there (07 and 7 are one, missing ones are 0), here as "
            "texts, and missing ones are unknown"
        )
    elif entry.get("fill_na"):
        say(f"the text {entry['fill_na']!r} means missing there; here it is a value")
    return column


def _say_pooling(found: Imported, entries: list[dict[str, Any]]) -> None:
    """How sequences become one vector: FuxiCTR decides by column, the recipe for all."""
    sequences = [entry for entry in entries if entry.get("type") == "sequence"]
    asked = [entry.get("feature_encoder", _MEAN[1]) for entry in sequences]
    encoders = {str(encoder) if encoder else None for encoder in asked}  # a list of several is possible too
    if encoders == {_SUM}:
        found.recipe["model"]["embedding"]["pooling"] = "sum"
        return
    for encoder in sorted(map(str, encoders - set(_MEAN))):
        found.differences.append(f"sequences with feature_encoder {encoder!r} are pooled by the mean here")
    if None in encoders:
        found.differences.append(
            "sequences without a feature_encoder stay unpooled there, here the mean is taken"
        )
    if encoders and has_first_order(found.recipe["model"]):
        found.differences.append(
            "sequences are averaged in the first-order term too, where FuxiCTR adds their weights up"
        )
