"""Tuned boards as committed: the champion is that of the trials, rows are of the choices and younger."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recsys_zoo.board.rows import read_rows
from recsys_zoo.config import read_toml
from recsys_zoo.runs import RunConfig, is_row_of, read_recipe
from recsys_zoo.trials import Trial, best_of
from tests.recipes.test_settings import RESULTS

FOUND = sorted(path.parent.name for path in RESULTS.glob("tuned/*/champion.json"))
BOARDS = pytest.mark.parametrize("board", FOUND)


def studies(board: str) -> dict[str, list[Trial]]:
    files = (RESULTS / "tuned" / board).glob("*/trials.jsonl")
    return {file.parent.name: [Trial.parse(json.loads(line), str(file))
                               for line in file.read_text(encoding="utf-8").splitlines()] for file in files}


def champion(board: str) -> dict:
    return json.loads((RESULTS / "tuned" / board / "champion.json").read_text(encoding="utf-8"))


def test_the_tuned_boards_are_there():
    assert FOUND == ["frappe_x1", "gowalla_m1", "yelp18_m1"]


@BOARDS
def test_the_champion_is_the_best_of_all_trials_by_valid(board):
    found, said = studies(board), champion(board)
    best = {name: best_of(trials).value for name, trials in found.items()}
    assert said["valid"] == best
    assert best[said["champion"]] == max(best.values())
    chosen = [read_toml(RESULTS / "tuned" / board / name / "recipe.toml") for name in found]
    assert len({recipe.get("minutes", 0.0) for recipe in chosen}) == 1
    assert RunConfig.parse(said["recipe"], board) in [RunConfig.parse(recipe, board) for recipe in chosen]


@BOARDS
def test_rows_are_of_choices_after_the_champion_and_of_seeds_that_no_trial_had(board):
    suite = read_toml(RESULTS / "tuned" / board / "suite.toml")
    chosen = {Path(name).parent.name: read_recipe(RESULTS.parents[1] / name).resolved()
              for name in suite["recipes"]}
    assert set(chosen) == set(studies(board))
    rows = [row for row in read_rows(RESULTS / f"{board}_tuned.jsonl") if row.role == "model"]
    used = set()
    for row in rows:
        assert row.seed in suite["seeds"]
        assert row.seed != 1  # that of the trials
        assert row.when > champion(board)["when"]
        own = [name for name, cfg in chosen.items() if is_row_of(row, cfg.model_copy(
            update={"train": cfg.train.model_copy(update={"seed": row.seed})}), row.data_digest)]
        assert len(own) == 1, (row.label, row.seed)
        used.update(own)
    assert used == set(chosen)
