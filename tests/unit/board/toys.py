"""Rows of an invented board."""

from __future__ import annotations

from typing import Any

from recsys_zoo.board.rows import Row, config_digest


def row(model: str, auc: float, seed: int = 1, **changes: Any) -> Row:
    """A row that can be ranked; `changes` replace any field."""
    name, _, variant = model.partition(".")
    config = changes.pop("config", {"model": {"name": model}, "train": {"seed": seed, "lr": 0.001}})
    metrics = {"test.auc": auc, "test.auc_low": auc - 0.002, "test.auc_high": auc + 0.002,
               "test.logloss": 1.2 - auc, "valid.auc": auc + 0.001}
    values = {"board": "toy_x1", "protocol": "best epoch on valid", "model": name, "variant": variant,
              "seed": seed, "metrics": metrics, "params": 12345, "epochs": 12, "best_epoch": 9,
              "seconds": 31.5, "rows_per_s": 90000.0, "peak_mib": 700.0, "device": "cpu", "threads": 1,
              "cpu_capability": "AVX512", "torch": "2.13.0", "git": "0123456789ab", "config": config,
              "config_digest": config_digest(config),
              "data_digest": "d" * 64, "table_update": "exact", "precision": "fp32", "hparams": "inherited",
              "status": "done", "command": f"recsys-zoo train toy_x1/{model} --seed {seed}",
              "when": f"2026-01-0{seed}T10:00:00+00:00", "note": "train negatives re-drawn"}
    return Row.parse({**values, **changes}, "toy")


def reference(name: str, auc: float, role: str = "floor") -> Row:
    """A floor or a ceiling."""
    return row(name, auc, seed=0, role=role, hparams="none", table_update="none", precision="none", params=0,
               seconds=0.1)


def board() -> list[Row]:
    """Six models over five seeds, one dead seed, three floors; deepfm and autoint.plus lie close together."""
    levels = {"lr": 0.9361, "fm": 0.9694, "dnn": 0.9844, "deepfm": 0.98465, "autoint": 0.9832,
              "autoint.plus": 0.98475}
    rows = [row(name, auc + (seed - 3) * 2e-4, seed, hparams="default" if name == "deepfm" else "inherited")
            for name, auc in levels.items() for seed in range(1, 6)]
    rows.append(row("autoint.plus", 0.5, 6, status="dead", reason="the scores are constant (AUC 0.5)"))
    floors = {"base_rate": 0.5, "column_rates": 0.9238, "pair_memory": 0.9701}
    return rows + [reference(name, auc) for name, auc in floors.items()]
