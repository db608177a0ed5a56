"""The recipes by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from recsys_zoo.errors import unknown_name

from . import (
    adult,
    amazonelectronics_x1,
    avazu_x1,
    avazu_x4,
    citeulike,
    coat,
    criteo_x1,
    criteo_x4,
    frappe_x1,
    item_lists,
    kkbox_x1,
    kuaivideo_x1,
    lastfm,
    microvideo17m_x1,
    movielens_1m,
    movielens_1m_cold,
    movielens_1m_users,
    movielens_100k_cold,
    movielens_rankings,
    movielenslatest_x1,
    taobaoad_x1,
)
from .recipe import Recipe, run_recipe

if TYPE_CHECKING:
    from recsys_zoo.data.store import Prepared

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (
    frappe_x1.RECIPE, movielens_1m.RECIPE, criteo_x1.RECIPE, avazu_x1.RECIPE, movielenslatest_x1.RECIPE,
    adult.RECIPE, *criteo_x4.RECIPES, *avazu_x4.RECIPES, kkbox_x1.RECIPE,
    *amazonelectronics_x1.RECIPES, *taobaoad_x1.RECIPES, *kuaivideo_x1.RECIPES, *microvideo17m_x1.RECIPES,
    *item_lists.RECIPES, *citeulike.RECIPES, movielens_1m_cold.RECIPE, movielens_1m_users.RECIPE,
    *movielens_100k_cold.COLD, *movielens_rankings.RECIPES, lastfm.RECIPE, *coat.RECIPES)}


def run(name: str, *, raw: Path | None, out: Path, downloads: Path | None = None) -> Prepared:
    """Prepare the public data set of that name; UnknownName with near matches. See `run_recipe`."""
    if name not in RECIPES:
        raise unknown_name("data recipe", name, RECIPES)
    return run_recipe(RECIPES[name], raw, out, downloads)
