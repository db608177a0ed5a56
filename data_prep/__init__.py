"""Public data sets: one thin recipe each, from raw files to a prepared folder.

    python -m data_prep --list
    python -m data_prep frappe_x1 --raw DIR --out prepared/frappe_x1
"""

from .known import RECIPES, run
from .recipe import Expected, Raw, Recipe, Source, run_recipe

__all__ = ["RECIPES", "Expected", "Raw", "Recipe", "Source", "run", "run_recipe"]
