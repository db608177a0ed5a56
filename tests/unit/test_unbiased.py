"""The study of unbiased models on Coat: ablations are runs, rules choose what they say, ratios by hand."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from recsys_zoo.trials import Trial

from .test_judgedruns import config, judged, run

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def ablations(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("unbiased_ablations")


@pytest.fixture
def unbiased(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("unbiased")


@pytest.mark.parametrize("name", ["relmf", "expomf"])
def test_an_ablation_is_tested_as_a_run_is(ablations, tmp_path, name):
    cfg = config(name).resolved()
    row = run(tmp_path, cfg)
    found = ablations.tested(ablations.Ablation("none", "the model itself", cfg), judged(), cfg.train.seed, 0)
    assert found == {key.removeprefix("test."): value for key, value in row.metrics.items()
                     if key.startswith("test.") and not key.endswith(("_low", "_high")) and "|" not in key}
    assert "rare_dcg@5" in found
    ablation = ablations.Ablation("none", "the epoch is known", cfg)
    assert ablations.tested(ablation, judged(), cfg.train.seed, row.best_epoch) == found


def trial(number: int, values: list[float], naive: list[float], **more) -> Trial:
    valid = [{"snips_dcg@5": one, "recall@20": other} for one, other in zip(values, naive, strict=True)]
    return Trial(number=number, settings={"train.lr": 0.01 * (number + 1)}, state=more.pop("state", "done"),
                 value=max(values), valid=valid, **more)


def test_each_rule_chooses_by_its_own_metric(ablations, tmp_path, monkeypatch):
    made = [trial(0, [0.2, 0.1], [0.3, 0.5]), trial(1, [0.4, 0.1], [0.1, 0.2]),
            trial(2, [0.1, 0.1], [0.6, 0.1], state="dead"), trial(3, [0.2, 0.1], [0.3, 0.5], same_as=0),
            trial(4, [0.3, 0.1], [0.1, 0.1])]
    space = SimpleNamespace(configure=lambda values: config(train={"lr": values["train.lr"]}).resolved())
    monkeypatch.setattr(ablations, "study", lambda *_: SimpleNamespace(read=lambda: made, space=space))
    tests = [{"model": name, "trial": number, "dcg@5": value}
             for name in ablations.MODELS for number, value in (("0", "0.1"), ("1", "0.2"), ("4", "0.3"))]
    ablations.write_lines(tmp_path / "trials.csv", ("model", "trial", "dcg@5"), tests)
    options = SimpleNamespace(trials=tmp_path / "trials.csv", studies=tmp_path)
    found = list(ablations.choices(options, judged()))
    assert [a.variant for a in found[:2]] == ["MF, chosen by recall@20 of valid",
                                              "MF, chosen by the test itself: a diagnosis, no result"]
    assert [(a.cfg.train.lr, a.cfg.train.monitor) for a in found] == [
        (0.01, "recall@20"), (0.05, "snips_dcg@5")] * len(ablations.MODELS)
    assert [t.number for t in ablations.finished(made)] == [0, 1, 4]


def test_ratios_are_of_means_over_seeds(unbiased):
    def rows(*values: float):
        return [SimpleNamespace(metrics={f"test.dcg@{k}": value / k for k in (1, 3, 5)}) for value in values]

    found = {"MF": rows(0.5), "WMF": rows(0.2, 0.4), "ExpoMF": rows(0.8), "Rel-MF": rows(0.6)}
    lines = unbiased.ratios(found, "")
    assert lines[2] == "| MF | 1.200 | 1.200 | 1.200 | - | - | - |"
    assert lines[3] == "| WMF | 2.000 | 2.000 | 2.000 | 1.624 | 1.440 | 1.346 |"
    assert lines[4] == "| ExpoMF | 0.750 | 0.750 | 0.750 | 1.218 | 1.245 | 1.206 |"


def test_trials_are_correlated_by_ranks(unbiased):
    values = {"MF": [(0.1, 0.4, 0.2), (0.3, 0.3, 0.4), (0.2, 0.1, 0.3), (0.9, 0.2, 0.1)]}
    lines = [dict(zip(("model", "valid_snips_dcg@5", "valid_recall@20", "dcg@5"), (name, *map(str, line)),
                      strict=True)) for name in unbiased.MODELS for line in values["MF"]]
    # ranks 1 3 2 4 and 4 3 1 2 against 2 4 3 1: 1 - 6 sum d^2 / 60
    assert unbiased.correlations(lines)[2] == "| MF | 4 | -0.20 | 0.00 | 0.1000 | 0.4000 |"
