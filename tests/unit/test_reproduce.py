"""Rows run again from their own record: bit for bit, or within the spread of seeds."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from recsys_zoo import launch, references, runs
from recsys_zoo.board.rows import append_row, read_rows
from recsys_zoo.cli import app
from recsys_zoo.data.prepare import prepare
from recsys_zoo.errors import InputError
from recsys_zoo.metrics.paired import Spread, pooled_spread, prediction_interval
from recsys_zoo.reproduce import FRESH, Reproduction, find_row, reproduce
from recsys_zoo.runs import RunConfig

from .board.toys import row
from .data.tables import as_frame, toy_rows, toy_spec


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Prepared data and a file of rows: two models over three seeds, and the floors."""
    folder = tmp_path_factory.mktemp("reproduce")
    as_frame(toy_rows(400)).write_parquet(folder / "raw.parquet")
    data = prepare([folder / "raw.parquet"], toy_spec(), folder / "data")
    file = folder / "rows.jsonl"
    for model in ("lr", "fm"):
        for seed in (1, 2, 3):
            cfg = RunConfig(board="toy", data=str(folder / "data"), model={"name": model},
                            train={"epochs": 2, "batch_size": 64, "seed": seed, "lr": 0.01}).resolved()
            append_row(file, runs.train(cfg, data, launch.default_folder(cfg, folder / "runs"),
                                        command="made", say=lambda _: None, callbacks=[]))
    for floor in references.floors(data, "toy", replicates=20):
        append_row(file, floor)
    return folder, file, data


def again(made, tmp_path, entry, seed, **options):
    _, file, _ = made
    found, board = find_row(str(file), entry, seed)
    return reproduce(found, board, tmp_path / "out", say=lambda _: None, **options)


def test_the_same_seed_is_bit_identical(made, tmp_path):
    done = again(made, tmp_path, "fm", 2)
    assert done.bitwise
    assert done.identical
    assert done.good
    assert done.again.scores_digest == done.row.scores_digest != ""
    assert list(done.lines())[-1] == "reproduced bit for bit"
    with pytest.raises(InputError, match="holds this rerun already; remove it"):
        again(made, tmp_path, "fm", 2)


def test_a_changed_row_is_found_out(made, tmp_path):
    _, file, _ = made
    found, board = find_row(str(file), "fm", 2)
    metrics = {**found.metrics, "test.auc": found.metrics["test.auc"] + 1e-12}
    false = found.model_copy(update={"metrics": metrics})
    done = reproduce(false, board, tmp_path / "out", say=lambda _: None)
    assert set(done.differences) == {"test.auc"}
    assert not done.good
    assert done.verdict.startswith("not reproduced")


def test_a_fresh_seed_is_judged_by_the_seeds_of_the_board(made, tmp_path):
    done = again(made, tmp_path, "lr", 1, fresh=True)
    assert done.again.seed == 1 + FRESH
    values = {m: [r.metrics["test.auc"] for r in read_rows(made[1]) if r.model == m] for m in ("lr", "fm")}
    assert done.interval == prediction_interval(values["lr"], pooled_spread(values.values()))
    assert not done.identical
    far = Reproduction(done.row, done.again, (2.0, 3.0))
    assert not far.good
    assert "outside what seeds explain" in far.verdict


def test_a_prediction_interval_by_hand():
    # mean 3, pooled deviation 1 with 4 degrees of freedom: t = 2.776445, sqrt(1 + 1/4)
    low, high = prediction_interval([2.0, 3.0, 3.0, 4.0], Spread(1.0, 4))
    assert (low, high) == pytest.approx((3 - 2.776445 * 1.25**0.5, 3 + 2.776445 * 1.25**0.5), abs=1e-5)
    with pytest.raises(InputError, match="no model has two seeds"):
        prediction_interval([1.0], Spread(0.0, 0))


def test_floors_come_out_the_same(made, tmp_path):
    done = again(made, tmp_path, "column_rates", None)
    assert done.identical
    assert done.good


def test_other_conditions_are_said_and_not_judged_bit_for_bit():
    then = row("fm", 0.90, scores_digest="a", processor="P", kernels="torch")
    now = then.model_copy(update={"scores_digest": "b", "threads": 2, "processor": "Q",
                                  "metrics": {**then.metrics, "test.auc": 0.9001}})
    moved = Reproduction(then, now, (0.899, 0.901))
    assert moved.conditions == {"threads": ("1", "2"), "processor": ("P", "Q")}
    assert not moved.bitwise
    assert moved.good
    assert moved.verdict == "reproduced within the spread of seeds, under other conditions"
    assert Reproduction(then.model_copy(update={"processor": ""}), now, None).conditions["processor"] == (
        "not recorded", "Q")
    assert not Reproduction(then, now, None).good
    same = now.model_copy(update={"threads": 1, "processor": "P"})
    assert not Reproduction(then, same, (0.899, 0.901)).good  # the same conditions promise the same bits
    gpu = {"device": "NVIDIA H200"}
    assert Reproduction(then.model_copy(update=gpu), same.model_copy(update=gpu), (0.899, 0.901)).good
    nothing = {"status": "dead", "reason": "NaN loss", "metrics": {}, "scores_digest": ""}
    lost = then.model_copy(update=nothing)
    assert Reproduction(lost, lost, None).verdict == "reproduced: both runs died (NaN loss)"
    other = lost.model_copy(update={"reason": "constant scores"})
    assert not Reproduction(lost, other, None).good
    dead = now.model_copy(update={"status": "dead"})
    assert "the row is done, the rerun dead" in Reproduction(then, dead, (0.0, 1.0)).verdict


def test_a_row_is_named_by_its_place_its_seed_or_its_folder(made, tmp_path):
    folder, file, data = made
    assert find_row(f"{file}:2")[0] == read_rows(file)[1]
    assert find_row(str(next((folder / "runs").rglob("row.json"))))[0].board == "toy"
    for target, options, message in (
        (f"{file}:0", {}, "has no row 0, only rows 1 to"),
        (str(file), {"entry": "fm"}, r"3 rows fit; .* 4 \(fm seed 1\), 5 \(fm seed 2\)"),
        (str(file), {"entry": "dnn"}, "0 rows fit"),
        (str(tmp_path), {}, "holds no row.json"),
    ):
        with pytest.raises(InputError, match=message):
            find_row(target, **options)
    found, board = find_row(f"{file}:1")
    with pytest.raises(InputError, match="made on data eeee"):
        reproduce(found.model_copy(update={"data_digest": "e" * 64}), board, tmp_path / "out")
    for changes, message in (({"status": "failed"}, "--retry-failed"), ({"role": "ceiling"}, "a ceiling")):
        with pytest.raises(InputError, match=message):
            reproduce(found.model_copy(update=changes), board, tmp_path / "out")
    nowhere = found.model_copy(update={"config": {}})
    with pytest.raises(InputError, match="name them by --data"):
        reproduce(nowhere, [], tmp_path / "out")
    assert data.data_digest == found.data_digest


def test_from_the_command_line(made, tmp_path):
    _, file, _ = made
    words = ["board", "reproduce", str(file), "--entry", "lr", "--seed", "3", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0
    assert done.output.endswith("reproduced bit for bit\n")
    lines = file.read_text().splitlines()
    false = tmp_path / "false.jsonl"
    false.write_text(lines[2].replace('"test.auc":0.', '"test.auc":0.1') + "\n")
    wrong = CliRunner().invoke(app, ["board", "reproduce", f"{false}:1", "--out", str(tmp_path / "more")])
    assert wrong.exit_code == 1
    assert "not reproduced" in wrong.output
