"""The recipes by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from recsys_zoo.errors import unknown_name

from . import frappe_x1, movielens_1m
from .recipe import Recipe, run_recipe

if TYPE_CHECKING:
    from recsys_zoo.data.store import Prepared

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (frappe_x1.RECIPE, movielens_1m.RECIPE)}


def run(name: str, *, raw: Path | None, out: Path, downloads: Path | None = None) -> Prepared:
    """Prepare the public data set of that name; UnknownName with near matches. See `run_recipe`."""
    if name not in RECIPES:
        raise unknown_name("data recipe", name, RECIPES)
    return run_recipe(RECIPES[name], raw, out, downloads)
