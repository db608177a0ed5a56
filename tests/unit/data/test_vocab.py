"""Vocabularies: order, round trip, unknown, files."""

from __future__ import annotations

import hashlib
import re
from collections import Counter as Count
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_zoo.data import vocab
from recsys_zoo.data.vocab import Counter, Vocabulary
from recsys_zoo.errors import InputError

WRITTEN = st.sampled_from(["a", "b", "c", "", "1", "1.0", "0", "-0", "-0.0", "x.0"])
TEXTS = st.lists(st.one_of(st.none(), st.text(max_size=3), WRITTEN), max_size=40)


def canonical(text: str | None) -> str | None:
    """The text under which a vocabulary holds a value."""
    text = re.sub(r"(?s)^(-?[0-9]+)\.0\Z", r"\1", text or "")
    return {"": None, "-0": "0"}.get(text, text)


def _count(texts: list[str | None], size: int = 1000, min_count: int = 1) -> Vocabulary:
    counter = Counter()
    for start in range(0, len(texts), size):
        counter.add(pl.Series(texts[start:start + size], dtype=pl.String))
    return counter.finish(min_count)


@settings(max_examples=80, deadline=None)
@given(TEXTS, st.integers(1, 9), st.integers(1, 3))
def test_values_stand_in_falling_count_then_by_value(texts: list[str | None], size: int, min_count: int):
    table = Count(t for t in map(canonical, texts) if t is not None)
    kept = [v for v in table if table[v] >= min_count]
    expected = sorted(kept, key=lambda v: (-table[v], v.encode()))
    vocabulary = _count(texts, size, min_count)
    assert vocabulary.values.to_list() == expected
    assert vocabulary.counts.to_list() == [table[v] for v in expected]
    assert len(vocabulary) == len(expected) + 2


@settings(max_examples=80, deadline=None)
@given(TEXTS, TEXTS)
def test_known_values_come_back_and_others_are_unknown(known: list[str | None], asked: list[str | None]):
    vocabulary = _count(known)
    ids = vocabulary.encode(pl.Series([*known, *asked], dtype=pl.String))
    assert ids.dtype == np.int32
    back = vocabulary.decode(ids)
    held = set(map(canonical, known))
    for text, number, decoded in zip(map(canonical, [*known, *asked]), ids, back, strict=True):
        if text is not None and text in held:
            assert number >= 2
            assert decoded == text
        else:
            assert number == 1
            assert decoded is None


def test_counts_of_many_batches_are_merged():
    counter = Counter()
    for _ in range(3):
        counter.add(pl.int_range(70_000, eager=True).cast(pl.String))
    vocabulary = counter.finish(3)
    assert len(vocabulary) == 70_002
    assert set(vocabulary.counts) == {3}
    assert len(counter.finish(4)) == 2


def test_a_vocabulary_survives_its_file(tmp_path: Path):
    vocabulary = _count(["b", "a", "b", "ü", "|", " "])
    vocabulary.save(tmp_path / "v.parquet")
    again = Vocabulary.open(tmp_path / "v.parquet")
    assert again.values.to_list() == ["b", " ", "a", "|", "ü"]
    assert again.counts.to_list() == [2, 1, 1, 1, 1]
    assert again.digest() == vocabulary.digest()
    frame = pl.read_parquet(tmp_path / "v.parquet")
    assert frame.schema == {"value": pl.String, "id": pl.Int32, "count": pl.Int64}
    assert frame["id"].to_list() == [2, 3, 4, 5, 6]


def test_the_digest_sees_values_counts_and_their_borders():
    digests = {_count(texts).digest() for texts in
               (["a", "b"], ["a", "c"], ["a", "a", "b"], ["ab"], ["a1", "b"], [], ["a", "1b"])}
    assert len(digests) == 7
    assert _count(["ü", "b", "b"]).digest() == hashlib.sha256("1:b2;2:ü1;".encode()).hexdigest()


def test_an_empty_vocabulary_knows_nothing(tmp_path: Path):
    vocabulary = _count([])
    vocabulary.save(tmp_path / "v.parquet")
    assert Vocabulary.open(tmp_path / "v.parquet").encode(pl.Series(["a", None])).tolist() == [1, 1]
    assert vocabulary.decode(np.array([0, 1])) == [None, None]


def test_a_damaged_or_missing_file_is_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"v\.parquet: no such file"):
        Vocabulary.open(tmp_path / "v.parquet")
    _count(["a"] * 5).save(tmp_path / "v.parquet")
    content = (tmp_path / "v.parquet").read_bytes()
    (tmp_path / "v.parquet").write_bytes(content[:-6])
    with pytest.raises(InputError, match=r"v\.parquet: damaged"):
        Vocabulary.open(tmp_path / "v.parquet")
    pl.DataFrame({"value": ["a", "b"], "id": [3, 2], "count": [1, 1]}).write_parquet(tmp_path / "v.parquet")
    with pytest.raises(InputError, match=r"its ids are not 2, 3"):
        Vocabulary.open(tmp_path / "v.parquet")


def test_many_strangers_do_not_pile_up(monkeypatch):
    """Codes are begun again behind many unknown texts; ids stay those of a plain look-up."""
    monkeypatch.setattr(vocab, "_STRANGERS", 5)
    vocabulary = Vocabulary(pl.Series(["b", "a", "c"]), pl.Series([3, 2, 1]))
    known, made = {"b": 2, "a": 3, "c": 4}, []
    build = vocabulary._make_index
    monkeypatch.setattr(vocabulary, "_make_index", lambda: made.append(1) or build())
    for start in range(0, 60, 4):
        texts = [f"s{start + k}" for k in range(4)] + ["c", None, "a", "b"]
        assert vocabulary.encode(pl.Series(texts)).tolist() == [known.get(text, 1) for text in texts]
    assert 3 <= len(made) <= 8
