"""Files of rows that hold more, or less, than one ranking."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from recsys_zoo.board.rows import Row, append_row
from recsys_zoo.cli import app
from recsys_zoo.errors import InputError

from .toys import board, reference, row


def shown(tmp_path, *rows):
    file = tmp_path / "rows.jsonl"
    for one in rows:
        append_row(file, one)
    return CliRunner().invoke(app, ["board", "show", str(file)])


def test_rankings_of_one_board_are_told_apart_by_their_titles(tmp_path):
    out = shown(tmp_path, *board(), row("fm", 0.9, hparams="valid", trials=16)).output
    assert "toy_x1: inherited or default settings" in out
    assert "toy_x1: tuned on valid, 16 trials" in out


def test_floors_alone_are_no_ranking(tmp_path):
    """The state of a file while the first run trains."""
    found = shown(tmp_path, reference("base_rate", 0.5))
    assert isinstance(found.exception, InputError)
    assert "holds no run of a model yet" in str(found.exception)


def test_a_board_whose_runs_all_failed_does_not_hide_the_others(tmp_path):
    lost = row("fm", 0.5, board="other", status="failed", reason="out of memory")
    found = shown(tmp_path, lost, *board())
    assert found.exit_code == 0
    assert "autoint.plus" in found.output
    assert "other, inherited or default settings: no row can be ranked: failed: out of memory" in found.stderr


def test_nothing_but_failures_is_said_with_the_board(tmp_path):
    found = shown(tmp_path, row("fm", 0.5, status="failed", reason="out of memory"))
    assert isinstance(found.exception, InputError)
    assert "toy_x1, inherited or default settings: no row can be ranked" in str(found.exception)


def test_a_misspelt_metric_is_said_once(tmp_path):
    file = tmp_path / "rows.jsonl"
    append_row(file, row("fm", 0.9))
    with pytest.raises(InputError, match=r"no metric named 'test.acu'"):
        CliRunner().invoke(app, ["board", "show", str(file), "--metric", "test.acu"], catch_exceptions=False)


def sliced(model: str, recall: float) -> Row:
    """A row of a ranking with slices and lists."""
    metrics = {"test.recall@20": recall, "test.ndcg@20": recall / 2, "valid.recall@20": recall,
               "test.coverage@20": 0.25, "test.recall@20|history<=5": 1 - recall,
               "test.users|history<=5": 1234}
    return row(model, 0.5, metrics=metrics)


def test_slices_stand_on_the_page_and_on_request_and_nowhere_else(tmp_path):
    out = shown(tmp_path, sliced("mf", 0.125), sliced("itemknn", 0.25)).output
    assert "recall@20" in out
    assert not any(word in out for word in ("history", "coverage", "1234"))
    asked = ["board", "show", str(tmp_path / "rows.jsonl"), "--metric", "test.recall@20|history<=5"]
    out = CliRunner().invoke(app, asked).output
    assert out.index(" mf ") < out.index(" itemknn ")
    found = CliRunner().invoke(app, ["board", "page", str(tmp_path / "rows.jsonl"), "--out",
                                     str(tmp_path / "page.html")])
    assert found.exit_code == 0, found.output
    text = (tmp_path / "page.html").read_text()
    heads = "<th>test coverage@20</th><th>test recall@20|history&lt;=5</th>"
    assert heads.replace("|history", ", history").replace("5</th>", "5 (1,234 users)</th>") in text
    assert '<td class="left name">mf</td><td>0.2500</td><td>0.8750</td>' in text
    assert '<td class="left name">itemknn</td><td>0.2500</td><td>0.7500</td>' in text


def test_a_page_without_slices_has_no_table_of_them(tmp_path):
    for one in board():
        append_row(tmp_path / "rows.jsonl", one)
    out = tmp_path / "p.html"
    CliRunner().invoke(app, ["board", "page", str(tmp_path / "rows.jsonl"), "--out", str(out)])
    assert "Lists and slices" not in out.read_text()
