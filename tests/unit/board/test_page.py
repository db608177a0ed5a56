"""The page of a board: one file, the right number in the right column, readable without scripts."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from recsys_zoo.board.page import render, write_page
from recsys_zoo.board.plot import Axis, axis_of, best_floor, strip
from recsys_zoo.board.rank import Quoted, rank
from recsys_zoo.board.table import print_table

from .toys import board, reference, row

QUOTED = [Quoted("fm", "board", {"auc": 0.9671}, "a board", "one seed"),
          Quoted("fm", "paper", {"auc": 0.8}, "a paper", "")]
VOID = {"meta", "br", "link", "input", "img"}


class Reader(HTMLParser):
    """Checks nesting, and collects table rows as {column: text} and all attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def table(self) -> dict[str, dict[str, str]]:
        header, *lines = ([re.sub(r"\s+", " ", cell).strip() for cell in line] for line in self.rows)
        assert all(len(line) == len(header) for line in lines)
        return {line[1]: dict(zip(header, line, strict=True)) for line in lines}


def test_every_number_stands_in_its_column():
    table = Reader(render([rank(board(), quoted=QUOTED)])).table()
    fm = table["fm"]
    assert fm["#"] == "5"
    assert fm["test AUC"] == "0.96940 ± 0.00032"
    assert fm["seeds"] == "5"
    assert fm["95 % interval"] == "0.9674 – 0.9714"
    assert fm["logloss"] == "0.23060"
    assert fm["valid AUC"] == "0.97040"
    assert (fm["otherboard"], fm["paper"]) == ("0.9671", "0.8000")
    assert (fm["settings"], fm["parameters"]) == ("inherited below pair memory", "12,345")
    assert fm["note"] == "train negatives re-drawn"
    assert table["deepfm"]["settings"] == "default"
    assert table["deepfm"]["otherboard"] == "–"
    assert table["autoint.plus"]["seeds"] == "5 1 lost"
    assert table["pair memory"]["#"] == ""
    assert table["pair memory"]["settings"] == "floor"
    assert list(table)[-3:] == ["pair memory", "column rates", "base rate"]


def test_the_page_is_one_file_that_loads_nothing(tmp_path):
    write_page(tmp_path / "board.html", [rank(board(), quoted=QUOTED)])
    assert [p.name for p in tmp_path.iterdir()] == ["board.html"]
    text = (tmp_path / "board.html").read_text(encoding="utf-8")
    reader = Reader(text)
    assert not {tag for tag, _, _ in reader.attributes} & {"script", "link", "img", "iframe", "object"}
    assert not {name for _, name, _ in reader.attributes} & {"src", "href", "onclick", "onload"}
    assert "<script" not in text
    assert "@import" not in text
    assert "url(" not in text
    assert "prefers-color-scheme: dark" in text
    assert ("meta", "name", "viewport") in reader.attributes


def test_conditions_notes_and_what_is_left_out_are_said():
    text = render([rank(board(), quoted=QUOTED)])
    for words in ("train negatives re-drawn", "best epoch on valid", "d" * 16, "0123456789ab",
                  "1, 2, 3, 4, 5", "cpu (AVX512)", "2026-01-01 to 2026-01-05",
                  "autoint.plus, seed 6: dead: the scores are constant",
                  "whose makers chose them partly on test", "outside this axis: base rate",
                  "fm: a board (one seed)", "recsys-zoo train toy_x1/fm --seed 1"):
        assert words in text, words
    bare = render([rank([row("lr", 0.8, note="", hparams="default")])])
    for words in ("other<br>board", "paper</th>", "Not ranked", "Sources", "partly on test", ">note</th>"):
        assert words not in bare, words
    assert "picked on test" in render([rank([row("lr", 0.8, selection="test")])])


def test_what_an_audit_warns_of_and_what_is_below_a_floor_is_said():
    ranking = rank(board())
    assert {e.label: ranking.below(e) for e in ranking.entries if ranking.below(e)} == {
        "lr": "pair memory", "fm": "pair memory"}
    assert not any(map(ranking.below, ranking.references))
    by_loss = rank(board(), "test.logloss")
    assert by_loss.below(by_loss.entries[-1]) == "pair memory"
    assert rank([row("lr", 0.4)]).below(rank([row("lr", 0.4)]).entries[0]) == ""
    warned = replace(ranking, warnings=("a & b are shared",))
    text, out = render([warned]), io.StringIO()
    Reader(text)
    assert "<li>a &amp; b are shared</li>" in text
    assert text.count("below pair memory") == 2
    print_table(warned, Console(file=out, width=200))
    assert "data: a & b are shared" in out.getvalue()
    assert out.getvalue().count("(below pair memory)") == 2
    assert "found nothing to warn of" in render([replace(ranking, warnings=())])
    assert "The data were not audited" in render([ranking])


def test_text_from_rows_is_text():
    evil = '<script>alert("x")</script>'
    rows = [row(evil, 0.8, note=evil, device=evil, command=evil), reference(evil, 0.5)]
    text = render([rank(rows)], title=evil)
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 5
    Reader(text)


def test_several_boards_share_a_page():
    other = [row("lr", 0.7, board="second"), row("fm", 0.72, board="second")]
    text = render([rank(board()), rank(other, "test.logloss")])
    Reader(text)
    assert "<h2>toy_x1</h2>" in text
    assert "<h2>second</h2>" in text
    assert "(lower is better)" in text


def test_strips_share_one_axis_and_start_at_the_best_floor():
    ranking = rank([*board(), reference("bayes_optimal", 0.9912, "ceiling")])
    axis, floor = axis_of(ranking), best_floor(ranking)
    assert floor.label == "pair_memory"
    assert axis.holds(0.9912)
    assert not axis.holds(0.5)
    means = []
    for entry in ranking.entries:
        picture = strip(entry, axis, ranking.references, floor.mean())
        means.append(float(re.search(r'class="mean" x1="([\d.]+)%"', picture)[1]))
        left, width = map(float, re.search(r'class="bar" x="([\d.]+)%" width="([\d.]+)%"', picture).groups())
        ends = sorted((axis.place(floor.mean()), means[-1]))
        assert (left, left + width) == pytest.approx(ends, abs=0.02)
        low, high = map(float, re.search(r'class="interval" x1="([\d.]+)%" x2="([\d.]+)%"', picture).groups())
        assert low < means[-1] < high
        assert picture.count("<circle") == 5
        assert picture.count('class="reference') == 3
    assert means == sorted(means, reverse=True)
    assert means[0] == pytest.approx(axis.place(0.98475), abs=0.006)
    assert (axis.place(axis.low), axis.place(axis.high)) == (2, 98)


def test_the_hardest_floor_of_a_loss_is_the_lowest():
    ranking = rank(board(), "test.logloss")
    assert best_floor(ranking).mean("test.logloss") == pytest.approx(1.2 - 0.9701)
    assert best_floor(rank([row("lr", 0.8)])) is None
    render([rank([row("lr", 0.8)]), rank([reference("base_rate", 0.5)])])  # one row; no model at all


@given(st.floats(-1e3, 1e3), st.floats(1e-6, 1e3))
def test_ticks_are_few_round_and_inside(low, span):
    axis = Axis(low, low + span)
    ticks = axis.ticks()
    assert 1 <= len(ticks) <= 8
    slack = 1e-6 * span + 1e-9
    assert all(axis.low - slack <= tick <= axis.high + slack for tick in ticks)
    assert ticks == sorted(set(ticks))


def test_the_console_table_says_the_same():
    out = io.StringIO()
    other = {"model": {"name": "lr"}, "train": {"seed": 1, "lr": 0.5}}
    ranking = rank([*board(), row("lr", 0.9, config=other)], quoted=QUOTED)
    print_table(ranking, Console(file=out, width=200))
    lines = out.getvalue().splitlines()
    fm = next(line for line in lines if " fm " in line)
    assert re.search(r"0\.96940 ± 0\.00032 \(5\).*0\.9674 – 0\.9714.*0\.23060.*0\.9671.*0\.8000.*inh", fm)
    assert any(f"lr [{ranking.entries[-1].rows[0].config_digest[:6]}]" in line for line in lines)
    assert any("pair memory" in line and "floor" in line for line in lines)
    assert "note: train negatives re-drawn" in out.getvalue()
    assert "not ranked: autoint.plus seed 6: dead" in out.getvalue()
