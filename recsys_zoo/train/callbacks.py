"""What watches a training: JSON lines, TensorBoard, a progress bar."""

from __future__ import annotations

import json
import math
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
        self.path = Path(path)

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
    """Scalars of each epoch under tb/."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_fit_start(self, info: dict[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(self.folder), purge_step=info["global_step"] + 1)

    def on_epoch_end(self, info: dict[str, Any]) -> None:
        for key in ("train_loss", "lr", "rows_per_s"):
            self.writer.add_scalar(key, info[key], info["global_step"])
        for key, value in info["valid"].items():
            self.writer.add_scalar(f"valid/{key}", value, info["global_step"])

    def on_fit_end(self, info: dict[str, Any]) -> None:
        self.writer.close()


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
            f"{k} {v:.6f}" for k, v in info["valid"].items() if k in ("auc", "logloss", "gauc")
        )
        mark = " *" if info["improved"] else f"  (no better: lr {info['lr']:.0e} -> {info['next_lr']:.0e})"
        self.stream.write(
            ("\r\x1b[K" if self.live else "") + f"{info['title']}  loss {info['train_loss']:.6f}  valid "
            f"{metrics}  {info['rows_per_s']:,.0f} rows/s{mark}\n"
        )
        self.stream.flush()
