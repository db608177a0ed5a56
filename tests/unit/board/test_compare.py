"""Comparisons: which entries are meant, Holm over them, both forms of the output."""

from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

from recsys_zoo.board.compare import costs, effects, latex_table, pick, text
from recsys_zoo.board.draws import Bank
from recsys_zoo.board.rank import rank
from recsys_zoo.board.rows import append_row
from recsys_zoo.card import Card
from recsys_zoo.cli import app
from recsys_zoo.errors import InputError
from recsys_zoo.metrics.paired import holm

from .test_ties import made
from .toys import board, row

CARD = Card(name="Deep&Wide-2", family="ctr", title="50 % of {x_i} & more", authors="Öz, Du", year=2020,
            url="https://example.org/a_b", equations="")


def test_names_are_labels_or_beginnings_that_fit_one_entry():
    ranking = rank(board())
    ((_, entries),) = pick([ranking], ["dn", "autoint"])
    assert [entry.label for entry in entries] == ["dnn", "autoint"]
    with pytest.raises(InputError, match=r"no entry named 'd'"):  # dnn and deepfm begin so
        pick([ranking], ["fm", "d"])
    with pytest.raises(InputError, match=r"no entry named 'deepfn'; did you mean \['deepfm'"):
        pick([ranking], ["fm", "deepfn"])
    tuned = rank([row("mlp", 0.9, hparams="valid", trials=3)])
    with pytest.raises(InputError, match=r"fm, mlp stand in no ranking together .*mlp: toy_x1: tuned on"):
        pick([ranking, tuned], ["fm", "mlp"])


def test_the_first_is_tested_against_each_other_with_holms_correction(tmp_path):
    rows, files = made(tmp_path, {"best": 0.30, "same": 0.30, "middle": 0.27})
    bank = Bank(scores=files)
    ranking = rank(rows, bank=bank)
    found = effects(ranking, [next(e for e in ranking.entries if e.label == name)
                              for name in ("best", "same", "middle")], bank)
    assert [(e.other.label, e.metric) for e in found] == [("same", "test.auc"), ("middle", "test.auc")]
    assert [e.p_holm for e in found] == holm([e.test.p for e in found])
    assert found[0].p_holm > 0.05 > found[1].p_holm
    shown = text(ranking, found, costs(ranking.entries), ["@misc{x}\n"])
    assert re.search(r"best against same: .*\n.*: tied\n", shown)
    assert re.search(r"best against middle: .*\n.*: best is better\n  \(paired bootstrap over users", shown)
    assert "12,345 parameters" in shown
    assert shown.endswith("@misc{x}\n")


def test_of_epochs_that_were_picked_on_test_it_is_said_beside_the_verdict():
    ends = {"test.auc_low": 0.49, "test.auc_high": 0.51}
    rows = [row(name, 0, seed, metrics={"test.auc": auc + seed * 1e-4, **ends}, selection="test")
            for name, auc in (("a", 0.7), ("b", 0.5)) for seed in (1, 2, 3)]
    ranking = rank(rows)
    said = text(ranking, effects(ranking, ranking.entries, Bank()), costs(ranking.entries), [])
    assert ": a is better, by epochs that were picked on test" in said


def test_a_smaller_logloss_is_better():
    ends = {"test.logloss_low": 0.0, "test.logloss_high": 0.01}
    rows = [row(name, 0, seed, metrics={"test.auc": 0.5, "test.logloss": loss + seed * 1e-4, **ends})
            for name, loss in (("a", 0.3), ("b", 0.5)) for seed in (1, 2, 3)]
    ranking = rank(rows)
    found = effects(ranking, ranking.entries, Bank())
    assert found[-1].metric == "test.logloss"
    assert ": a is better" in text(ranking, found[-1:], costs(ranking.entries), [])
    assert "0.000000\n  (not tested" in text(ranking, found[:1], costs(ranking.entries), [])


def test_a_metric_that_some_seeds_lack_is_left_out():
    rows = [row(name, 0.9, seed) for name in ("a", "b") for seed in (1, 2)]
    rows[3] = rows[3].model_copy(update={"metrics": {"test.auc": 0.9}})
    ranking = rank(rows)
    assert {e.metric for e in effects(ranking, ranking.entries, Bank())} == {"test.auc"}


def test_a_table_for_a_paper():
    ranking = rank(board())
    _, entries = pick([ranking], ["autoint.plus", "fm"])[0]
    table = latex_table(ranking, effects(ranking, entries, Bank()), costs(entries), ["@misc{x,\n}\n"])
    assert r"autoint.plus & 0.98475 $\pm$ 0.00032 & 0.21525 $\pm$ 0.00032 &  &  & 12\,345 \\" in table
    change = re.search(r"fm & 0.96940 .*\$-0\.01535\$ \[\$(\S+)\$, \$(\S+)\$\] & \$<\$ 0.001 &", table)
    assert float(change[1]) < -0.01535 < float(change[2])
    assert table.count("{") == table.count("}")
    assert r"toy\_x1: inherited or default settings" in table
    assert table.endswith("% @misc{x,\n% }\n")


def test_bibtex_escapes_what_latex_would_read():
    assert CARD.bibtex() == ("@misc{z2020DeepWide2,\n  title = {{50 \\% of \\{x\\_i\\} \\& more}},\n"
                             "  author = {Öz and Du},\n  year = {2020},\n  url = {https://example.org/a_b},\n}\n")


def test_from_the_command_line_and_with_kept_draws(tmp_path):
    rows, _ = made(tmp_path, {"fm": 0.30, "lr": 0.27})
    file = tmp_path / "results" / "rows.jsonl"
    for one in rows:
        config = {**one.config, "bootstrap": 300}
        append_row(file, row(one.label, 0, one.seed, config=config, metrics=one.metrics,
                             scores_digest=one.scores_digest))
    runs = tmp_path / "runs"
    for number, one in enumerate(rows):
        folder = runs / str(number)
        folder.mkdir(parents=True)
        (folder / "row.json").write_text(one.model_dump_json())
        (tmp_path / f"{one.model}-{one.seed}.parquet").rename(folder / "scores_test.parquet")
    kept = CliRunner().invoke(app, ["board", "draws", str(file), "--scores", str(runs)])
    assert kept.output == "kept 6 more; of 0 rows neither draws nor test scores are at hand\n"
    again = CliRunner().invoke(app, ["board", "draws", str(file), "--scores", str(tmp_path / "none")])
    assert again.output == "kept 0 more; of 0 rows neither draws nor test scores are at hand\n"
    words = ["board", "compare", "fm", "lr", "--rows", str(file), "--scores", str(tmp_path / "none")]
    shown = CliRunner().invoke(app, words)
    assert "fm is better" in shown.output
    assert "paired bootstrap over users" in shown.output
    assert "@misc{Rendle2010FM," in shown.output
    assert r"\toprule" in CliRunner().invoke(app, [*words, "--latex"]).output
    alone = CliRunner().invoke(app, ["board", "compare", "fm", "fm", "--rows", str(file)])
    assert "name two different entries" in str(alone.exception)
