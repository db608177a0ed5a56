"""Rows of what needs no learning, which stand beside the models of every board."""

from __future__ import annotations

import time
from typing import Any

from . import runs
from .board.rows import Row
from .data.store import Prepared
from .models.floors import BaseRate, ColumnRates, PairMemory
from .tasks.binary import BinaryTask


def floors(
    data: Prepared, board: str, label: str = "", replicates: int = 200, command: str = ""
) -> list[Row]:
    """Rows of what needs no learning: base rate, column rates, and pair memory where there are users and
    items."""
    task = BinaryTask(data, label)
    kinds: list[Any] = [BaseRate, ColumnRates]
    if data.schema.user and data.schema.item:
        kinds.append(PairMemory)
    rows = []
    for kind in kinds:
        since = time.perf_counter()
        floor = kind().fit(data.split("train"), task.place)
        metrics: dict[str, float] = {}
        for name in data.names:
            if name == "train":
                continue
            scores = floor.predict(data.split(name))
            metrics |= {f"{name}.{k}": v for k, v in task.metrics(scores, data.split(name)).items()}
            if name == "test":
                metrics |= runs.test_extras(scores, data, task.place, replicates)[0]
        cfg = runs.RunConfig(board=board, model={"name": floor.name}, label=label, bootstrap=replicates)
        rows.append(
            runs.make_row(
                cfg,
                data,
                metrics,
                seed=0,
                params=0,
                kept=1.0,
                epochs=0,
                best_epoch=0,
                seconds=round(time.perf_counter() - since, 3),
                rows_per_s=0.0,
                status="done",
                reason="",
                command=command,
                scores_digest="",
                hparams="none",
                role="floor",
                table_update="none",
                precision="none",
            )
        )
    return rows
