"""Measured speed and memory use of the machine."""

import ctypes
import importlib
import sys
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch

from noisekiln.machine.memory import is_out_of_memory

EXPECTED_SHARE = 0.6  # of the peak of a CPU, that training of the shipped networks reaches (LOG.md)
SECONDS = 0.3  # for measuring the peak
SIDES = {"cpu": 1024, "mps": 4096, "cuda": 8192}  # of the matrices: large enough to reach the peak


@cache
def peak_flops_per_second(device: str, dtype: torch.dtype = torch.float32) -> float | None:
    """FLOP/s of a large square matrix product here, the fastest of several in 0.3 s; measured once per process.

    None if there is not enough memory for it. Once a `Trainer` was made for CUDA, the peak of float32 is that of TF32,
    which training then uses (see `machine.devices.prepare_for_training`); otherwise shares of it could exceed 1.

    Args:
        device: Device: "cpu", "cuda", "cuda:1", "mps".
        dtype: Type of the matrices: the one in which the network computes.
    """
    try:
        return _fastest(SIDES[device.split(":")[0]], device, dtype)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return None


def _fastest(side: int, device: str, dtype: torch.dtype) -> float:
    left, right = torch.ones(2, side, side, device=device, dtype=dtype)
    start_time, fastest = time.perf_counter(), float("inf")
    while time.perf_counter() - start_time < SECONDS or fastest == float("inf"):
        start = time.perf_counter()
        float((left @ right)[0, 0])  # waits for the device
        fastest = min(fastest, time.perf_counter() - start)
    return 2 * side**3 / fastest


def reset_peak_memory(device: str) -> None:
    """Reset `peak_memory`, if the system supports it."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError, TypeError, AttributeError):  # only the GNU C library has it
            ctypes.CDLL(None).malloc_trim(0)  # freed memory that is kept for later would count as used
        with suppress(OSError):  # other systems have no such file, and some containers forbid it
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def peak_memory(device: str) -> float | None:
    """Peak of the bytes in use: by tensors on a GPU, by the process on a CPU; None if they are not counted."""
    if device.startswith("cuda"):
        return float(torch.cuda.max_memory_allocated(device))
    status = Path("/proc/self/status")
    if status.exists():
        return _kibibytes(status, "VmHWM")
    try:
        resource = importlib.import_module("resource")  # not on Windows
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


def current_memory(device: str) -> float | None:
    """Bytes in use now, as `peak_memory` counts them; None if they are not counted."""
    if device.startswith("cuda"):
        return float(torch.cuda.memory_allocated(device))
    status = Path("/proc/self/status")
    return _kibibytes(status, "VmRSS") if status.exists() else None


def _kibibytes(status: Path, name: str) -> float | None:
    lines = status.read_text(encoding="utf-8").splitlines()
    return next((1024.0 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)
