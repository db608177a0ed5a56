"""The audit against loops over small splits, and on splits with one fault each."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from recsys_zoo import audit as auditing
from recsys_zoo.audit import audit, row_keys
from recsys_zoo.data.store import Prepared, Split
from recsys_zoo.errors import InputError
from recsys_zoo.schema import Column, Schema

SCHEMA = Schema(
    dataset="shop",
    labels=("click",),
    user="user",
    item="item",
    columns=(
        Column(name="user", kind="categorical", side="user", vocab_size=9),
        Column(name="item", kind="categorical", side="item", vocab_size=7),
        Column(name="day", kind="numeric"),
        Column(name="tags", kind="bag", vocab_size=5, max_len=2),
    ),
)
ROWS = {"train": 400, "valid": 150, "test": 120}


def splits(seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
    """Random rows; users and items from 2 on, the first day of the later splits is the last one of train."""
    rng, found = np.random.default_rng(seed), {}
    for place, (name, rows) in enumerate(ROWS.items()):
        ids = np.stack([rng.integers(2, 9, rows), rng.integers(2, 7, rows)], 1)
        tags = rng.integers(0, 5, (rows, 2))
        found[name] = {
            "ids": np.concatenate([ids, tags], 1).astype(np.int32),
            "numeric": (10 * place + rng.integers(0, 10, (rows, 1))).astype(np.float32),
            "labels": (rng.random(rows) < 0.4).astype(np.float32),
        }
    return found


def prepared(parts: dict[str, dict[str, np.ndarray]]) -> Prepared:
    return Prepared.in_memory(SCHEMA, {name: Split(SCHEMA, **arrays) for name, arrays in parts.items()})


def rows_of(arrays: dict[str, np.ndarray]) -> list[tuple]:
    return [(*ids, *numbers) for ids, numbers in zip(arrays["ids"], arrays["numeric"], strict=True)]


def copy_rows(parts, source: str, target: str, count: int) -> None:
    for name in ("ids", "numeric", "labels"):
        parts[target][name][:count] = parts[source][name][:count]


def test_shares_equal_loops():
    parts = splits()
    copy_rows(parts, "train", "test", 30)
    parts["test"]["labels"][:6] = 1 - parts["test"]["labels"][:6]
    record = audit(prepared(parts))
    train = rows_of(parts["train"])
    majority = {}
    for row, label in zip(train, parts["train"]["labels"], strict=True):
        majority.setdefault(row, []).append(label)
    for name, arrays in parts.items():
        rows, labels, found = rows_of(arrays), arrays["labels"], record["splits"][name]
        assert found["rows"] == len(rows)
        assert found["positive_rate"] == pytest.approx(labels.mean())
        assert found["repeated"] == pytest.approx(np.mean([rows.count(row) > 1 for row in rows]))
        tied = [a == b for (a, x), (b, y) in itertools.product(zip(rows, labels), repeat=2) if x > y]  # noqa: B905
        assert found["tied_pairs"] == pytest.approx(np.mean(tied))
        rates = [np.mean([y for other, y in zip(rows, labels) if other == row]) for row in rows]  # noqa: B905
        assert found["auc_ceiling"] == pytest.approx(roc_auc_score(labels, rates))
        if name != "train":
            shared = [row in majority for row in rows]
            known = [(majority[row], y) for row, y in zip(rows, labels, strict=True) if row in majority]
            same = [(np.mean(before) > 0.5) == (y > 0.5) for before, y in known]
            assert found["in_train"] == pytest.approx(np.mean(shared))
            assert found["in_train_same_label"] == (pytest.approx(np.mean(same)) if same else None)
    assert record["splits"]["test"]["in_train"] >= 0.25
    assert any("test rows have the inputs of a train row" in warning for warning in record["warnings"])


def test_rates_of_columns_and_pairs_equal_loops():
    parts = splits(3)
    record = audit(prepared(parts))
    base = parts["train"]["labels"].mean()
    single = [((c["column"],), c["valid_auc"]) for c in record["columns"] if "valid_auc" in c]
    assert len(single) == 2
    for columns, found in [*single, *((p["columns"], p["auc"]) for p in record["pairs"])]:
        places = [["user", "item"].index(name) for name in columns]
        held: dict[tuple, list[float]] = {}
        for ids, label in zip(parts["train"]["ids"], parts["train"]["labels"], strict=True):
            held.setdefault(tuple(ids[places]), []).append(label)
        scores = []
        for ids in parts["valid"]["ids"]:
            seen = held.get(tuple(ids[places]), [])
            scores.append((sum(seen) + base) / (len(seen) + 1))
        assert found == pytest.approx(roc_auc_score(parts["valid"]["labels"], scores), abs=1e-6)
    assert {c["column"] for c in record["columns"]} == {"user", "item", "tags"}
    assert [p["columns"] for p in record["pairs"]] == [["user", "item"]]


def test_a_pair_that_gives_the_label_away_is_named():
    parts = splits(1)
    for arrays in parts.values():  # each (user, item) always has the same label
        arrays["labels"] = ((arrays["ids"][:, 0] * 3 + arrays["ids"][:, 1]) % 5 < 2).astype(np.float32)
    record = audit(prepared(parts))
    assert record["pairs"][0]["determined"] > 0.9
    assert record["pairs"][0]["determined_right"] == 1
    assert any("user and item determine the label of" in warning for warning in record["warnings"])
    assert "counting alone (pair_memory)" in record["warnings"][-1]
    assert not any("determine" in warning for warning in audit(prepared(splits(1)))["warnings"])


def test_a_column_that_gives_the_label_away_is_named_once():
    parts = splits(1)
    for arrays in parts.values():  # each user always has the same label, and pairs with it say no more
        arrays["labels"] = (arrays["ids"][:, 0] % 2 == 0).astype(np.float32)
    said = [warning for warning in audit(prepared(parts))["warnings"] if "determine" in warning]
    assert len(said) == 1
    assert said[0].startswith("user determines the label of")


def test_a_column_that_is_the_label_is_named():
    parts = splits(2)
    for arrays in parts.values():
        arrays["ids"][:, 1] = 2 + arrays["labels"].astype(int)
    assert "column 'item' alone gives valid AUC 1.0000" in audit(prepared(parts))["warnings"][0]


def test_unknown_users_classes_and_missing_values():
    parts = splits(4)
    parts["test"]["ids"][:60, 0] = 1
    parts["test"]["ids"][:, 2:] = 0
    parts["valid"]["labels"][:60] = 1
    record = audit(prepared(parts))
    columns = {c["column"]: c for c in record["columns"]}
    assert columns["user"]["unknown"] == {"train": 0, "valid": 0, "test": 0.5}
    assert columns["tags"]["missing"]["test"] == 1
    assert any("50.0% of the test rows have users without a train row" in w for w in record["warnings"])
    assert any(w.startswith("valid has 0.") and "positives, train 0." in w for w in record["warnings"])


def test_time_says_how_far_train_reaches():
    parts = splits(5)
    order = audit(prepared(parts), time="day")["order"]
    assert order["before_the_latest_train_row"] == {"valid": 0, "test": 0}
    parts["train"]["numeric"][7] = 25.0  # a row in the middle of test
    record = audit(prepared(parts), time="day")
    expected = float((parts["test"]["numeric"] < 25).mean())
    assert record["order"]["before_the_latest_train_row"] == {"valid": 1, "test": pytest.approx(expected)}
    assert any("test rows are older than the latest train row" in warning for warning in record["warnings"])
    with pytest.raises(InputError, match=r"no numeric column named 'dya'; did you mean \['day'\]"):
        audit(prepared(parts), time="dya")


def test_keys_tell_rows_apart_and_do_not_depend_on_blocks(monkeypatch):
    split = prepared(splits(6)).split("train")
    keys = row_keys(split)
    rows = rows_of({"ids": split.ids, "numeric": split.numeric})
    assert len(set(keys.tolist())) == len(set(rows))
    monkeypatch.setattr(auditing, "_BLOCK", 7)
    assert np.array_equal(row_keys(split), keys)
    zeros = [Split(SCHEMA, split.ids, split.numeric * 0 * sign, split.labels) for sign in (1, -1)]
    assert np.array_equal(*map(row_keys, zeros))


def test_pairs_are_counted_on_a_sample_of_large_data(monkeypatch):
    whole = audit(prepared(splits(7)))["pairs"]
    monkeypatch.setattr(auditing, "SAMPLE", 100)
    assert audit(prepared(splits(7)))["pairs"] != whole
    assert audit(prepared(splits(7))) == audit(prepared(splits(7)))


def test_a_record_is_written_and_read(tmp_path):
    record = audit(prepared(splits(8)))
    auditing.save(record, tmp_path / "audit.json")
    assert auditing.read(tmp_path / "audit.json") == record
    with pytest.raises(InputError, match=r"none\.json: no such audit"):
        auditing.read(tmp_path / "none.json")
    for text in ("{", "[]", '{"format": 0}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(InputError, match=r"bad\.json: not an audit"):
            auditing.read(tmp_path / "bad.json")


def test_data_without_valid_are_refused():
    with pytest.raises(InputError, match="no split named 'valid'"):
        audit(prepared({"train": splits()["train"]}))
