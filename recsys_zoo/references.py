"""Rows of what needs no learning, which stand beside the models of every board."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

from . import rankruns, runs
from .board.rows import Row
from .data.store import Prepared
from .errors import InputError
from .evaluation.cold import is_cold
from .models.floors import BaseRate, ColumnRates, PairMemory
from .tasks.binary import BinaryTask

Protocol = Literal["honest", "published"]
# floors of rankings, with their own settings; of new items those that read columns
RANKING, COLD = ("popularity", "itemknn"), ("contentknn",)
_NOTHING_LEARNT: dict[str, Any] = {
    "seed": 0, "seeded": False, "kept": 1.0, "epochs": 0, "best_epoch": 0, "rows_per_s": 0.0,
    "status": "done", "reason": "",
    "scores_digest": "", "hparams": "none", "role": "floor", "table_update": "none", "precision": "none",
}


def floors(
    data: Prepared, board: str, label: str = "", replicates: int = 200, command: str = "",
    protocol: Protocol = "honest",
) -> list[Row]:
    """Rows of what needs no learning: base rate, column rates, and pair memory where there are users and
    items; of interactions those of `ranking_floors`."""
    if data.schema.interactions:
        return ranking_floors(data, board, replicates, command, protocol)
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
        seconds = round(time.perf_counter() - since, 3)
        facts = {**_NOTHING_LEARNT, "params": 0, "seconds": seconds, "command": command}
        rows.append(runs.make_row(cfg, data, metrics, **facts))
    return rows


def ranking_floors(
    data: Prepared, board: str, replicates: int = 200, command: str = "", protocol: Protocol = "honest",
    say: Any = print,
) -> list[Row]:
    """Rows of `RANKING` or `COLD`, fitted and tested as the models of the protocol are.

    One that data or protocol do not allow is named and left out.
    """
    rows = []
    for name in COLD if is_cold(data) else RANKING:
        cfg = runs.RunConfig(
            board=board, model={"name": name}, bootstrap=replicates, protocol=protocol).resolved()
        since = time.perf_counter()
        try:
            ranking = rankruns.RankingRun(cfg, data, Path(), False, lambda line: None, [])
            model, metrics, test = ranking.run()
        except InputError as error:
            say(f"no floor {name}: {error}")
            continue
        if test is None:
            say(f"no floor {name}: {ranking.fit.reason}")
            continue
        metrics |= ranking.resampled(test, replicates)[0]
        facts = {**_NOTHING_LEARNT, "params": model.num_parameters(), "command": command, "device": "cpu",
                 "seconds": round(time.perf_counter() - since, 3),
                 "protocol": rankruns.protocol_of(cfg, data),
                 "selection": "test" if protocol == "published" else "valid"}
        rows.append(runs.make_row(cfg, data, metrics, **facts))
    return rows
