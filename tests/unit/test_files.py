"""Whole files and folders: there or not there, whatever happens on the way."""

from __future__ import annotations

import errno
import hashlib
import multiprocessing
import os
import signal

import pytest

from recsys_zoo.errors import InputError
from recsys_zoo.files import locked, sha256_file, whole_folder, write_whole


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
