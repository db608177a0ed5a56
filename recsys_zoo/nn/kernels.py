"""C++ kernels for the CPU, compiled at first use for the shape and processor at hand, kept in a cache folder.

They are off until a training switches them on (`train.kernels`); where there is no compiler, or a shape or
device is not theirs, torch operations do the same work.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import itertools
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError
from ..files import sha256_file, write_whole

enabled = False
called = False  # whether a kernel has run since a run began (`forget`)
_FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-std=c++17", "-shared", "-fPIC")
_ROWS_A_THREAD = 128  # fewer are not worth a thread
_NUMBERS_A_THREAD = 1 << 18  # the same, where a row is only read or moved: to wake a thread takes 0.1 ms
_GROUP = 4  # vectors of columns that native/columns.h takes together; fewer: rows read in pieces too short
# numbers in a vector of the kernels (native/vectors.h), as many as the widest registers hold
LANES = {"AVX512": 16, "AVX2": 8}.get(torch.backends.cpu.get_cpu_capability(), 4)


def compiler() -> str | None:
    """The C++ compiler: CXX of the environment, else the first of c++, g++, clang++ on the path."""
    return next(filter(None, map(shutil.which, (os.environ.get("CXX") or "c++", "g++", "clang++"))), None)


def cache_folder() -> Path:
    """Where compiled kernels are kept: RECSYS_ZOO_CACHE, else recsys_zoo in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("RECSYS_ZOO_CACHE") or Path(base, "recsys_zoo"))


def enable() -> str:
    """Switch the kernels on if a small one can be compiled and loaded; else the reason in a few words."""
    global enabled
    reason = missing("field_attention", FIELDS=1, HEADS=1, SIZE=1, BLOCKS=3, RELU=0)
    enabled = not reason
    return reason


def forget() -> None:
    """A run begins: no kernel has run for it."""
    global called
    called = False


def disable() -> None:
    """Leave the work to torch operations."""
    global enabled
    enabled = False


def takes(x: Tensor) -> bool:
    """Whether kernels are on and x is theirs: float32 on a CPU."""
    exporting = torch.compiler.is_exporting()  # an exported program runs where this package is not
    return enabled and not exporting and x.device.type == "cpu" and x.dtype == torch.float32


def built(name: str, **macros: int) -> bool:
    """Whether the kernel can be had; if not, all are off from here on, and a warning says why."""
    if torch.compiler.is_compiling():
        return True
    reason = missing(name, **macros)
    if reason:
        disable()
        warnings.warn(
            f"kernels are off from here on: {reason}; torch operations do their work, slower and with other "
            "rounding and dropout",
            stacklevel=4,
        )
    return not reason


def missing(name: str, **macros: int) -> str:
    """Why this kernel cannot be had, in a few words; empty when it can."""
    try:
        library(name, **macros)
    except subprocess.CalledProcessError as error:
        return f"the compiler failed: {(error.stderr.strip().splitlines() or ['it said nothing'])[0][:200]}"
    except (OSError, InputError, RuntimeError) as error:  # no compiler, a full disk, a user without a home
        return str(error)
    return ""


@functools.cache
def library(name: str, **macros: int) -> ctypes.CDLL:
    """The kernel compiled with these macros, from the cache folder where it is there.

    CalledProcessError, OSError, InputError or RuntimeError when it cannot be compiled, kept or loaded.
    """
    source, tool = Path(__file__).parent / "native" / f"{name}.cpp", compiler()
    if tool is None:
        raise RuntimeError("no C++ compiler here")
    options = [*_FLAGS, f"-DLANES={LANES}", *(f"-D{key}={value}" for key, value in macros.items())]
    sources = b"".join(path.read_bytes() for path in (source, *sorted(source.parent.glob("*.h"))))
    text = sources + "\n".join([*options, tool, _processor()]).encode()
    path = cache_folder() / f"{name}-{hashlib.sha256(text).hexdigest()[:16]}.so"
    if not _is_whole(path):
        _compile([tool, *options, str(source)], path)
    return ctypes.CDLL(str(path))


def _is_whole(path: Path) -> bool:
    """Whether the file has the SHA-256 written beside it: loading half a library ends the process."""
    beside = path.with_suffix(".sha256")
    return path.is_file() and beside.is_file() and beside.read_text(encoding="utf-8") == sha256_file(path)


def _compile(command: list[str], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        built = Path(folder, path.name)
        subprocess.run([*command, "-o", str(built)], check=True, capture_output=True, text=True)
        write_whole(path.with_suffix(".sha256"), sha256_file(built))
        os.replace(built, path)


def _processor() -> str:
    """What -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    facts = {line for line in lines if line.startswith(("flags", "Features", "model name"))}
    return "\n".join([platform.machine(), platform.processor(), *sorted(facts)])


@functools.cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """One a process: the threads of a pool do not survive a fork."""
    return ThreadPoolExecutor(threads)


def rows_a_thread(numbers: int) -> int:
    """How many rows are worth a thread where each only reads or moves so many numbers."""
    return max(1, _NUMBERS_A_THREAD // max(1, numbers))


def over_rows(
    rows: int,
    part: Callable[[int, int], object],
    least: int = _ROWS_A_THREAD,
    until: Tensor | None = None,
) -> None:
    """part(first, last) over consecutive parts of 0..rows, in as many threads as torch has.

    Each takes about `least` or more. until [rows + 1]: the work before each row and all of it, where rows
    differ much; parts then have equal work. They run side by side because ctypes gives the interpreter's lock
    away during a call. A part must not call it itself: it would wait for its own thread.
    """
    global called
    called = True
    threads = max(1, min(torch.get_num_threads(), rows // least))
    if threads == 1:
        part(0, rows)
        return
    bounds = [rows * i // threads for i in range(threads + 1)]
    if until is not None:
        shares = torch.tensor([int(until[-1]) * i // threads for i in range(1, threads)])
        bounds[1:-1] = torch.searchsorted(until, shares).clamp(max=rows).tolist()
    pool, (first, *others) = _pool(threads - 1, os.getpid()), itertools.pairwise(bounds)
    begun = [pool.submit(part, *ends) for ends in others]
    try:
        part(*first)  # here: a thread less to wake
    finally:
        wait(begun)
    for one in begun:
        one.result()


def over_columns(
    function: Callable[..., object], tensors: tuple[Tensor, ...], settings: tuple[object, ...]
) -> None:
    """A function of a kernel over vectors of columns of its tensors, of which the first is [B, width].

    Threads get whole groups of vectors: a vector without a group is rounded by other instructions.
    """
    rows, width = tensors[0].shape
    given = (*(ctypes.c_void_p(t.data_ptr()) for t in tensors), ctypes.c_int64(rows), ctypes.c_int64(width))
    vectors = -(-width // LANES)

    def part(first: int, last: int) -> None:
        ends = (ctypes.c_int64(min(group * _GROUP, vectors)) for group in (first, last))
        function(*given, *ends, *settings)

    least = -(-_ROWS_A_THREAD // (max(rows, 1) * _GROUP))
    over_rows(-(-vectors // _GROUP), part, least)


def seed(rate: float = 1.0) -> Tensor:
    """int64 [1] for the dropout of one call, from torch's generator; without dropout that stays as it is."""
    return torch.randint(2**62, (1,)) if rate else torch.zeros(1, dtype=torch.int64)


def dropout_settings(seed: Tensor, rate: float) -> tuple[object, ...]:
    """The last arguments of a kernel with dropout (native/dropout.h)."""
    return ctypes.c_uint64(int(seed)), ctypes.c_uint32(round(rate * 2**32)), ctypes.c_float(1 / (1 - rate))
