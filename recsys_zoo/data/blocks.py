"""Text files as blocks of whole records, a few MiB each, plain or compressed."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..errors import InputError

_SIZE = 3 << 20  # bytes of a block; some twenty-five times as much memory is at work
_LONGEST = 64 << 20  # bytes of a record, beyond which a quote was never closed
_MARK = b"\xef\xbb\xbf"  # with which some programs begin UTF-8


def text_blocks(
    path: Path, header: bool, quotes: bool = True, size: int | None = None, before: bytes = b""
) -> Iterator[bytes] | None:
    """The bytes of a text file cut where a record (without quotes: a line) ends; None for .zst and .zlib.

    header: the first record, and blank lines before it, are left out. size: bytes read at a time, 3
    MiB unless told. before: what each block begins with. InputError for a record longer than 64 MiB; OSError,
    EOFError for a damaged .gz.
    """
    with open(path, "rb") as file:
        start = file.read(4)
    if start[:2] == b"\x1f\x8b":
        return _blocks(gzip.open(path), path, header, quotes, size or _SIZE, before)
    if start == b"\x28\xb5\x2f\xfd" or start[:2] in (b"\x78\x01", b"\x78\x9c", b"\x78\xda"):
        return None
    return _blocks(open(path, "rb"), path, header, quotes, size or _SIZE, before)


def _blocks(
    file: BinaryIO, path: Path, header: bool, quotes: bool, size: int, before: bytes
) -> Iterator[bytes]:
    with file:
        room = bytearray(file.read(len(_MARK)).removeprefix(_MARK))
        held = len(room)  # bytes of it in use; one piece of memory for all reads, as new memory takes time
        while True:
            room.extend(bytes(max(0, held + size - len(room))))
            with memoryview(room) as whole, whole[held : held + size] as free:
                got = file.readinto(free)
            if not got:
                break
            held += got
            if header:
                left = room[:held].lstrip(b"\r\n")
                start = _next_end(left, quotes)
                header = start < 0
                held = _keep(room, left if header else left[start:])
            end = 0 if header else _last_end(room, held, quotes)
            if end:
                yield _joined(before, room, end)
                held = _keep(room, room[end:held])
            elif held > _LONGEST:
                raise InputError(f"{path}: a record has over {_LONGEST >> 20} MiB; is a quote not closed?")
        if held and not header:
            yield _joined(before, room, held)


def _joined(before: bytes, room: bytearray, end: int) -> bytes:
    with memoryview(room) as whole, whole[:end] as block:
        return b"".join((before, block))


def _keep(room: bytearray, left: bytearray) -> int:
    """Put these bytes at the start of the room; returns how many they are."""
    room[: len(left)] = left
    return len(left)


def first_record(block: bytes) -> bytes:
    """The first record of a block that is not a blank line."""
    block = block.lstrip(b"\r\n")
    end = _next_end(block, quotes=True)
    return block if end < 0 else block[:end]


def _next_end(data: bytes | bytearray, quotes: bool) -> int:
    """Where the first record ends, behind its newline; -1 when it does not."""
    end = data.find(b"\n") + 1
    while end and quotes and data.count(b'"', 0, end) % 2:
        end = data.find(b"\n", end) + 1
    return end or -1


def _last_end(data: bytearray, stop: int, quotes: bool) -> int:
    """Where the last whole record before `stop` ends, 0 when none does; a newline in quotes ends none."""
    end = data.rfind(b"\n", 0, stop) + 1
    if data.find(b'"', 0, end) < 0:  # much faster than to count them
        return end
    odd = quotes and data.count(b'"', 0, end) % 2
    while odd and end:  # what follows the last quote is inside of it
        before = data.rfind(b"\n", 0, data.rfind(b'"', 0, end)) + 1
        odd = (odd + data.count(b'"', before, end)) % 2
        end = before
    return end
