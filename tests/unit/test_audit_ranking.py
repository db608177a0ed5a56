"""The audit of rankings against loops over pairs, and on splits with one fault each."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest

from recsys_zoo.audit import audit, file_beside, read, save
from recsys_zoo.board.rank import rank
from recsys_zoo.board.rows import config_digest
from recsys_zoo.data.prepare import prepare
from recsys_zoo.data.spec import DataSpec
from recsys_zoo.data.store import Prepared, Split
from recsys_zoo.errors import InputError
from recsys_zoo.evaluation.full_rank import NotFinite
from recsys_zoo.references import floors
from recsys_zoo.runs import RunConfig, train
from recsys_zoo.schema import Column, Schema

USERS, ITEMS = 12, 30
COLUMNS = [Column(name=n, kind="categorical", side=n, vocab_size=size + 2)
           for n, size in (("user", USERS), ("item", ITEMS))]
SCHEMA = Schema(dataset="toy", columns=tuple(COLUMNS), labels=(), user="user", item="item", interactions=True)
Parts = dict[str, list[tuple[int, int]]]


def clean() -> Parts:
    """Every user and item in train; valid and test of pairs that are in no other split."""
    pairs = list(product(range(USERS), range(ITEMS)))
    parts: Parts = {"train": [], "valid": [], "test": []}
    for user, item in pairs:
        kind = (user * 7 + item * 3) % 10
        if kind < 4 or item == user:
            parts["train"].append((user, item))
        elif kind in (4, 5):
            parts["valid" if kind == 4 else "test"].append((user, item))
    return parts


def made(parts: Parts, times: dict[str, list[float]] | None = None) -> Prepared:
    splits = {}
    for name, pairs in parts.items():
        time = np.array(times[name]) if times else None
        splits[name] = Split(SCHEMA, np.array(pairs) + 2, None, np.zeros((len(pairs), 0)), time=time)
    return Prepared.in_memory(SCHEMA, splits)


def warned(parts: Parts, word: str, times: dict[str, list[float]] | None = None) -> bool:
    return any(word in warning for warning in audit(made(parts, times))["warnings"])


def in_order(parts: Parts) -> dict[str, list[float]]:
    """All rows of a split later than those of the one before."""
    return {name: [float(place)] * len(pairs) for place, (name, pairs) in enumerate(parts.items())}


def test_clean_splits_have_nothing_to_warn_of():
    parts = clean()
    assert audit(made(parts, in_order(parts)))["warnings"] == []
    assert audit(made(parts))["warnings"] == [
        "no moments are kept: how much models know of later days is open"]


def test_shares_equal_loops():
    parts = clean()
    draw = np.random.default_rng(0)
    parts["train"] = [pair for pair in parts["train"] if pair[0] != 3 and pair[1] not in (4, 9)]
    parts["test"] += [parts["train"][0], parts["valid"][1], parts["test"][2]]
    times = {name: draw.integers(0, 50, len(pairs)).tolist() for name, pairs in parts.items()}
    record = audit(made(parts, times))
    for name, known in (("valid", ["train"]), ("test", ["train", "valid"])):
        rows, before = parts[name], [pair for n in known for pair in parts[n]]
        moments = [t for n in known for t in times[n]]
        found = record["splits"][name]
        assert found["fitted_on"] == known
        assert found["rows"] == len(rows)
        assert found["repeated"] == sum(n - 1 for n in Counter(rows).values())
        assert found["seen_pairs"] == pytest.approx(sum(pair in before for pair in rows) / len(rows))
        for place, side in enumerate(("user", "item")):
            met, own = {pair[place] for pair in before}, {pair[place] for pair in rows}
            cold = sum(pair[place] not in met for pair in rows) / len(rows)
            assert found[f"rows_of_cold_{side}s"] == pytest.approx(cold)
            assert found[f"cold_{side}s"] == pytest.approx(len(own - met) / len(own))
        late = [t < max(moments) for t in times[name]]
        assert record["order"]["older_than_the_latest_fitted"][name] == pytest.approx(np.mean(late))
        own_late = [any(u == user and t < moment for (u, _), moment in zip(before, moments, strict=True))
                    for (user, _), t in zip(rows, times[name], strict=True)]
        assert record["order"]["older_than_own_fitted"][name] == pytest.approx(np.mean(own_late))
    counts = Counter(item for _, item in set(parts["train"]))
    equal = [counts[a] == counts[b] for a, b in combinations(range(ITEMS), 2)]
    assert record["popularity"]["tied_pairs"] == pytest.approx(np.mean(equal))
    ordered = sorted((counts[i] for i in range(ITEMS)), reverse=True)
    assert record["popularity"]["tied_at_the_end_of_the_list"] == ordered.count(ordered[19])
    tested = {user for user, _ in parts["test"]}
    assert record["users"] == {"all": USERS, "in_train": USERS - 1, "without_test": USERS - len(tested)}


FAULTS: list[tuple[str, str, Any]] = [
    ("shared", "of the test rows are pairs of train and valid", lambda p: p["test"].append(p["train"][0])),
    ("repeated", "1 of the train rows repeat a pair", lambda p: p["train"].append(p["train"][0])),
    ("cold users", "of the test rows are of users without a row in train and valid", lambda p: p.update(
        {n: [pair for pair in p[n] if pair[0]] for n in ("train", "valid")})),
    ("cold items", "of the valid rows are of items without a row in train", lambda p: p.update(
        {"train": [pair for pair in p["train"] if pair[1]]})),
    ("users without test", "1 of 12 users have no test row", lambda p: p.update(
        {"test": [pair for pair in p["test"] if pair[0]]})),
    ("popular", "of the train rows go to the most popular 10% of the items", lambda p: p.update(
        {"train": [(u, i) for u in range(USERS) for i in (0, 1, 2) if (u, i) not in p["valid"] + p["test"]]
         + [(i % USERS, i) for i in range(3, ITEMS) if i % 5 == 0]})),
]


@pytest.mark.parametrize(("word", "fault"), [fault[1:] for fault in FAULTS], ids=[f[0] for f in FAULTS])
def test_every_fault_is_warned_of(word, fault):
    parts = clean()
    assert not warned(parts, word)
    fault(parts)
    assert warned(parts, word)


def test_later_days_are_warned_of():
    parts = clean()
    times = in_order(parts)
    assert not warned(parts, "older", times)
    times["train"][5] = 9.0
    assert warned(parts, "of the test rows are older than the latest row", times)
    assert warned(parts, "of the test rows are older than a row of the same user", times)


def test_judged_rows_count_as_test_rows_and_are_not_masked():
    parts = clean()
    parts["test_rejected"] = [pair for pair in parts["test"] if pair[0] % 2]
    parts["test"] = [pair for pair in parts["test"] if pair[0] % 2 == 0] + [parts["train"][0]]
    record = audit(made(parts))
    assert record["users"]["without_test"] == 0
    assert record["splits"]["test_rejected"]["fitted_on"] == ["train", "valid"]
    assert [w for w in record["warnings"] if "too: what was judged is known" in w]
    assert "test.dcg@5" in record["floors"]["popularity"]


def test_a_random_division_and_a_core_are_warned_of(tmp_path):
    rows = [f"{user},{item}" for user, item in (pair for pairs in clean().values() for pair in pairs)]
    (tmp_path / "rows.csv").write_text("\n".join(["user,item", *rows]))
    spec = {"dataset": "toy", "user": "user", "item": "item",
            "columns": [{"name": "user", "side": "user"}, {"name": "item", "side": "item"}],
            "split": {"method": "user", "user": "user", "random": True, "keys": ["user", "item"],
                      "last": {"valid": 2, "test": 2}},
            "interactions": {"user_core": 2, "item_core": 3}}
    data = prepare([tmp_path / "rows.csv"], DataSpec.parse(spec, "spec"), tmp_path / "out")
    found = " ".join(audit(data)["warnings"])
    assert "rows were held out at random" in found
    assert "users with fewer than 2 and items with fewer than 3 pairs were left out" in found


@pytest.mark.parametrize("late", [False, True])
def test_rows_of_one_moment_of_which_the_files_chose_are_warned_of(tmp_path, late):
    rows = [f"u{user},i{item},{min(item, 5) if user < 3 and late else item}"
            for user in range(12) for item in range(8)]
    (tmp_path / "rows.csv").write_text("\n".join(["user,item,at", *rows]))
    spec = {"dataset": "toy", "user": "user", "item": "item",
            "columns": [{"name": "user", "side": "user"}, {"name": "item", "side": "item"}],
            "split": {"method": "user", "user": "user", "column": "at", "last": {"valid": 1, "test": 1}},
            "interactions": {"time": "at"}}
    data = prepare([tmp_path / "rows.csv"], DataSpec.parse(spec, "spec"), tmp_path / "out")
    said = [warning for warning in audit(data)["warnings"] if "the order of the files decided" in warning]
    assert len(said) == 2 * late
    for warning, name in zip(said, ("valid", "test"), strict=False):
        assert warning.startswith(f"25.0% of the {name} rows have the moment of the user's latest row before")


def test_a_floor_whose_scores_are_no_numbers_is_named(monkeypatch, capsys):
    def broken(*args: Any) -> None:
        raise NotFinite("broken")

    monkeypatch.setattr("recsys_zoo.rankruns.measured", broken)
    assert floors(made(clean()), "toy") == []
    said = capsys.readouterr().out.splitlines()
    assert said == [f"no floor {name}: {name}: its scores on test are NaN or infinite; choose milder settings"
                    for name in ("popularity", "itemknn")]


def test_floors_are_those_of_runs_and_mark_what_does_not_clear_them(tmp_path):
    """The metrics of a run of the same model; an entry below the best one is marked."""
    data = made(clean())
    rows = floors(data, "toy", replicates=20)
    assert [(row.label, row.role, row.hparams) for row in rows] == [
        ("popularity", "floor", "none"), ("itemknn", "floor", "none")]
    for row in rows:
        cfg = RunConfig.parse({"model": {"name": row.label}, "board": "toy", "bootstrap": 20}, "run")
        again = train(cfg, data, tmp_path / row.label, say=lambda line: None)
        assert row.metrics == again.metrics
        assert (row.protocol, row.config_digest) == (again.protocol, again.config_digest)
    record = audit(data, floors=rows)
    assert set(record["floors"]) == {"popularity", "itemknn"}
    assert record["floors"]["itemknn"]["test.recall@20"] == rows[1].metrics["test.recall@20"]
    assert audit(data)["floors"] == record["floors"]
    save(record, file_beside(tmp_path / "rows.jsonl", data.data_digest, ""))
    assert read(file_beside(tmp_path / "rows.jsonl", data.data_digest, "")) == record
    best = max(row.metrics["test.recall@20"] for row in rows)
    highest = max(rows, key=lambda row: row.metrics["test.recall@20"]).label
    for name, value, below in (("mf", best + 0.01, ""), ("mf", best, highest), (highest, best, ""),
                               (highest, best - 0.01, highest)):
        metrics = {**rows[0].metrics, "test.recall@20": value}
        config = {"model": {"name": name}, "train": {"lr": 1.0}}
        model = rows[0].model_copy(update={
            "role": "model", "hparams": "default", "model": name, "config": config,
            "config_digest": config_digest(config), "metrics": metrics})
        ranking = rank([row.model_copy(update={"git": "1"}) for row in (model, *rows)], "test.recall@20")
        assert ranking.below(ranking.entries[0]) == below
        assert [entry.label for entry in ranking.entries] == [name]


def test_published_floors_are_fitted_on_both_and_a_floor_that_cannot_be_is_named(capsys):
    row = floors(made(clean()), "toy", replicates=0, protocol="published")[0]
    assert not any(name.startswith("valid.") for name in row.metrics)
    assert row.selection == "test"
    parts = clean()
    few = made({name: parts[name] for name in ("train", "test")})
    assert audit(few)["no_floors"] == ["no floors: they take train, valid and test"]
    assert audit(made(parts))["no_floors"] == []
    assert floors(few, "toy") == []
    assert "no floor popularity: toy: there is no split valid" in capsys.readouterr().out


@pytest.mark.parametrize("more", [{"label": "click"}, {"time": "at"}], ids=str)
def test_labels_and_time_columns_are_refused(more):
    with pytest.raises(InputError, match=r"toy: interactions have no label, .* leave out --label and --time"):
        audit(made(clean()), **more)
