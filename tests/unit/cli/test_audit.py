"""`recsys-zoo audit` from prepared folder to file and table."""

from __future__ import annotations

import json
from pathlib import Path


def test_an_audit_is_printed_and_kept(prepared, run):
    code, out, err = run("audit", "data", "--time", "price")
    assert code == 0, err
    record = json.loads(Path("data/audit.json").read_text())
    assert record["data_digest"] == json.loads(Path("data/prepared.json").read_text())["data_digest"]
    assert record["order"]["split_method"] == "hash"
    assert record["order"]["time"] == "price"
    assert all(f"! {warning}" in out for warning in record["warnings"])
    for head in ("splits (made by: hash)", "unknown in valid", "user x item", "pair_memory"):
        assert head in out
    # the folder is still whole
    assert run("train", "lr", "data", "--set", "train.epochs=1", "--out", "run")[0] == 0


def test_mistakes_are_one_sentence(prepared, run):
    for words, said in (
        (("audit", "nowhere"), "no prepared folder 'nowhere' here"),
        (("audit", "data", "--label", "clik"), "no label named 'clik'"),
        (("audit", "data", "--time", "user"), "no numeric column named 'user'"),
    ):
        code, _, err = run(*words)
        assert code == 2
        assert said in err
        assert err.count("\n") == 1
    assert not Path("data/audit.json").exists()
