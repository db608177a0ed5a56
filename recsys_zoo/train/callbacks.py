"""What watches a training: JSON lines, TensorBoard, a progress bar."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

from ..files import write_whole


class Callback:
    """Called by the trainer; every method does nothing by default."""

    def on_fit_start(self, info: dict[str, Any]) -> None: ...

    def on_epoch_start(self, info: dict[str, Any]) -> None: ...

    def on_step_end(self, info: dict[str, Any]) -> None: ...

    def on_epoch_end(self, info: dict[str, Any]) -> None: ...

    def on_fit_end(self, info: dict[str, Any]) -> None: ...


class JsonLines(Callback):
    """log.jsonl: one line an epoch. After a resume, lines later than the resumed step are dropped."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path).absolute()

    def on_fit_start(self, info: dict[str, Any]) -> None:
        kept = []
        if info["global_step"] and self.path.is_file():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue  # the line a kill cut off
                if entry.get("global_step", 0) <= info["global_step"] and entry.get("event") == "epoch":
                    kept.append(line)
        write_whole(self.path, "".join(f"{line}\n" for line in kept))
        self._write({"event": "start", **info})

    def on_epoch_end(self, info: dict[str, Any]) -> None:
        self._write({"event": "epoch", **info})

    def on_fit_end(self, info: dict[str, Any]) -> None:
        self._write({"event": "end", **info})

    def _write(self, entry: dict[str, Any]) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(_finite(entry), allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    """JSON knows no NaN and no infinity: they become null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class TensorBoard(Callback):
    """Scalars of each epoch under tb/, in one event file a start; what a resume repeats is purged on reading.

    Each epoch is appended here and now: the thread of TensorBoard's own writer outlives a training that
    fails, and then stumbles over a file that is no longer where its path leads.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder).absolute()  # the working directory may change while the training runs

    def on_fit_start(self, info: dict[str, Any]) -> None:
        from tensorboard.compat.proto.event_pb2 import SessionLog

        self.path = self.folder / f"events.out.tfevents.{time.time_ns()}.{os.getpid()}"
        start = {"session_log": SessionLog(status=SessionLog.START), "step": info["global_step"] + 1}
        self._write({"file_version": "brain.Event:2"}, start)

    def on_epoch_end(self, info: dict[str, Any]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        scalars = {key: info[key] for key in ("train_loss", "lr", "rows_per_s")}
        scalars |= {f"{info['split']}/{key}": value for key, value in info["valid"].items()}
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        self._write({"summary": Summary(value=values), "step": info["global_step"]})

    def _write(self, *events: dict[str, Any]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab") as file:
            for event in events:
                RecordWriter(file).write(Event(wall_time=time.time(), **event).SerializeToString())


SHOWN = ("auc", "logloss", "gauc", "recall@20", "ndcg@20")


class Progress(Callback):
    """One bar an epoch on a terminal, one line an epoch elsewhere: rows/s, time left, metric."""

    def __init__(self, stream: Any = None) -> None:
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self.shown = 0.0

    def on_epoch_start(self, info: dict[str, Any]) -> None:
        self.since, self.done = time.perf_counter(), info["step"]

    def on_step_end(self, info: dict[str, Any]) -> None:
        now = time.perf_counter()
        if not self.live or now - self.shown < 0.2:
            return
        self.shown = now
        steps = info["step"] - self.done
        per_step = (now - self.since) / max(1, steps)
        left = per_step * (info["steps"] - info["step"])
        filled = 24 * info["step"] // info["steps"]
        rate = info["batch_size"] / max(per_step, 1e-9)
        self.stream.write(
            f"\r{info['title']} {'━' * filled}{' ' * (24 - filled)} {info['step']}/{info['steps']}  "
            f"{rate:,.0f} rows/s  {left:.0f} s left  best {info['best']}\x1b[K"
        )
        self.stream.flush()

    def on_epoch_end(self, info: dict[str, Any]) -> None:
        metrics = "  ".join(
            f"{k} {v:.6f}" for k, v in info["valid"].items() if k in SHOWN
        )
        cut = f": lr {info['lr']:.0e} -> {info['next_lr']:.0e}" if info["next_lr"] != info["lr"] else ""
        mark = " *" if info["improved"] else f"  (no better{cut})"
        self.stream.write(
            ("\r\x1b[K" if self.live else "") + f"{info['title']}  loss {info['train_loss']:.6f}  "
            f"{info['split']} {metrics}  {info['rows_per_s']:,.0f} rows/s{mark}\n"
        )
        self.stream.flush()
