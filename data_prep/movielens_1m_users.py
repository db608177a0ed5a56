"""MovieLens-1M for rankings of users who are held out: ratings above 3 as interactions.

Of users with five or more, a tenth is held out for validation and a tenth for test with all their movies, of
which four fifths are given, the rule of Liang et al. (WWW 2018) on MovieLens-20M; which ones, a hash says.
"""

from __future__ import annotations

from recsys_zoo.data.interactions import InteractionSpec
from recsys_zoo.data.spec import ColumnSpec, DataSpec

from . import movielens_1m
from .recipe import Expected, Recipe, held_out_users

NAME = "movielens_1m_users"

SPEC = DataSpec(
    dataset=NAME, user="user", item="item",
    interactions=InteractionSpec(rating="rating", above=3, user_core=5),
    columns=(ColumnSpec(name="user", side="user"), ColumnSpec(name="item", side="item")),
    split=held_out_users(NAME))

RECIPE = Recipe(
    name=NAME, title="MovieLens-1M: ratings above 3 as interactions; held out: users in no training row",
    terms=movielens_1m.RECIPE.terms, by_hand=movielens_1m.BY_HAND, sources=movielens_1m.RECIPE.sources,
    spec=SPEC, gather=movielens_1m.gather,
    expected=Expected(rows={"+".join(SPEC.split.splits): 575_272}, positives={}))
