"""A small raw table with every kind of column, and a plain-Python preparation of it to compare with."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import polars as pl

from recsys_zoo.data.spec import DataSpec

Row = dict[str, Any]

SPEC = {
    "dataset": "toy", "labels": ["click"], "group": "user", "user": "user", "item": "item",
    "columns": [
        {"name": "user", "side": "user"},
        {"name": "item", "side": "item", "min_count": 2},
        {"name": "price", "kind": "numeric", "rule": "standardise"},
        {"name": "tags", "kind": "bag", "max_len": 2},
        {"name": "seen", "kind": "sequence", "max_len": 3, "separator": "^", "share_with": "item"},
        {"name": "count", "kind": "numeric", "rule": "log_square"},
        {"name": "bucket", "source": "count", "rule": "log_square"},
        {"name": "level", "source": "price", "rule": "quantile", "bins": 3},
    ],
    "split": {"method": "column", "column": "part"},
}


def toy_spec(**changes: Any) -> DataSpec:
    """The spec of the toy table with some top-level settings replaced."""
    return DataSpec.parse({**SPEC, **changes}, "spec")


def toy_rows(rows: int = 60, seed: int = 0) -> list[Row]:
    """Rows with rare and missing values; each split holds both labels."""
    rng = np.random.default_rng(seed)

    def several(joint: str, most: int) -> str:
        return joint.join(f"i{k}" for k in rng.integers(0, 6, rng.integers(0, most)))

    parts = ["train"] * (rows - 2 * (rows // 5)) + ["valid"] * (rows // 5) + ["test"] * (rows // 5)
    return [{"user": f"u{rng.integers(0, 9)}", "item": None if k % 11 == 3 else f"i{rng.zipf(1.5) % 13}",
             "price": None if k % 7 == 5 else float(rng.integers(0, 40)) / 4, "tags": several("|", 4),
             "seen": several("^", 6), "count": int(rng.integers(-2, 2000)), "click": k % 2, "part": parts[k]}
            for k in range(rows)]


def as_frame(rows: list[Row]) -> pl.DataFrame:
    """The rows as a frame; empty texts stay empty texts."""
    return pl.DataFrame(rows, infer_schema_length=None)


def naive(rows: list[Row]) -> tuple[dict[str, dict[str, int]], list[list[int]], list[list[float]]]:
    """Vocabularies, id rows (user item bucket level tags*2 seen*3) and numbers (price count) by loops."""
    train = [row for row in rows if row["part"] == "train"]
    prices = sorted(row["price"] for row in train if row["price"] is not None)
    edges = sorted({prices[math.ceil(i * len(prices) / 3) - 1] for i in (1, 2)}) if prices else []
    tables = {name: Counter() for name in ("user", "item", "tags", "bucket", "level")}
    for row in train:
        tables["user"].update(_some(row["user"]))
        tables["item"].update([*_some(row["item"]), *_pieces(row["seen"], "^")])
        tables["tags"].update(_pieces(row["tags"], "|"))
        tables["bucket"].update([str(int(_squash(row["count"])))])
        tables["level"].update(_level(row["price"], edges))
    ids = {}
    for name, table in tables.items():
        kept = [v for v in table if table[v] >= (2 if name == "item" else 1)]
        ids[name] = {v: k + 2 for k, v in enumerate(sorted(kept, key=lambda v: (-table[v], v.encode())))}
    mean = sum(prices) / len(prices) if prices else 0.0
    std = math.sqrt(sum((p - mean) ** 2 for p in prices) / len(prices)) if prices else 0.0
    matrix, numbers = [], []
    for row in rows:
        tags = [ids["tags"].get(v, 1) for v in _pieces(row["tags"], "|")[:2]]
        seen = [ids["item"].get(v, 1) for v in _pieces(row["seen"], "^")[-3:]]
        level = [ids["level"].get(v, 1) for v in _level(row["price"], edges)] or [1]
        matrix.append([ids["user"].get(row["user"], 1), ids["item"].get(row["item"], 1),
                       ids["bucket"].get(str(int(_squash(row["count"]))), 1), *level,
                       *tags, *[0] * (2 - len(tags)), *[0] * (3 - len(seen)), *seen])
        price = 0.0 if row["price"] is None else (row["price"] - mean) / (std or 1.0)
        numbers.append([price, _squash(row["count"])])
    return ids, matrix, numbers


def _some(value: str | None) -> list[str]:
    return [] if value is None else [value]


def _pieces(text: str | None, separator: str) -> list[str]:
    return [] if text is None else [piece for piece in text.split(separator) if piece]


def _squash(x: float) -> float:
    return float(math.floor(math.log(x) ** 2)) if x > 2 else float(x)


def _level(price: float | None, edges: list[float]) -> list[str]:
    return [] if price is None else [str(sum(edge < price for edge in edges))]
