"""Downloads that survive a broken line: resumed, checked, and whole or not there."""

from __future__ import annotations

import hashlib
import http.client
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from recsys_zoo.errors import InputError
from recsys_zoo.files import disk_errors, locked, whole_folder

Progress = Callable[[int, int], None]  # bytes so far, bytes in all (0: the server does not say)

_CHUNK = 1 << 16
_BROKEN_LINE = (OSError, http.client.HTTPException)  # URLError and TimeoutError are OSErrors
_WORTH_RETRYING = (408, 425, 429, 500, 502, 503, 504)


def download(url: str, target: Path, *, md5: str = "", progress: Progress | None = None, attempts: int = 5,
             wait: Callable[[float], None] = time.sleep, timeout_s: float = 60.0) -> Path:
    """Fetch `url` into the file `target`, or leave a file of that name alone whose checksum fits.

    Bytes gather in `target`.part, which a later call goes on with when there is an md5 to check the whole.
    InputError after `attempts` tries in a row that bring nothing new; `wait` gets 1, 2, 4, ... s in between.
    """
    target = Path(target)
    with locked(target), disk_errors(target):
        if target.is_file() and (not md5 or file_md5(target) == md5):
            return target
        transfer = _Transfer(url, target.with_name(f"{target.name}.part"), bool(md5), progress, timeout_s)
        if not (md5 and transfer.size() and file_md5(transfer.part) == md5):
            transfer.complete(attempts, wait)
        found = file_md5(transfer.part)
        if md5 and found != md5:
            transfer.part.unlink()
            raise InputError(f"{url}: the file that came has md5 {found} instead of {md5} and was removed; "
                             "try again, or fetch the files by hand and use --raw DIR")
        transfer.part.replace(target)
    return target


class _Failed(Exception):
    def __init__(self, reason: str, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


class _Transfer:
    """One file on its way, over as many connections as it takes."""

    def __init__(self, url: str, part: Path, checked: bool, progress: Progress | None,
                 timeout_s: float) -> None:
        self.url, self.part, self.checked, self.timeout_s = url, part, checked, timeout_s
        self.progress = progress or (lambda *_: None)
        self.version = ""  # ETag or date that the bytes in `part` belong to
        if not checked:  # of which version of the file an old part is, nobody could tell
            part.unlink(missing_ok=True)

    def size(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def complete(self, attempts: int, wait: Callable[[float], None]) -> None:
        """Connect until the file is complete or `attempts` connections in a row brought nothing new."""
        failures, furthest = 0, self.size()
        while True:
            try:
                return self._go()
            except _Failed as failed:
                failures = 1 if self.size() > furthest else failures + 1
                furthest = max(furthest, self.size())
                if failed.final or failures >= attempts:
                    raise InputError(self._sentence(failed)) from None
                wait(2.0 ** (failures - 1))

    def _go(self) -> None:
        start = self.size()
        with self._connect(start) as reply:
            self.version = reply.headers.get("ETag") or reply.headers.get("Last-Modified") or ""
            start = start if _continues(reply, start) else 0
            length = reply.headers.get("Content-Length")
            self._receive(reply, start, start + int(length) if length else 0)

    def _connect(self, start: int) -> http.client.HTTPResponse:
        try:
            return urllib.request.urlopen(self._request(start), timeout=self.timeout_s)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416 and start:  # the part on disk is no beginning of the file: begin anew
                self.part.unlink()
                raise _Failed("the server does not know the part that is on disk") from None
            raise _Failed(f"HTTP {error.code} {error.reason}", error.code not in _WORTH_RETRYING) from None
        except _BROKEN_LINE as error:
            raise _Failed(_reason(error)) from None

    def _request(self, start: int) -> urllib.request.Request:
        headers = {"User-Agent": "recsys-zoo"}
        if start:
            headers["Range"] = f"bytes={start}-"
            if self.version and not self.version.startswith("W/"):
                headers["If-Range"] = self.version
        try:
            return urllib.request.Request(self.url, headers=headers)
        except ValueError as error:
            raise _Failed(str(error), final=True) from None

    def _receive(self, reply: http.client.HTTPResponse, start: int, total: int) -> None:
        with open(self.part, "ab" if start else "wb") as file:
            done = start
            while True:
                try:
                    block = reply.read(_CHUNK)
                except _BROKEN_LINE as error:
                    raise _Failed(_reason(error)) from None
                if not block:
                    break
                file.write(block)
                done += len(block)
                self.progress(done, total)
        if total and done < total:
            raise _Failed(f"the connection broke off after {done:,} of {total:,} bytes")

    def _sentence(self, failed: _Failed) -> str:
        way_out = "fetch the files by hand and use --raw DIR"
        if self.checked and self.size():
            way_out = f"{self.size():,} bytes are kept and the same command goes on from there, or {way_out}"
        return f"{self.url}: cannot be downloaded ({failed}); {way_out}"


def _continues(reply: http.client.HTTPResponse, start: int) -> bool:
    """Whether the reply begins at `start`; a server without ranges sends the whole file with status 200."""
    if reply.status != 206:
        return False
    if not reply.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        raise _Failed("the server sent another range than was asked for", final=True)
    return start > 0


def _reason(error: BaseException) -> str:
    inner = getattr(error, "reason", error)
    return " ".join(str(inner).split()) or type(inner).__name__


def file_md5(path: Path) -> str:
    """MD5 of a file's bytes, as 32 hex digits; publishers of data sets still give this one."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def unpack(archive: Path, members: Sequence[str], folder: Path) -> None:
    """Take the files of these names out of a zip (from whatever folder inside) into `folder`, all or none."""
    try:
        with zipfile.ZipFile(archive) as opened:
            inside = {PurePosixPath(name).name: name for name in opened.namelist() if not name.endswith("/")}
            missing = [member for member in members if member not in inside]
            if missing:
                raise InputError(f"{archive}: does not hold {missing[0]}; it is not the expected archive")
            with whole_folder(folder) as building:
                for member in members:
                    (building / member).write_bytes(opened.read(inside[member]))
    except (zipfile.BadZipFile, EOFError) as error:
        raise InputError(f"{archive}: not a whole zip file ({error}); remove it and try again") from None


def terminal_progress() -> Progress | None:
    """A line that counts up on a terminal; None when the output is no terminal."""
    if not sys.stderr.isatty():
        return None
    last = [0.0]

    def show(done: int, total: int) -> None:
        now = time.monotonic()
        if now - last[0] > 0.2 or done == total:
            last[0] = now
            of = f" of {total / 2**20:.1f} ({100 * done / total:.0f} %)" if total else ""
            end = "\n" if done == total else ""
            print(f"\r{done / 2**20:.1f}{of} MiB", end=end, file=sys.stderr, flush=True)
    return show
