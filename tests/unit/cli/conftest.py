"""The command line in one process, and a folder with the shop in it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from recsys_zoo import cli

from .shop import SPEC, shop


@pytest.fixture
def run(monkeypatch, capsys):
    """Call the command line: run("train", ...) -> (exit code, stdout, stderr)."""

    def call(*words) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["recsys-zoo", *map(str, words)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shop().write_csv("shop.csv")
    Path("shop.toml").write_text(SPEC)
    return tmp_path


@pytest.fixture
def prepared(folder, run):
    assert run("prepare", "shop.csv", "--schema", "shop.toml", "--out", "data")[0] == 0
    return folder
