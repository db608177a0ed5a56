"""RecBole's data set (settings, and the typed headers of its atomic files) as a schema, with what differs.

The header of data.inter, .user or .item names its columns as name:type; type is token (a value), token_seq
(several), float or float_seq. The schema reads these files as they are, types in the names included.
"""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from .imported import Imported, has_first_order, number
from .recsplit import split_of

# Settings that are read here; recbole.py lists those that nobody reads.
HANDLED = {
    "USER_ID_FIELD",
    "ITEM_ID_FIELD",
    "TIME_FIELD",
    "LABEL_FIELD",
    "load_col",
    "unload_col",
    "unused_col",
}
HANDLED |= {"threshold", "val_interval", "user_inter_num_interval", "item_inter_num_interval", "rm_dup_inter"}
HANDLED |= {"filter_inter_by_user_or_item", "field_separator", "seq_separator", "seq_len", "normalize_field"}
HANDLED |= {"numerical_features", "normalize_all", "discretization", "eval_args", "benchmark_filename"}
_TYPES = ("token", "token_seq", "float", "float_seq")
_SIDES = {"inter": "context", "user": "user", "item": "item"}
# What pandas, by which RecBole reads, takes for missing beside the empty text.
_MISSING = [
    "#N/A",
    "#N/A N/A",
    "#NA",
    "-1.#IND",
    "-1.#QNAN",
    "-NaN",
    "-nan",
    "1.#IND",
    "1.#QNAN",
    "<NA>",
    "N/A",
]
_MISSING += ["NA", "NULL", "NaN", "None", "n/a", "nan", "null"]
_EVERYTHING = re.compile(r"[\[(]\s*-?(0|inf)(\.0)?\s*,\s*inf\s*[)\]]")


@dataclass(frozen=True)
class Field:
    """One column of an atomic file."""

    name: str
    type: str
    source: str

    @property
    def raw(self) -> str:
        """Its name in the header."""
        return f"{self.name}:{self.type}"


def add_schema(found: Imported, options: dict[str, Any], dataset: str, folder: Path) -> None:
    """Put the schema and what differs into `found`; without files or a label no schema, the reason last.

    InputError for a header that is none, and for settings that name a column which is not there.
    """
    parts = options.get("benchmark_filename") or ()
    inter = [folder / f"{dataset}.{part}.inter" for part in parts] or [folder / f"{dataset}.inter"]
    if not inter[0].is_file():
        found.differences.append(
            f"{inter[0]}: no such file, so the types of the columns are not known and there is no schema; "
            "give --data FOLDER"
        )
        return
    fields = read_fields(inter[0], "inter", options)
    sides = [(folder / f"{dataset}.{kind}", kind) for kind in ("user", "item")]
    beside = [(path, read_fields(path, kind, options)) for path, kind in sides if path.is_file()]
    _say_absent([*fields, *(f for _, loaded in beside for f in loaded)], options, found.differences)
    label = _label(fields, options, found.differences)
    schema: dict[str, Any] = {"dataset": dataset, **_roles(fields, options, found)}
    inputs = _Inputs(options, found.differences, has_first_order(found.recipe["model"]))
    columns = [made for f in fields if f.name != label.get("name") for made in inputs.column(f)]
    tables = []
    for path, loaded in beside:
        brought = [made for f in loaded for made in inputs.column(f)]
        columns += brought
        tables += _table(path, loaded, brought, options)
    _say_rows(options, any(loaded for _, loaded in beside), found.differences)
    if not columns or not label:
        found.differences.append(
            f"no column holds the label: {options['LABEL_FIELD']!r} is not loaded and there is no threshold "
            "(RecBole then samples negatives, which is not here); write a schema with a label"
            if columns
            else "no column is an input: load_col leaves none"
        )
        return
    schema |= {"labels": [label], "columns": columns, "split": split_of(options, _raws(fields), found)}
    schema["read"] = _reading(options)
    found.schema = schema | ({"tables": tables} if tables else {})
    later = [("--split", f"{name}={path}") for name, path in zip(("valid", "test"), inter[1:], strict=False)]
    found.prepare = shlex.join([str(inter[0]), *(word for words in later for word in words)])


def read_fields(path: Path, kind: str, options: dict[str, Any]) -> list[Field]:
    """The columns of an atomic file that RecBole loads; InputError where its first line is no header."""
    load, unload = options.get("load_col"), (options.get("unload_col") or {}).get(kind) or ()
    loaded = "*" if load is None else load.get(kind) or ()
    if unload and loaded != "*":
        raise InputError(f"load_col and unload_col both name columns of .{kind}; RecBole takes one of them")
    try:
        with open(path, encoding="utf-8-sig") as file:  # prepare drops the mark in front as well
            header = file.readline().rstrip("\r\n")
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not UTF-8; convert it") from None
    fields = []
    for raw in header.split(_separator(options)):
        name, _, kind_of = raw.partition(":")
        if kind_of not in _TYPES:
            raise InputError(f"{path}: the header has {raw!r}; write NAME:TYPE with a type of {list(_TYPES)}")
        fields.append(Field(name, kind_of, kind))
    return [f for f in fields if (loaded == "*" or f.name in loaded) and f.name not in unload]


def _reading(options: dict[str, Any]) -> dict[str, Any]:
    return {"separator": _separator(options), "null_values": _MISSING}


def _table(
    path: Path, loaded: list[Field], brought: list[dict[str, Any]], options: dict[str, Any]
) -> list[dict[str, Any]]:
    """The side table of .user or .item, or none when it brings no input."""
    if not loaded:
        return []
    setting = f"{loaded[0].source.upper()}_ID_FIELD"
    key = next((f for f in loaded if f.name == options[setting]), None)
    if key is None:
        raise InputError(f"{path}: its key {options[setting]!r} ({setting}) is not among the columns loaded")
    columns = [column["source"] for column in brought]
    files = [str(path.resolve())]
    return (
        [{"files": files, "key": key.raw, "columns": columns, "read": _reading(options)}] if columns else []
    )


def _say_absent(fields: list[Field], options: dict[str, Any], differences: list[str]) -> None:
    """RecBole passes over names that no header has."""
    for kind, names in (options.get("load_col") or {}).items():
        for name in () if names == "*" or kind not in _SIDES else names or ():
            if (name, kind) not in {(f.name, f.source) for f in fields}:
                differences.append(f"load_col: .{kind} has no column {name!r}; it is passed over, as there")


def _raws(fields: list[Field]) -> dict[str, str]:
    return {f.name: f.raw for f in fields}


def _separator(options: dict[str, Any]) -> str:
    separator = options["field_separator"]
    if not isinstance(separator, str) or len(separator) != 1:
        raise InputError(
            f"field_separator = {separator!r}: prepare reads files with one character between columns"
        )
    return separator


def _label(fields: list[Field], options: dict[str, Any], differences: list[str]) -> dict[str, Any]:
    """The label of the schema; empty where there is none."""
    threshold, name = options.get("threshold"), str(options["LABEL_FIELD"])
    by_name = {f.name: f for f in fields}
    if not threshold:
        return {"name": name, "column": by_name[name].raw} if name in by_name else {}
    if len(threshold) != 1:
        raise InputError(f"threshold = {threshold!r}: RecBole takes one column")
    ((column, value),) = threshold.items()
    if column not in by_name or by_name[column].type != "float":
        raise InputError(f"threshold on {column!r}: no float column of .inter that is loaded has this name")
    differences.append(
        f"label: {column} >= {value!r} as there (written as above the number just below); a missing "
        f"{column} is the column's mean there, here an error"
    )
    limit = math.nextafter(number(value, f"threshold on {column!r}"), -math.inf)
    return {"name": name, "column": by_name[column].raw, "above": limit}


def _roles(fields: list[Field], options: dict[str, Any], found: Imported) -> dict[str, str]:
    tokens = {f.name for f in fields if f.type == "token"}
    ids = {role: str(options[f"{role.upper()}_ID_FIELD"]) for role in ("user", "item")}
    roles = {role: name for role, name in ids.items() if name in tokens}
    if found.recipe["train"]["monitor"] == "gauc" and "user" in roles:
        roles["group"] = _raws(fields)[ids["user"]]
    return roles


class _Inputs:
    """Turns fields into columns: tokens always, floats where numerical_features names them."""

    def __init__(self, options: dict[str, Any], differences: list[str], first_order: bool) -> None:
        self.options, self.say = options, differences.append
        self.sides = {options["USER_ID_FIELD"]: "user", options["ITEM_ID_FIELD"]: "item"}
        self.numeric = options.get("numerical_features") or ()
        unused = options.get("unused_col") or {}
        self.unused = {(name, kind) for kind, names in unused.items() for name in names}
        self.first_order = first_order
        self.seen: set[str] = set()

    def column(self, field: Field) -> list[dict[str, Any]]:
        """One column, or none."""
        key_of_side = field.source != "inter" and field.name in self.sides
        if key_of_side or (field.name, field.source) in self.unused:
            return []
        if field.name in self.seen:
            self.say(f"column {field.name!r} of .{field.source}: an earlier file has it too; it is left out")
            return []
        self.seen.add(field.name)
        side = self.sides.get(field.name, _SIDES[field.source])
        column = {"name": field.name, "source": field.raw, "side": side}
        if field.type == "token":
            return [column | {"kind": "categorical"}]
        if field.type == "token_seq":
            return [column | self._bag(field)]
        if field.name not in self.numeric:
            return []  # RecBole's click models do not see it
        if field.type == "float_seq":
            self.say(f"column {field.name!r}: a list of numbers has no counterpart and is left out")
            return []
        return [column | self._numeric(field)]

    def _bag(self, field: Field) -> dict[str, Any]:
        if self.first_order:
            self.say(
                f"column {field.name!r}: averaged in the first-order term too, where RecBole adds weights up"
            )
        asked = (self.options.get("seq_len") or {}).get(field.name, 0)
        length = number(asked, f"seq_len of {field.name!r}", int)
        return {"kind": "bag", "separator": self.options["seq_separator"], "max_len": length}

    def _numeric(self, field: Field) -> dict[str, Any]:
        way = (self.options.get("discretization") or {}).get(field.name)
        if way:
            return self._discrete(field, way)
        self.say(f"column {field.name!r}: its vector starts with embedding.init_std, there by Xavier")
        scaled = self.options.get("normalize_all") or field.name in (
            self.options.get("normalize_field") or ()
        )
        if not scaled:
            self.say(f"column {field.name!r}: missing is the mean of the whole column there, here 0")
            return {"kind": "numeric", "rule": "linear"}
        self.say(
            f"column {field.name!r}: scaled to mean 0 and deviation 1 of training, there to [0, 1] by the "
            "smallest and largest of the whole file; missing is the mean there and here"
        )
        return {"kind": "numeric", "rule": "standardise"}

    def _discrete(self, field: Field, way: dict[str, Any]) -> dict[str, Any]:
        way = way if isinstance(way, dict) else {"method": way}
        if way.get("method") == "ED" and isinstance(way.get("bucket"), int):
            self.say(
                f"column {field.name!r}: buckets are equally full, there equally wide (over the whole file); "
                "missing is unknown here, the mean there"
            )
            return {"kind": "categorical", "rule": "quantile", "bins": way["bucket"]}
        if way.get("method") == "LD":
            self.say(
                f"column {field.name!r}: buckets floor(ln(x)^2) above 2, else whole numbers; there "
                "floor(ln(x)^2 + 1) above 2, else x itself, after a scaling to [0, 1] where one is asked "
                "for; missing is unknown here, the mean there"
            )
            return {"kind": "categorical", "rule": "log_square"}
        raise InputError(f"discretization of {field.name!r} = {way!r}: RecBole knows ED with bucket, and LD")


def _say_rows(options: dict[str, Any], sides: bool, differences: list[str]) -> None:
    """Rows that RecBole drops before anything else, and prepare does not."""
    for key in ("val_interval", "user_inter_num_interval", "item_inter_num_interval", "rm_dup_inter"):
        value = options.get(key)
        if value and not (isinstance(value, str) and _EVERYTHING.fullmatch(value.strip())):
            differences.append(
                f"{key} = {value!r} drops rows there and is not applied: filter the file before"
            )
    if sides and options["filter_inter_by_user_or_item"]:
        differences.append("rows whose user or item is in no side file are dropped there, here they are kept")
        differences.append(
            "a key that a side file has twice: its first row counts there, here it is an error"
        )
