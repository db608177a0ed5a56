"""Run recipes and published tables: found in a checkout's benchmarks/ or inside the installed package."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import InputError, unknown_name

_PACKAGE = Path(__file__).parent


def _folder(kind: str) -> Path:
    checkout = _PACKAGE.parent / "benchmarks" / kind
    return checkout if checkout.is_dir() else _PACKAGE / "_catalog" / kind


def recipes() -> dict[str, Path]:
    """Names like "frappe_x1/autoint" -> TOML file."""
    folder = _folder("recipes")
    return {str(p.relative_to(folder).with_suffix("")): p for p in sorted(folder.glob("*/*.toml"))}


def find_recipe(target: str) -> Path | None:
    """The recipe file behind a name or a path; None when `target` has the form of a model name."""
    if target.endswith(".toml"):
        path = Path(target)
        if not path.is_file():
            raise InputError(f"{target}: no such recipe file")
        return path
    if "/" not in target:
        return None
    known = recipes()
    if target not in known:
        raise unknown_name("recipe", target, known, "see benchmarks/recipes")
    return known[target]


def published(board: str) -> Path | None:
    """The table of published numbers of a board, where there is one."""
    path = _folder("published") / f"{board}.csv"
    return path if path.is_file() else None


def prepared_by_recipe(name: str, raw: Path | None, out: Path) -> Path:
    """The prepared folder of a public data set: `out` when it is there, else made from its raw files.

    `raw` is where the raw files lie; without it the folder RECSYS_ZOO_DATA/name is tried, then a download.
    """
    if (out / "prepared.json").is_file():
        return out
    import data_prep

    if raw is None and os.environ.get("RECSYS_ZOO_DATA"):
        candidate = Path(os.environ["RECSYS_ZOO_DATA"]) / name
        raw = candidate if candidate.is_dir() else None
    data_prep.run(name, raw=raw, out=out)
    return out
