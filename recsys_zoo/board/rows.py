"""The row of a run: its numbers with all that is needed to judge and to repeat them; files of rows.

A file of rows holds one JSON object a line and only grows. The same rows as CSV, for reading and for git,
have a column for each field and each metric; both forms are read back to equal rows.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator

from ..config import Frozen, json_digest
from ..errors import InputError
from ..files import locked, write_whole

FACTS = ("seed", "kernels", "cuda_graph")  # settings of training in which rows of one setting may differ
WAIT_S = 30.0  # for other processes that are adding a row to the same file


class Row(Frozen):
    """One run of one model with one seed. Nothing in it is ever changed; a repetition is another row."""

    model_config = ConfigDict(ser_json_inf_nan="strings")  # a dead run's NaN survives the file

    board: str
    protocol: str = Field(description="how it was scored; different protocols are not ranked together")
    model: str = Field(description="registry name without presets")
    variant: str = Field("", description="presets, joined by dots")
    role: Literal["model", "floor", "ceiling"] = Field("model", description="reference rows are not ranked")
    seed: int
    seeded: bool = Field(True, description="whether the seed has a say; false: any other gives the same")
    metrics: dict[str, float] = Field(description="SPLIT.METRIC, an interval as SPLIT.METRIC_low and _high")
    params: int = Field(0, ge=0)
    kept: float = Field(1.0, ge=0, le=1, description="share of the embedding that is left after pruning")
    epochs: int = Field(0, ge=0)
    best_epoch: int = Field(0, ge=0)
    seconds: float = Field(0.0, ge=0, description="training with its validation passes")
    rows_per_s: float = Field(0.0, ge=0, description="training examples a second")
    peak_mib: float = Field(0.0, ge=0)
    device: str = ""
    threads: int = 0
    cpu_capability: str = ""
    processor: str = Field("", description="model of the CPU")
    kernels: Literal["torch", "c++"] = Field("torch", description="what layers that have a kernel ran with")
    torch: str = ""
    git: str = Field("", description="commit of this program; ends in -dirty when files were changed")
    config: dict[str, Any] = Field(default_factory=dict, description="all settings, defaults written out")
    config_digest: str = Field("", description="`config_digest(config)`: the same for all seeds")
    data_digest: str = ""
    split: str = Field("", description="how rows were divided, in words; the data digest covers it")
    table_update: Literal["autograd", "exact", "rows", "none"] = "none"
    precision: Literal["fp32", "bf16", "none"] = "none"
    hparams: Literal["inherited", "valid", "default", "none"] = Field(
        description="settings of a published table (whose makers chose them partly on test), tuned on valid, "
        "the model's defaults, or none to choose")
    selection: Literal["valid", "test"] = Field("valid", description="split that picked the epoch")
    trials: int = Field(1, ge=0)
    minutes: float = Field(0.0, ge=0, description="budget of the tuning; 0: the number of trials was")
    choice: str = Field("", description="the rule by which tuned settings were chosen among the trials")
    status: Literal["done", "dead", "failed"]
    reason: str = Field("", description="why it is not done")
    command: str = ""
    when: str = Field("", description="UTC, ISO 8601")
    note: str = Field("", description='stands beside every number, for example "train negatives re-drawn"')
    scores_digest: str = Field("", description="of the per-example test scores")

    @model_validator(mode="before")
    @classmethod
    def _nothing_chosen_is_a_floor(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("hparams") == "none":
            return {"role": "floor", **values}
        return values

    @model_validator(mode="after")
    def _settings_are_tables(self) -> Row:
        for name in ("model", "train"):
            if not isinstance(self.config.get(name, {}), dict):
                raise ValueError(f"config.{name} is no table of settings")
        return self

    @property
    def label(self) -> str:
        """The registry name with presets."""
        return f"{self.model}.{self.variant}" if self.variant else self.model


def config_digest(config: dict[str, Any]) -> str:
    """SHA-256 of a run's settings without `train.seed`, so that the seeds of one setting share it.

    `train.kernels` and `train.cuda_graph` are left out too: which code does the same sums, and how it is
    launched, are facts of the row, like the machine. So is `choice`, how the settings were chosen.
    """
    train = {key: value for key, value in config.get("train", {}).items() if key not in FACTS}
    settings = {key: value for key, value in config.items() if key != "choice"}
    return json_digest({**settings, "train": train})


def append_row(path: Path, row: Row) -> None:
    """Add a row at the end; the file is replaced whole, so there is never half a line in it."""
    path = Path(path)
    line = row.model_dump_json() + "\n"
    with locked(path, WAIT_S):
        held = path.read_bytes() if path.exists() else b""
        gap = b"" if not held or held.endswith(b"\n") else b"\n"
        write_whole(path, held + gap + line.encode())


def read_rows(path: Path) -> list[Row]:
    """The rows of a .jsonl or .csv file in their order; InputError names file and line of what is no row."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file of rows; `recsys-zoo board run` writes one") from None
    except (UnicodeDecodeError, IsADirectoryError):
        raise InputError(f"{path}: not a file of rows (JSON lines or CSV)") from None
    if path.suffix == ".csv":
        return _from_csv(path, text)
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except ValueError as error:
            raise InputError(f"{path}, line {number}: not JSON ({error}); remove the line") from None
        if not isinstance(values, dict):
            raise InputError(f"{path}, line {number}: not a row but {type(values).__name__}; remove the line")
        rows.append(Row.parse(values, f"{path}, line {number}"))
    return rows


def write_csv(path: Path, rows: Iterable[Row]) -> None:
    """All rows as CSV: metrics in columns of their names, the settings as JSON in the last column."""
    rows = list(rows)
    metrics = sorted({name for row in rows for name in row.metrics})
    fields = [name for name in Row.model_fields if name not in ("metrics", "config")]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*fields, *metrics, "config"])
    for row in rows:
        values = json.loads(row.model_dump_json())
        config = json.dumps(values["config"], sort_keys=True, separators=(",", ":"))
        numbers = [values["metrics"].get(name, "") for name in metrics]
        writer.writerow([*(values[name] for name in fields), *numbers, config])
    write_whole(path, buffer.getvalue())


def _from_csv(path: Path, text: str) -> list[Row]:
    rows = []
    reader = csv.DictReader(io.StringIO(text))
    for values in reader:
        where = f"{path}, line {reader.line_num}"
        if None in values or None in values.values():
            raise InputError(f"{where}: not the {len(reader.fieldnames or [])} columns of the first line")
        metrics = {name: values.pop(name) for name in list(values) if "." in name}
        try:
            config = json.loads(values.pop("config", "{}"))
        except ValueError as error:
            raise InputError(f"{where}: the column config is not JSON ({error})") from None
        found = {name: value for name, value in metrics.items() if value != ""}
        rows.append(Row.parse({**values, "metrics": found, "config": config}, where))
    return rows
