"""What to check before data are believed: shared and identical rows, unknown ids, what gives labels away.

Everything is counted on prepared splits, so it holds for what models see. Nothing is chosen on test: columns
and pairs are ranked by what they say about valid.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import audit_ranking, references
from .board.rows import Row
from .data.store import Prepared, Split
from .errors import InputError, unknown_name
from .files import write_whole
from .metrics.binary import auc
from .schema import PADDING, UNKNOWN
from .tasks.binary import BinaryTask

FORMAT = 1
SAMPLE = 200_000  # train rows, and valid rows, that pairs of columns are counted on
SHOWN = 8  # columns and pairs kept in the record
_BLOCK = 1 << 20  # rows hashed together
_PRIME = np.uint64(0x9E3779B97F4A7C15)


def audit(
    data: Prepared, label: str = "", time: str = "", floors: Sequence[Row] = ()
) -> dict[str, Any]:
    """The record of an audit, as plain JSON values; `warnings` says in sentences what should be looked at.

    time: a numeric column that orders the rows, to see whether training rows are later than test rows.
    floors: rows of these data that need no learning, where they are at hand; else they are counted here.
    InputError for an unknown label or time column and for data without train and valid. Interactions have a
    record of their own (audit_ranking.py).
    """
    if data.schema.interactions:
        if label or time:
            raise InputError(f"{data.schema.dataset}: interactions have no label, and their moments are "
                             "those of interactions.time in the schema file; leave out --label and --time")
        return {"format": FORMAT, **audit_ranking.audit(data, floors)}
    task = BinaryTask(data, label)
    for name in ("train", "valid"):
        data.split(name)
    labels = {name: data.split(name).labels[:, task.place] for name in data.names}
    keys = {name: row_keys(data.split(name)) for name in data.names}
    record: dict[str, Any] = {
        "format": FORMAT,
        "data_digest": data.data_digest,
        "dataset": data.schema.dataset,
        "label": task.label,
        "splits": {name: _rows(keys, labels, name) for name in data.names},
        "columns": _columns(data, labels),
        "pairs": _pairs(data, labels),
        "order": _order(data, time),
        "floors": {
            row.label: _finite(row.metrics)
            for row in floors or references.floors(data, "audit", task.label, 0)
        },
    }
    record["warnings"] = list(_warnings(record, data))
    return record


def _finite(metrics: dict[str, float]) -> dict[str, float | None]:
    """Without intervals; JSON knows no NaN: null."""
    kept = {name: value for name, value in metrics.items() if not name.endswith(("_low", "_high"))}
    return {name: value if math.isfinite(value) else None for name, value in kept.items()}


def save(record: dict[str, Any], path: Path) -> None:
    """Write the record as JSON."""
    write_whole(path, json.dumps(record, indent=1, allow_nan=False) + "\n")


def file_beside(rows: Path, data_digest: str, label: str) -> Path:
    """Where the audit of the data of a file of rows lies."""
    return rows.parent / "audits" / f"{data_digest[:16]}{'-' * bool(label)}{label}.json"


def row_keys(split: Split) -> np.ndarray:
    """A 64-bit hash [rows] of all inputs of each row; equal inputs have equal hashes."""
    found = np.empty(len(split), np.uint64)
    for start in range(0, len(split), _BLOCK):
        block = slice(start, start + _BLOCK)
        state = np.zeros(len(split.ids[block]), np.uint64)
        numbers = (split.numeric[block] + np.float32(0)).view(np.uint32)  # -0.0 is 0.0
        with np.errstate(over="ignore"):
            for column in (*split.ids[block].T, *numbers.T):
                state = (state ^ column.astype(np.uint64)) * _PRIME
                state ^= state >> np.uint64(29)
        found[block] = state
    return found


def _rows(keys: dict[str, np.ndarray], labels: dict[str, np.ndarray], name: str) -> dict[str, Any]:
    """Classes, identical rows and rows shared with train of one split."""
    label = labels[name].astype(np.float64)
    values, place, count = np.unique(keys[name], return_inverse=True, return_counts=True)
    positive = np.bincount(place, label, len(values))
    negative = count - positive
    rates = torch.from_numpy(positive / count)[torch.from_numpy(place)]
    classes = float(label.sum()) * float(len(label) - label.sum())
    facts: dict[str, Any] = {
        "rows": len(label),
        "positive_rate": float(label.mean()),
        "repeated": float((count[place] > 1).mean()),
        "tied_pairs": float((positive * negative).sum() / classes) if classes else 0.0,
        "auc_ceiling": auc(rates, torch.from_numpy(labels[name].copy())),
    }
    if name == "train":
        return facts
    known, where = np.unique(keys["train"], return_inverse=True)
    rate = np.bincount(where, labels["train"], len(known)) / np.bincount(where, minlength=len(known))
    at = np.searchsorted(known, keys[name]).clip(max=len(known) - 1)
    shared = known[at] == keys[name]
    same = (rate[at] > 0.5) == (label > 0.5)
    facts["in_train"] = float(shared.mean())
    facts["in_train_same_label"] = float(same[shared].mean()) if shared.any() else None
    return facts


def _columns(data: Prepared, labels: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Unknown and missing values of every column by split; the AUC on valid of each column's rates alone."""
    found = []
    for column, place in data.schema.id_slices().items():
        facts: dict[str, Any] = {"column": column, "unknown": {}, "missing": {}}
        for name in data.names:
            ids = data.split(name).ids[:, place]
            facts["unknown"][name] = float((ids == UNKNOWN).any(1).mean())
            facts["missing"][name] = float((ids == PADDING).all(1).mean())
        if place.stop - place.start == 1:
            train, valid = (data.split(name).ids[:, place.start] for name in ("train", "valid"))
            rates = _rate_auc(train, labels["train"], valid, labels["valid"])
            facts |= {"valid_auc" if key == "auc" else key: value for key, value in rates.items()}
        found.append(facts)
    return found


def _pairs(data: Prepared, labels: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """The pairs of columns whose rates in a sample of train say most about a sample of valid."""
    places = data.schema.id_slices().items()
    single = [(column, place.start) for column, place in places if place.stop - place.start == 1]
    rng = np.random.default_rng(0)
    rows = {n: np.sort(rng.permutation(len(data.split(n)))[:SAMPLE]) for n in ("train", "valid")}
    ids = {n: data.split(n).ids[rows[n]].astype(np.int64) for n in rows}
    answers = {n: labels[n][rows[n]] for n in rows}
    found = []
    for (one, first), (two, second) in itertools.combinations(single, 2):
        size = data.schema.column(two).vocab_size
        train, valid = (ids[n][:, first] * size + ids[n][:, second] for n in ("train", "valid"))
        found.append({"columns": [one, two], **_rate_auc(train, answers["train"], valid, answers["valid"])})
    found.sort(key=lambda pair: -pair["auc"])
    return found[:SHOWN]


def _rate_auc(
    train: np.ndarray, answers: np.ndarray, valid: np.ndarray, labels: np.ndarray
) -> dict[str, float]:
    """AUC on valid of the smoothed rates of values in train.

    Also the share of valid rows whose value has one label alone in two or more train rows (determined), and
    of these the share that has it too.
    """
    values, place, count = np.unique(train, return_inverse=True, return_counts=True)
    positive = np.bincount(place, answers, len(values))
    base = float(answers.mean())
    at = np.searchsorted(values, valid).clip(max=len(values) - 1)
    seen = values[at] == valid
    rate = np.where(seen, (positive[at] + base) / (count[at] + 1), base)
    pure = seen & (count[at] > 1) & ((positive[at] == 0) | (positive[at] == count[at]))
    right = (positive[at] > 0) == (labels > 0.5)
    return {
        "auc": auc(torch.from_numpy(rate), torch.from_numpy(np.array(labels))),
        "determined": float(pure.mean()),
        "determined_right": float(right[pure].mean()) if pure.any() else 0.0,
    }


def _order(data: Prepared, time: str) -> dict[str, Any]:
    """How the splits were made, and with a time column, how far train reaches into the later splits."""
    method = data.record.get("spec", {}).get("split", {}).get("method", "unknown")
    facts: dict[str, Any] = {"split_method": method}
    if not time:
        return facts
    names = [column.name for column in data.schema.of("numeric")]
    if time not in names:
        raise unknown_name("numeric column", time, names)
    place = names.index(time)
    times = {name: data.split(name).numeric[:, place] for name in data.names}
    latest = float(np.max(times["train"]))
    before = {n: float((t < latest).mean()) for n, t in times.items() if n != "train"}
    return {**facts, "time": time, "before_the_latest_train_row": before}


def _warnings(record: dict[str, Any], data: Prepared) -> Iterator[str]:
    """What a careful reader should know, most harmful first."""
    splits, floors = record["splits"], record["floors"]
    base = splits["train"]["positive_rate"]
    for column in record["columns"]:
        if column.get("valid_auc", 0) > 0.99:
            found = f"{column['valid_auc']:.4f}"
            yield f"column {column['column']!r} alone gives valid AUC {found}: is it the label?"
    alone = {column["column"]: column.get("determined", 0.0) for column in record["columns"]}
    singles = [{**column, "columns": [column["column"]]} for column in record["columns"]]
    for facts in (*singles, *record["pairs"]):
        names, share = facts["columns"], facts.get("determined", 0.0)
        known = max(alone[name] for name in names) if len(names) > 1 else 0.0  # said of the column already
        if share > known + 0.05 and facts["determined_right"] > 0.99:
            yield (
                f"{' and '.join(names)} determine{'s' * (len(names) == 1)} the label of {share:.1%} of the "
                f"valid rows ({facts['determined_right']:.1%} right)"
            )
    for name, share in record["order"].get("before_the_latest_train_row", {}).items():
        if share:
            yield f"{share:.1%} of the {name} rows are older than the latest train row: it knows later days"
    for name, facts in splits.items():
        if facts.get("in_train", 0) > 0.01:
            yield (
                f"{facts['in_train']:.1%} of the {name} rows have the inputs of a train row, and "
                f"{facts['in_train_same_label']:.1%} of these its label"
            )
        if facts["tied_pairs"] > 0.0001:
            yield (
                f"{name}: {facts['tied_pairs']:.2%} of the pairs of a positive and a negative have the same "
                f"inputs; no model has an AUC above {facts['auc_ceiling']:.6f}"
            )
        if abs(facts["positive_rate"] - base) > 0.1 * max(base, 1 - base):
            yield f"{name} has {facts['positive_rate']:.4f} positives, train {base:.4f}"
    roles = {data.schema.user: "users", data.schema.item: "items"}
    for column in record["columns"]:
        for name, share in column["unknown"].items():
            if name != "train" and share > 0.01 and column["column"] in roles:
                yield f"{share:.1%} of the {name} rows have {roles[column['column']]} without a train row"
    best = max(floors, key=lambda floor: floors[floor]["valid.auc"] or 0)
    if (floors[best]["valid.auc"] or 0) > 0.9:
        yield f"counting alone ({best}) has valid AUC {floors[best]['valid.auc']:.4f}"


def read(path: Path) -> dict[str, Any]:
    """The record in a file; InputError when it is missing or none."""
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such audit; `recsys-zoo audit` writes one") from None
    except ValueError as error:
        raise InputError(f"{path}: not an audit ({error})") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise InputError(f"{path}: not an audit of this version; run `recsys-zoo audit` again")
    return record
