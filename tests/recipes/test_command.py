"""`python -m data_prep`: listing, exit codes, and the download of a whole recipe."""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path

import pytest

import data_prep.download
from data_prep import RECIPES, run_recipe
from data_prep.__main__ import main
from recsys_zoo.errors import InputError

from .test_movielens_1m import small_recipe, tables, write_dat


def test_list_names_terms_and_sources(capsys):
    assert main(["--list"]) == 0
    out = capsys.readouterr().out
    for recipe in RECIPES.values():
        assert f"{recipe.name}: {recipe.title}" in out
        assert recipe.terms in out
        assert recipe.by_hand in out
    assert "202,027" in out
    assert "https://files.grouplens.org/datasets/movielens/ml-1m.zip (md5 c4d9eecf" in out


def test_misspelt_name(capsys):
    assert main(["frape_x1", "--raw", "."]) == 2
    assert "no data recipe named 'frape_x1'; did you mean ['frappe_x1'" in capsys.readouterr().err


def test_no_name(capsys):
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 2
    assert "name a data set, or use --list" in capsys.readouterr().err


def test_bad_input_is_one_line_and_code_two(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("RECSYS_ZOO_PREPARED", str(tmp_path / "prepared"))
    assert main(["movielens_1m", "--raw", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {tmp_path}: holds neither ratings.dat nor interactions.parquet")
    assert err.count("\n") == 1


def test_download_unpacks_and_prepares(tmp_path, monkeypatch):
    """With the download replaced by a zip written here; the second time nothing is fetched."""
    small, fetched, said = small_recipe(), [], []

    def fake(url: str, target: Path, *, md5: str, progress: object) -> Path:
        fetched.append((url, md5))
        folder = write_dat(tmp_path / "source", tables())
        target.parent.mkdir(parents=True)
        with zipfile.ZipFile(target, "w") as archive:
            for path in folder.iterdir():
                archive.write(path, f"ml-1m/{path.name}")
        return target

    monkeypatch.setattr(data_prep.download, "download", fake)
    source = small.sources[0]
    one = run_recipe(small, None, tmp_path / "prepared" / "movielens_1m", say=said.append)
    assert fetched == [(source.url, source.md5)]
    assert (tmp_path / "prepared" / "downloads" / "movielens_1m" / "ratings.dat").is_file()
    assert any(f"downloading {source.url} (md5 {source.md5}" in line for line in said)
    two = run_recipe(small, None, tmp_path / "prepared" / "again", say=said.append)
    assert len(fetched) == 1
    assert two.data_digest == one.data_digest


def test_a_source_without_checksum_says_so(tmp_path, monkeypatch):
    def fail(*_, **__) -> Path:
        raise InputError("stopped here")

    monkeypatch.setattr(data_prep.download, "download", fail)
    small = small_recipe()
    source = dataclasses.replace(small.sources[0], md5="")
    said = []
    with pytest.raises(InputError, match="stopped here"):
        run_recipe(dataclasses.replace(small, sources=(source,)), None, tmp_path / "out", say=said.append)
    assert said[-1] == f"downloading {source.url} (no checksum published here)"
