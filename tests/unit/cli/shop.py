"""A small shop: raw rows, their schema file, and settings for quick runs."""

from __future__ import annotations

import numpy as np
import polars as pl

SPEC = """
dataset = "shop"
labels = ["click"]
group = "user"
user = "user"
item = "item"

[[columns]]
name = "user"
kind = "categorical"
side = "user"

[[columns]]
name = "item"
kind = "categorical"
side = "item"

[[columns]]
name = "price"
kind = "numeric"
rule = "standardise"

[[columns]]
name = "tags"
kind = "bag"
separator = "|"
max_len = 3

[split]
method = "hash"
keys = ["user", "item"]
fractions = {train = 0.6, valid = 0.2, test = 0.2}
"""


def shop(rows: int = 600) -> pl.DataFrame:
    """Raw rows whose click depends on the item and the price."""
    rng = np.random.default_rng(4)
    user, item = rng.integers(0, 40, rows), rng.integers(0, 25, rows)
    price = rng.normal(size=rows).round(3)
    click = (rng.random(rows) < 1 / (1 + np.exp(-(item - 12) / 3 - price))).astype(int)
    tags = ["|".join(f"t{t}" for t in rng.integers(0, 6, n)) for n in rng.integers(0, 4, rows)]
    return pl.DataFrame(
        {
            "click": click,
            "user": [f"u{u}" for u in user],
            "item": [f"i{i}" for i in item],
            "price": price,
            "tags": tags,
        }
    )


QUICK = (
    "--set",
    "train.epochs=2",
    "--set",
    "train.batch_size=64",
    "--set",
    "train.device=cpu",
    "--set",
    "model.embedding.dim=4",
)

RECIPE = """
board = "shop"
data = "data"
[model]
name = "{name}"
{more}
[train]
epochs = {epochs}
patience = 999
batch_size = 64
"""  # of a run on the prepared shop in the folder data
