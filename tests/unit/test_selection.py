"""A row says by itself when its epoch was picked on the test rows."""

from __future__ import annotations

import pytest

from recsys_zoo import references
from recsys_zoo.data.prepare import prepare

from .data.tables import as_frame, toy_rows, toy_spec


@pytest.mark.parametrize(("valid", "selection"), [("test", "test"), ("other", "valid")])
def test_validation_rows_that_are_the_test_rows(tmp_path, valid, selection):
    """Told by the content of the splits, not by the names of their files."""
    for name, seed in (("train", 0), ("test", 1), ("other", 2)):
        as_frame(toy_rows(seed=seed)).write_parquet(tmp_path / f"{name}.parquet")
    (tmp_path / "valid.parquet").write_bytes((tmp_path / f"{valid}.parquet").read_bytes())
    files = {name: [tmp_path / f"{name}.parquet"] for name in ("train", "valid", "test")}
    data = prepare([], toy_spec(split={}), tmp_path / "out", split_files=files)
    assert {row.selection for row in references.floors(data, "toy", replicates=0)} == {selection}
