"""The study of unbiased models on known chances: its draws, its measures, the order that must come out."""

from __future__ import annotations

import importlib
import math
from pathlib import Path

import polars as pl
import pytest
import torch

from recsys_zoo.errors import InputError

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def planted(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("unbiased_planted")


def test_clicks_are_draws_of_both_chances(planted):
    known = planted.Chances(torch.full((400, 300), 0.3), torch.full((400, 300), 0.5))
    clicks, one = (planted.drawn(known, 2.0, 1, draws) for draws in (4, 1))
    assert float(clicks.clicked.mean()) == pytest.approx(0.3 * 0.5**2, abs=0.002)  # five deviations
    assert float(clicks.relevant.float().mean()) == pytest.approx(0.3, abs=0.007)
    assert float(clicks.free.float().mean()) == pytest.approx(1 - 0.075, abs=0.004)
    assert torch.equal(clicks.relevant, one.relevant)
    assert torch.equal(clicks.free, one.free)
    assert torch.equal(one.clicked == 0, one.free)
    assert torch.equal(one.theta, torch.full((400, 300), 0.25))


def blocks(planted):
    """Users want a third of the items; how often these are shown does not depend on that."""
    users, items = torch.arange(90)[:, None], torch.arange(60)
    gamma = torch.where(users % 3 == items % 3, 0.7, 0.3)
    theta = torch.tensor([0.1, 0.3, 0.9])[items // 3 % 3].expand_as(gamma)
    return planted.Chances(gamma, theta)


def test_the_oracle_is_at_least_as_good_as_relmf_and_relmf_better_than_mf(planted, monkeypatch):
    for name, value in (("STEPS", 200), ("BATCH", 1024), ("L2", 1e-5)):
        monkeypatch.setattr(planted, name, value)
    clicks = planted.drawn(blocks(planted), 1.0, 3, draws=100)
    found = {name: planted.measured(planted.fitted(planted.METHODS[name], clicks, 1).scores, clicks)
             for name in ("oracle", "Rel-MF", "MF")}
    gamma = {name: values["gamma@5"] for name, values in found.items()}
    assert gamma["oracle"] >= gamma["Rel-MF"] > gamma["MF"] + 0.05
    loss = {name: values["loss"] for name, values in found.items()}
    assert loss["oracle"] <= loss["Rel-MF"] < loss["MF"] - 0.05


def test_what_is_measured_is_what_a_loop_finds(planted, monkeypatch):
    monkeypatch.setattr(planted, "NEGATIVES", 6)
    clicks = planted.drawn(planted.Chances(*torch.rand(2, 7, 20, generator=torch.manual_seed(1))), 1.0, 2)
    scores = torch.randn(7, 20, generator=torch.manual_seed(3))
    found = planted.measured(scores, clicks, 5)
    chance = torch.rand(7, 20, generator=torch.Generator().manual_seed(5))
    dcg, best, losses = [], [], []
    for user in range(7):
        free = [i for i in range(20) if clicks.free[user, i]]
        wanted = [i for i in free if clicks.relevant[user, i]]
        others = [i for i in range(20) if not clicks.relevant[user, i]]
        others.sort(key=lambda i: -chance[user, i])
        if wanted:
            order = sorted(wanted + others[:6], key=lambda i: -scores[user, i])[:5]
            gains = [1 if rank == 1 else 1 / math.log2(rank) for rank in range(1, 6)]
            dcg.append(sum(g for g, i in zip(gains, order, strict=False) if i in wanted) / len(wanted))
        best += [float(clicks.gamma[user, i]) for i in sorted(free, key=lambda i: -scores[user, i])[:5]]
        for i in free:
            p = 1 / (1 + math.exp(-float(scores[user, i])))
            losses.append(-math.log(p if clicks.relevant[user, i] else 1 - p))
    expected = {"dcg@5": dcg, "gamma@5": best, "loss": losses}
    expected = {name: sum(values) / len(values) for name, values in expected.items()}
    assert found == pytest.approx(expected, rel=1e-6)


def test_methods_see_what_their_names_say(planted):
    clicks = planted.drawn(blocks(planted), 1.0, 3)
    sees = {name: planted.seen_by(method, clicks) for name, method in planted.METHODS.items()}
    assert torch.equal(sees["oracle"][0], clicks.gamma)
    assert bool((sees["oracle"][1] == 1).all())
    assert torch.equal(sees["Rel-MF"][1], clicks.theta)
    assert all(torch.equal(label, clicks.clicked) for name, (label, _) in sees.items()
               if "oracle" not in name)
    counts = clicks.clicked.sum(0)
    expected = (counts.clamp(min=1) / counts.max()) ** 0.5
    assert torch.allclose(sees["Rel-MF, theta by popularity"][1], expected.expand(90, 60))


def test_lines_go_on_and_the_table_counts_the_order(planted, tmp_path, monkeypatch, capsys):
    user, item = (torch.rand(12, 15, generator=torch.manual_seed(0)) < 0.4).nonzero(as_tuple=True)
    ratings = {"user": user.numpy() + 1, "item": item.numpy() + 1, "rating": (user + item).numpy() % 5 + 1}
    pl.DataFrame(ratings).write_parquet(tmp_path / "interactions.parquet")
    pl.DataFrame(ratings).with_columns(time=0).write_csv(tmp_path / "u.data", separator="\t",
                                                         include_header=False)
    for name, value in (("STEPS", 10), ("PLAIN_STEPS", 10), ("EVERY", 5), ("BATCH", 32),
                        ("POWERS", (0.5,)), ("SEEDS", (1, 2)),
                        ("FEW_POWER", 1.0), ("MANY_DRAWS", 2)):
        monkeypatch.setattr(planted, name, value)
    out = tmp_path / "lines.csv"
    options = planted.argparse.Namespace(ratings=tmp_path, out=out)
    planted.run(options)
    whole = out.read_text()
    assert whole.count("\n") == 1 + 2 * (3 + len(planted.METHODS) - 3 + 2)
    out.write_text("".join(whole.splitlines(keepends=True)[:5]))
    (tmp_path / "interactions.parquet").unlink()  # u.data holds the same
    planted.run(options)
    assert out.read_text() == whole
    planted.table(planted.argparse.Namespace(lines=out, out=tmp_path / "table.md"))
    text = (tmp_path / "table.md").read_text()
    assert "## theta^0.5, 1 draw of each pair" in text
    assert "## theta^1, 2 draws of each pair" in text
    lines = [dict(zip(planted.FIELDS, line.split(","), strict=True)) for line in whole.splitlines()[1:]
             if '"' not in line]
    dcg = {(line["method"], line["seed"]): float(line["dcg@5"]) for line in lines if line["draws"] == "1"}
    wins = sum(dcg["Rel-MF", seed] > dcg["MF", seed] for seed in "12")
    assert f"Rel-MF better than MF in: dcg@5 {wins} of 2" in text


def test_a_folder_without_ratings_is_refused(planted, tmp_path):
    with pytest.raises(InputError, match=r"has neither interactions.parquet nor u.data; get ml-100k.zip"):
        planted.ratings_of(tmp_path)
