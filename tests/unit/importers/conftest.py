"""Folders that an importer reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from .atoms import HEADER, rows
from .fuxi import BASE, COMMON, DATA, EXPERIMENTS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    written = "".join(f"\n{name}:{COMMON}{text}" for name, text in EXPERIMENTS.items())
    (tmp_path / "model_config.yaml").write_text(BASE + written, encoding="utf-8")
    (tmp_path / "dataset_config.yaml").write_text(DATA, encoding="utf-8")
    return tmp_path


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder of atomic files, with a configuration beside it."""
    (tmp_path / "shop").mkdir()
    lines = ["\t".join("" if v is None else str(v) for v in row) for row in rows()]
    (tmp_path / "shop" / "shop.inter").write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")
    return tmp_path
