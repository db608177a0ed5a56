"""`recsys-zoo demo` on few rows: everything it promises is there."""

from __future__ import annotations

import json
import sys

import pytest

from recsys_zoo import cli


def test_the_demo_ranks_five_models_between_floor_and_ceiling(tmp_path, monkeypatch, capsys):
    from recsys_zoo import demo
    monkeypatch.setitem(demo.TRAIN, "epochs", 2)
    words = ["recsys-zoo", "demo", "--out", str(tmp_path / "demo"), "--rows", "3000"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    rows = [json.loads(line) for line in (tmp_path / "demo" / "rows.jsonl").read_text().splitlines()]
    models = {r["model"] for r in rows if r["role"] == "model"}
    assert models == {"lr", "fm", "dnn", "deepfm", "autoint"}
    (ceiling,) = (r["metrics"]["test.auc"] for r in rows if r["role"] == "ceiling")
    assert all(r["metrics"]["test.auc"] < ceiling for r in rows if r["role"] != "ceiling")
    assert {r["model"] for r in rows if r["role"] == "floor"} == {"base_rate", "column_rates", "pair_memory"}
    page = (tmp_path / "demo" / "board.html").read_text()
    assert all(name in page for name in ("deepfm", "pair memory", "true probabilities"))
    assert "http" not in page.replace("http://www.w3.org", "").replace("http-equiv", "")
    out = capsys.readouterr().out
    assert "ceiling: the true probabilities have test AUC" in out


def test_the_demo_never_deletes_a_folder_it_did_not_make(tmp_path, monkeypatch, capsys):
    (tmp_path / "thesis.txt").write_text("years of work")
    (tmp_path / "clicks.csv").write_text("click,user\n")
    monkeypatch.setattr(sys, "argv", ["recsys-zoo", "demo", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert "no folder of an earlier demo" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").is_file()
