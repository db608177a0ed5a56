"""Files and folders that are either whole or not there: temporary name first, then a rename."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from .errors import Busy, InputError

_LOOK_S = 0.05  # between two looks at a lock that another process holds
_NEW, _OLD = "~new~", "~old~"  # in the names of folders that are being built, or moved away
_IN_THE_WAY = (errno.ENOTDIR, errno.EEXIST, errno.EISDIR)  # a file where a folder is needed, or a folder


@contextlib.contextmanager
def disk_errors(target: Path) -> Iterator[None]:
    """Turn a full disk, a read-only place and the like into one sentence about `target`."""
    try:
        yield
    except OSError as error:
        if error.errno not in (
            errno.ENOSPC,
            errno.EDQUOT,
            errno.EACCES,
            errno.EROFS,
            errno.EFBIG,
            errno.ENOENT,
            *_IN_THE_WAY,
        ):
            raise
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        way_out = "free some space or choose another folder" if full else "choose one that can be written"
        way_out = "choose another name" if error.errno in _IN_THE_WAY else way_out
        raise InputError(f"{target}: cannot write: {os.strerror(error.errno)}; {way_out}") from None


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file under a temporary name in its folder, flush it to disk, then rename it into place."""
    with whole_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file under a temporary name; on success it replaces `path`, on any error it is removed."""
    path = Path(path)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        try:
            with open(name, "wb") as file:  # by its name, which libraries want that write files themselves
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def whole_folder(final: Path) -> Iterator[Path]:
    """Yield an empty folder beside `final`; on success it replaces `final`, on any error it is removed.

    One process at a time may build the same folder: a second one gets InputError at once. What a killed
    process left is cleared by the next one; a kill between the two renames of a replacement loses nothing.
    InputError when this process stands in `final`, whose renaming moves what relative paths start from.
    """
    final = Path(final)
    if Path.cwd().is_relative_to(final.resolve()):
        raise InputError(f"{final}: you are in this folder, which is replaced as a whole; leave it first")
    with disk_errors(final):
        final.parent.mkdir(parents=True, exist_ok=True)
    with locked(final), disk_errors(final):
        _clear_leftovers(final)
        building = Path(tempfile.mkdtemp(prefix=f".{final.name}{_NEW}", dir=final.parent))
        os.chmod(building, 0o755)
        try:
            yield building
            if final.exists():
                old = Path(tempfile.mkdtemp(prefix=f".{final.name}{_OLD}", dir=final.parent))
                os.replace(final, old / "old")
                os.replace(building, final)
                shutil.rmtree(old)
            else:
                os.replace(building, final)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise


def _clear_leftovers(final: Path) -> None:
    """Remove what killed processes left beside `final`, whose lock is held; put a moved-away folder back."""
    for path in final.parent.glob(f".{glob.escape(final.name)}{_OLD}*"):
        if not final.exists() and (path / "old").exists():
            os.replace(path / "old", final)
        shutil.rmtree(path, ignore_errors=True)
    for path in final.parent.glob(f".{glob.escape(final.name)}{_NEW}*"):
        shutil.rmtree(path, ignore_errors=True)


def restore(final: Path) -> None:
    """Put back a folder that a kill between two renames left moved away, where nobody is at work on it."""
    final = Path(final)
    if not final.exists() and any(final.parent.glob(f".{glob.escape(final.name)}{_OLD}*")):
        with locked(final):
            _clear_leftovers(final)


@contextlib.contextmanager
def locked(target: Path, wait_s: float = 0.0) -> Iterator[None]:
    """Hold a lock on `target` (a file beside it); Busy when another process holds it for `wait_s` seconds.

    The lock is the kernel's, so a killed process leaves none behind.
    """
    path, until = target.parent / f".{target.name}.lock", time.monotonic() + wait_s
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        while (file := _lock(path)) is None and time.monotonic() < until:
            time.sleep(_LOOK_S)
    if file is None:
        raise Busy(f"{target}: another process is writing here; wait for it or choose another folder")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        file.close()


def _lock(path: Path) -> IO[str] | None:
    """The locked file, or None when it is held; a lock on a file that was just removed does not count."""
    while True:
        file = open(path, "w")  # noqa: SIM115 - held open for the life of the lock
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        if path.exists() and os.path.samestat(os.stat(path), os.fstat(file.fileno())):
            return file
        file.close()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
