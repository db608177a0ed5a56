"""The fixture for real data skips without data and fails when the named data is missing."""

from __future__ import annotations

import pytest


def test_data_dir(data_dir, monkeypatch, tmp_path):
    monkeypatch.setenv("RECSYS_ZOO_DATA", str(tmp_path))
    with pytest.raises(pytest.fail.Exception, match="has no folder 'frappe_x1'"):
        data_dir("frappe_x1")
    (tmp_path / "frappe_x1").mkdir()
    assert data_dir("frappe_x1") == tmp_path / "frappe_x1"
    monkeypatch.delenv("RECSYS_ZOO_DATA")
    with pytest.raises(pytest.skip.Exception, match="RECSYS_ZOO_DATA is not set"):
        data_dir("frappe_x1")
