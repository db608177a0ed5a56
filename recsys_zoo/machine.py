"""Facts of this machine, process and checkout that go into a row."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import resource
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import torch

_GROUPS = Path("/sys/fs/cgroup")


def device_name(asked: str) -> str:
    """What a training with this setting runs on."""
    if asked != "cpu" and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return "cpu"


@functools.cache
def processor() -> str:
    """Model of the CPU with its numbers, where the system says them (Linux), else its architecture."""
    facts: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            facts.setdefault(name.strip(), value.strip())
    if "model name" not in facts:
        return platform.machine()
    numbers = [f"{name} {facts[key]}" for name, key in
               (("family", "cpu family"), ("model", "model"), ("stepping", "stepping")) if key in facts]
    return " ".join([facts["model name"], *([f"({', '.join(numbers)})"] if numbers else [])])


def memory_bytes() -> int:
    """Memory that a process may use: that of the machine, or of its control group where that has less."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # ValueError: "max", no limit
            found.append(int((_GROUPS / limit).read_text(encoding="ascii")))
    return min(found)


def reset_peak() -> None:
    """Let `peak_mib` begin anew, where the kernel can (Linux); elsewhere it stays that of the process."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_mib() -> float:
    """Largest resident memory of the process since `reset_peak`, in MiB."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


@functools.cache
def git_commit() -> str:
    """Commit of the checkout the package runs from ("-dirty" with changed files), else the release
    ("v0.1.0").

    Found out once a process: what is committed later is not the code that runs.
    """
    here = Path(__file__)

    def git(*words: str) -> str:
        command = ["git", "-C", str(here.parent), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()

    try:
        # Not somebody else's repository around an installed package.
        git("ls-files", "--error-unmatch", here.name)
        return git("describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return f"v{version('recsys-zoo')}"


def run_command() -> str:
    """The command line of this process, as it can be typed again."""
    name = os.path.basename(sys.argv[0])
    program = ["python", "-m", "recsys_zoo"] if name == "__main__.py" else [name]
    return shlex.join([*program, *sys.argv[1:]])
