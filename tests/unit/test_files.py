"""Whole files and folders: there or not there, whatever happens on the way."""

from __future__ import annotations

import errno
import hashlib
import multiprocessing
import os
import shutil
import signal

import pytest

from recsys_zoo.errors import InputError
from recsys_zoo.files import locked, restore, sha256_file, whole_folder, write_whole


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "sub" / "a.txt"
    write_whole(path, "one")
    write_whole(path, b"two")
    assert path.read_bytes() == b"two"
    assert sha256_file(path) == hashlib.sha256(b"two").hexdigest()
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_a_full_disk_keeps_the_old_file_and_says_so(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_whole(path, "old")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"a.txt: cannot write: No space left on device; free some space"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_appears_only_when_done(tmp_path):
    final = tmp_path / "out"
    with pytest.raises(InputError, match="half-way"):
        _build_half(final)
    assert list(tmp_path.iterdir()) == []
    for content in ("first", "second"):
        with whole_folder(final) as building:
            (building / content).write_text(content)
            assert not (final / content).exists()
        assert [p.name for p in final.iterdir()] == [content]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("name", [".", "..", "../out", "../../tmp"])
def test_a_folder_that_the_process_stands_in_is_not_replaced(tmp_path, monkeypatch, name):
    (tmp_path / "out" / "inner").mkdir(parents=True)
    (tmp_path / "out" / "kept").touch()
    monkeypatch.chdir(tmp_path / "out")
    name = name.replace("tmp", tmp_path.name)
    with pytest.raises(InputError, match="you are in this folder"), whole_folder(name):
        pytest.fail("nothing is built")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["inner", "kept", "out"]
    with whole_folder("inner"):  # below it is another matter
        pass


def test_a_file_or_folder_in_the_way(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="out: cannot write: File exists; choose another name"):
        _build_half(tmp_path / "file" / "out")
    with pytest.raises(InputError, match="folder: cannot write: Is a directory; choose another name"):
        write_whole(tmp_path / "folder", "text")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "folder"]


def _build_half(final):
    with whole_folder(final) as building:
        (building / "half").write_text("x")
        raise InputError("half-way")


def test_a_second_process_is_refused_at_once(tmp_path):
    with locked(tmp_path / "out"):
        child = multiprocessing.get_context("fork").Process(target=_try, args=(tmp_path / "out",))
        child.start()
        child.join()
    assert child.exitcode == 7
    with locked(tmp_path / "out"):  # free again
        pass


def _try(target):
    try:
        with locked(target):
            os._exit(0)
    except InputError as error:
        os._exit(7 if "another process is writing here" in str(error) else 1)


def test_a_killed_process_leaves_no_lock(tmp_path):
    child = multiprocessing.get_context("fork").Process(target=_die, args=(tmp_path / "out",))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    with locked(tmp_path / "out"):
        pass


def _die(target):
    with locked(target):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_kill_during_a_replacement_loses_nothing(tmp_path, renames):
    """Killed before the first rename, between the two, and after both."""
    final = tmp_path / "out"
    with whole_folder(final) as building:
        (building / "old").write_text("x")
    child = multiprocessing.get_context("fork").Process(target=_die_renaming, args=(final, renames))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    restore(final)
    assert [p.name for p in final.iterdir()] == (["new"] if renames == 2 else ["old"])
    with whole_folder(final) as building:
        (building / "third").write_text("x")
    assert [p.name for p in final.iterdir()] == ["third"]
    assert [p.name for p in tmp_path.iterdir() if p.suffix != ".lock"] == ["out"]


def _die_renaming(final, renames):
    replace, done = os.replace, []

    def counted(source, target):
        if len(done) == renames:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)
        done.append(target)

    with whole_folder(final) as building:
        (building / "new").write_text("x")
        os.replace = counted
        if renames == 2:
            shutil.rmtree = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)


def test_restoring_does_not_disturb_work_in_progress(tmp_path):
    final = tmp_path / "out"
    with whole_folder(final) as building:
        (building / "half").write_text("x")
        restore(final)
        assert (building / "half").exists()
        assert not final.exists()
    assert (final / "half").exists()
