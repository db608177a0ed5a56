"""Backend settings made once at start: matmul, allocator, threads. Each is printed with its reason."""

from __future__ import annotations

import ctypes
import platform

import torch

from ..errors import InputError
from ..nn import kernels
from .config import TrainConfig

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc <malloc.h>


def apply(cfg: TrainConfig) -> tuple[torch.device, list[str]]:
    """Make the settings; returns the device and one line a setting."""
    device = device_of(cfg)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    elif cfg.cuda_graph:
        raise InputError(
            "train.cuda_graph: the training runs on a CPU; leave it out or set train.device='cuda'"
        )
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    lines = [
        f"device {device}, {torch.get_num_threads()} CPU threads, {torch.backends.cpu.get_cpu_capability()}",
        set_matmul(cfg.matmul, device),
        _allocator(device),
        _kernels(cfg.kernels, device),
    ]
    if cfg.deterministic:
        torch.use_deterministic_algorithms(True)
        lines.append("deterministic: operations without a reproducible result are refused (slower on a GPU)")
    return device, [line for line in lines if line]


def conditions(device: torch.device) -> dict[str, str | int]:
    """What must be equal for two trainings to be bit-identical, beside settings, data and program."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "kernels": "c++" if kernels.enabled else "torch",
        "matmul": torch.get_float32_matmul_precision(),
    }


def device_of(cfg: TrainConfig) -> torch.device:
    """The device of a training; InputError when it is not there."""
    name = ("cuda" if torch.cuda.is_available() else "cpu") if cfg.device == "auto" else cfg.device
    if name != "cpu" and not torch.cuda.is_available():
        raise InputError(f"train.device={cfg.device!r}: no CUDA device here; use cpu")
    # torch wants to know which one
    return torch.device("cuda", torch.cuda.current_device()) if name == "cuda" else torch.device(name)


def set_matmul(choice: str, device: torch.device) -> str:
    """Choose how torch multiplies float32 matrices; returns what is to be said of it."""
    if choice != "auto":
        torch.set_float32_matmul_precision(choice)
        return f"matmul {choice}: as set"
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        return "matmul high: TF32 on the tensor cores (10-bit mantissa); train.matmul='highest' for full fp32"
    errors = {level: _matmul_error(level) for level in ("highest", "medium")}
    # On CPUs with AMX "medium" computes in bf16 (error about 4e-3); elsewhere it is oneDNN's fp32.
    level = "medium" if errors["medium"] <= 8 * errors["highest"] else "highest"
    torch.set_float32_matmul_precision(level)
    reason = "oneDNN, still fp32" if level == "medium" else "'medium' is not fp32 on this CPU"
    return (
        f"matmul {level}: {reason} (measured relative error {errors['highest']:.1e} highest, "
        f"{errors['medium']:.1e} medium)"
    )


def _matmul_error(level: str) -> float:
    """Largest error of a 256 x 256 product against float64, relative to its largest element."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(256, 256, generator=generator) for _ in range(2))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(level)
    exact = a.double() @ b.double()
    error = ((a @ b).double() - exact).abs().max() / exact.abs().max()
    torch.set_float32_matmul_precision(before)
    return float(error)


def _allocator(device: torch.device) -> str:
    """Keep freed blocks: glibc maps blocks over 32 MB anew at each step, and page faults then cost half of
    it."""
    if device.type != "cpu" or platform.libc_ver()[0] != "glibc":
        return ""
    libc = ctypes.CDLL(None)
    if libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30) and libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1):
        return "allocator: blocks up to 1 GiB are kept for reuse (no page faults in the step)"
    return "allocator: glibc refused the thresholds; steps with large blocks will be slower"


def _kernels(choice: str, device: torch.device) -> str:
    kernels.forget()
    if device.type != "cpu":
        kernels.disable()
        return ""
    if choice == "torch":
        kernels.disable()
        return "kernels torch: as set"
    reason = kernels.enable()
    if reason:
        return f"kernels torch: {reason}; attention over fields and MLPs take longer"
    return "kernels C++ for attention over fields, batch norm, ReLU and dropout (fp32), compiled at first use"
