"""The examples in docs/ run as they are written."""

from __future__ import annotations

import csv
import re
import statistics
from pathlib import Path

import torch

DOCS = Path(__file__).parent.parent.parent / "docs"


def blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text(encoding="utf-8"), re.M | re.S)


def test_plain_loop_trains_a_model():
    names: dict = {}
    for block in blocks("plain_loop.md"):
        exec(compile(block, "docs/plain_loop.md", "exec"), names)
    hits = ((names["probabilities"] > 0.5) == names["clicks"].bool()).float().mean()
    assert hits > 0.8  # a coin reaches 0.5
    assert names["attention"].shape == (2, 5, 2, 4, 4)


def test_plain_ranking_trains_models(capsys):
    names: dict = {}
    for block in blocks("plain_ranking.md"):
        exec(compile(block, "docs/plain_ranking.md", "exec"), names)
    assert capsys.readouterr().out.count("recall@20") == 2
    chance = 20 / (names["items"] - names["train"].counts.double().mean())
    for ranks in names["found"].values():
        assert names["recall"](ranks, 20).mean() > 1.4 * chance
    assert names["best"].shape == names["scores"].shape == (2, 5)
    assert (names["best"] % 2 == torch.tensor([[1], [0]])).float().mean() > 0.7  # of the user's own kind
    seen = {(u, i) for u, i in zip(*map(torch.Tensor.tolist, names["train"].pairs()), strict=True)}
    assert not any((u, i) in seen for u, row in zip((3, 4), names["best"].tolist(), strict=True) for i in row)


def test_plain_loop_is_ten_lines():
    (loop,) = (b for b in blocks("plain_loop.md") if "backward" in b)
    assert len(loop.strip().splitlines()) <= 10


def test_the_figures_on_published_choices_are_those_of_the_tables():
    tables = (DOCS.parent / "benchmarks" / "published").glob("*.csv")
    lines = [line for table in tables for line in csv.DictReader(table.open(encoding="utf-8"))]
    gains = [float(line["log_auc"] or line["auc"]) - float(line["auc_by_valid"])
             for line in lines if line.get("auc_by_valid")]
    lower = sum(gain > 5e-5 for gain in gains)  # more than the rounding of four digits
    text = " ".join((DOCS / "numbers.md").read_text(encoding="utf-8").split())
    assert f"For {len(gains)} rows of the public CTR boards" in text
    assert f"lower by more than 0.00005 test AUC in {lower} of them" in text
    assert f"by {statistics.fmean(gains):.4f} in the mean of all and by {max(gains):.4f} at most" in text
