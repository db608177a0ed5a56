"""The summary names rows, rates, vocabularies and memory as they are."""

from __future__ import annotations

import numpy as np

from recsys_zoo.data.describe import describe, table_mib
from recsys_zoo.data.store import Prepared, Split
from recsys_zoo.schema import Column, Schema


def test_a_summary_by_hand():
    schema = Schema(dataset="d", labels=("y",), columns=(
        Column(name="big", kind="categorical", vocab_size=65536), Column(name="n", kind="numeric"),
        Column(name="tiny", kind="categorical", vocab_size=5)))
    split = Split(schema, np.zeros((8, 2)), np.zeros((8, 1)), np.arange(8) < 2)
    data = Prepared.in_memory(schema, {"train": split}, "0123456789abcdef")
    assert table_mib(data, dim=16) == 65541 * 16 * 4 / 2**20
    lines = describe(data, dim=16, largest=1).splitlines()
    assert lines[0] == "d: 3 columns, digest 0123456789ab"
    assert lines[1].split() == ["train", "8", "rows", "0.0", "MiB", "y", "25.00", "%", "positive"]
    assert lines[2].split() == ["big", "65,536", "vocabulary", "rows"]
    assert lines[3].split() == ["1", "smaller", "columns", "5", "vocabulary", "rows"]
    assert lines[4].startswith("  65,539 embedding rows to learn: 4.0 MiB at width 16, 16.0 with")
    assert len(lines) == 5
