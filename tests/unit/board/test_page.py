"""The page of a board: one file, the right number in the right column, readable without scripts."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from recsys_zoo.board import page
from recsys_zoo.board.columns import columns
from recsys_zoo.board.page import render, write_page
from recsys_zoo.board.plot import Axis, axis_of, best_floor, strip
from recsys_zoo.board.rank import Quoted, Ranking, rank
from recsys_zoo.board.table import print_table

from .toys import board, reference, row

QUOTED = [Quoted("fm", "board", {"auc": 0.9671}, "a board", "one seed", 0.9668),
          Quoted("fm", "paper", {"auc": 0.8}, "a paper", "")]
METRICS = ("test.auc", "test.logloss", "valid.auc")
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
    assert (fm["other board"], fm["paper"]) == ("0.9671", "0.8000")
    assert fm["other board, picked on valid"] == "0.9668"
    assert (fm["seconds"], fm["peak MiB"]) == ("32", "700")
    assert (fm["settings"], fm["parameters"]) == ("inherited below pair memory", "12,345")
    assert "note" not in fm  # all rows share the one note, which stands above the table
    assert table["deepfm"]["settings"] == "default"
    assert table["deepfm"]["other board"] == "–"
    assert table["autoint.plus"]["seeds"] == "5 1 lost"
    assert table["pair memory"]["#"] == ""
    assert table["pair memory"]["settings"] == "floor"
    assert list(table)[-3:] == ["pair memory", "column rates", "base rate"]


def test_the_page_is_one_file_that_loads_nothing(tmp_path):
    write_page(tmp_path / "board.html", [rank(board(), quoted=QUOTED)])
    assert [p.name for p in tmp_path.iterdir()] == ["board.html"]
    text = (tmp_path / "board.html").read_text(encoding="utf-8")
    reader = Reader(text)
    assert not {tag for tag, _, _ in reader.attributes} & {"link", "img", "iframe", "object"}
    assert not {name for _, name, _ in reader.attributes} & {"src", "href", "style", "onclick", "onload"}
    assert text.count("<script") == text.count("<style") == 1
    policy = next(value for tag, name, value in reader.attributes if "default-src" in value)
    for tag in ("script", "style"):
        inside = re.search(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
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
    for words in ("other board</th>", "paper</th>", "Not ranked", "Sources", "partly on test", ">note</th>"):
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


def test_the_rule_by_which_settings_were_chosen_is_said():
    rule = "best valid auc of 16 trials, tpe from seed 1"
    page = render([rank([row("lr", 0.9, hparams="valid", trials=16, choice=rule)])])
    assert f"<dt>settings chosen by</dt><dd>{rule}</dd>" in page
    assert "settings chosen by" not in render([rank([row("lr", 0.9)])])


def test_text_from_rows_is_text():
    evil = '<script>alert("x")</script>'
    rows = [row(evil, 0.8, note=evil, device=evil, command=evil), reference(evil, 0.5)]
    text = render([rank(rows)], title=evil)
    assert text.count("<script") == 1
    assert text.count("&lt;script&gt;") >= 5
    Reader(text)


def test_several_boards_share_a_page():
    other = [row("lr", 0.7, board="second"), row("fm", 0.72, board="second")]
    again = [row("lr", 0.7, data_digest="e" * 64)]
    reader = Reader(text := render([rank(board()), rank(other, "test.logloss"), rank(again)]))
    settings = "inherited or default settings"
    assert [f"<h2>{name}: {settings}</h2>" in text for name in ("toy_x1", "second")] == [True, True]
    assert "(lower is better)" in text
    identities = [value for _, name, value in reader.attributes if name == "id"]
    assert len(set(identities)) == len(identities)
    links = [value for _, name, value in reader.attributes if name == "href"]
    assert links == [f"#{name}-inherited-or-default-settings{more}"
                     for name, more in (("toy_x1", ""), ("second", ""), ("toy_x1", "-2"))]
    assert set(identities) >= {link[1:] for link in links}
    assert text.count("<table") == text.count("<form") == 3
    assert "<nav" not in render([rank(again)])


def test_cells_hold_the_exact_numbers_by_which_they_are_sorted():
    ranking = rank(board(), quoted=QUOTED)
    found = {column.name: column for column in columns(ranking, [ranking])}
    shown = [*ranking.entries, *ranking.references]
    for name, column in found.items():
        if name in METRICS:
            assert [float(cell.sort) for cell in column.cells] == [entry.mean(name) for entry in shown]
    assert [cell.sort for cell in found["rank"].cells] == ["1", "1", "1", "1", "5", "6", "", "", ""]
    assert {cell.sort for cell in found["parameters"].cells} == {"12345", ""}
    assert {cell.sort for cell in found["seconds"].cells[-3:]} == {""}  # no cost of what learns nothing
    assert [cell.sort for cell in found["board"].cells].count("") == 8
    firsts = {name: column.first for name, column in found.items()}
    assert firsts["test.auc"] == firsts["seeds"] == firsts["paper"] == "descending"
    assert firsts["test.logloss"] == firsts["seconds"] == firsts["rank"] == firsts["model"] == "ascending"
    by_loss = rank(board(), "test.logloss")
    downs = {c.name for c in columns(by_loss, [by_loss]) if c.first == "descending"}
    assert downs == {"seeds", "test.auc", "valid.auc"}
    text = render([ranking])
    assert all(f'data-sort="{cell.sort}"' in text for column in found.values() for cell in column.cells)


def test_what_was_picked_on_valid_elsewhere_stands_beside_what_was_printed():
    """It is a test AUC, so it stands on no other board."""
    for metric, known in (("test.auc", ["", "0.9668"]), ("test.logloss", None)):
        ranking = rank([row("lr", 0.8), row("fm", 0.7)], metric, QUOTED)
        found = [c for c in columns(ranking, [ranking]) if c.name == "by_valid"]
        assert [cell.sort for c in found for cell in c.cells] == (known or [])
        assert ("“Picked on valid”" in render([ranking])) == (known is not None)


def test_the_other_selection_of_the_epoch_stands_beside():
    """Wherever one model has both, and nowhere else."""
    def cells(of: Ranking, *others: Ranking) -> dict[str, str]:
        found = [c for c in columns(of, [of, *others]) if c.name == "selection"]
        return {e.label: cell.text for c in found for e, cell in zip(of.entries, c.cells, strict=False)}
    valid = rank([row("lr", 0.8), row("fm", 0.9), reference("base_rate", 0.5)])
    test = [row("fm", 0.91 + 0.01 * seed, seed, selection="test") for seed in (1, 2)]
    assert cells(valid) == {}
    assert cells(valid, rank(test)) == {"fm": "0.92500 ± 0.00707", "lr": ""}
    assert cells(rank(test), valid) == {"fm": "0.90000"}
    text = render([valid, rank(test)])
    assert "test AUC, epoch picked on test</th>" in text
    assert "test AUC, epoch picked on valid</th>" in text
    other = {"model": {"name": "fm"}, "train": {"seed": 1, "lr": 0.5}}
    for stranger in ([row("fm", 0.95, selection="test", board="second")],  # another board
                     [row("fm", 0.95, selection="test", hparams="valid", trials=9)],  # other settings
                     [*test, row("fm", 0.95, selection="test", config=other)]):  # which of the two?
        assert cells(valid, rank(stranger)) == {}


def test_notes_of_some_rows_stand_beside_them():
    ranking = rank([row("lr", 0.8, note="all; only lr"), row("fm", 0.7, note="all")])
    assert [c.text for c in columns(ranking, [ranking])[-1].cells] == ["only lr", ""]


def colours(style: str) -> dict[str, str]:
    return dict(re.findall(r"--(\w+):(#[0-9a-f]{6})", style))


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2.2."""
    parts = (int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_all_text_can_be_read_in_both_schemes():
    """At least 4.5:1 (WCAG AA); lines and marks that carry meaning at least 3:1."""
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#ffffff", "#767676") == pytest.approx(4.54, abs=0.01)
    style = (Path(page.__file__).with_name("page.css")).read_text(encoding="utf-8")
    light, dark = (colours(part) for part in style.split("prefers-color-scheme: dark", 1))
    assert set(light) == set(dark)
    text = set(re.findall(r"(?<![-\w])(?:color|fill):var\(--(\w+)\)", style))
    for scheme in (light, dark):
        for name in text - {"back", "bar"}:  # grounds
            for ground in ("back", "panel"):
                assert contrast(scheme[name], scheme[ground]) >= 4.5, (name, ground)
        assert contrast(scheme["ink"], scheme["warnback"]) >= 4.5
        for name in ("strong", "soft", "floor", "ceiling"):
            assert contrast(scheme[name], scheme["back"]) >= 3
    assert {"ink", "soft", "strong", "floor", "ceiling", "warn"} <= text


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
