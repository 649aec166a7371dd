"""Which processor a measurement was made on, and how fast it is: one line beside each figure."""

import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import torch

SIDE, TIMES = 2048, 5  # of the matrix product
BUSY = 0.5  # load per core before a measurement, from which its times are not to be compared


def hardware() -> dict[str, Any]:
    """Processor, cores, threads of torch, GFLOP/s of a 2048 x 2048 product in float32, instructions and load."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    load = os.getloadavg()[0] if os.name == "posix" else 0.0  # before the product adds to it
    return {
        "cpu": fields.get("model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "amx": "amx_tile" in fields.get("flags", "").split(),
        "gflops": round(matrix_gflops(), 1),
        "load": round(load, 2),
    }


def matrix_gflops(side: int = SIDE, times: int = TIMES) -> float:
    """GFLOP/s of a square matrix product in float32: ``2 side^3`` operations, the fastest of several."""
    left, right = torch.rand(2, side, side)
    seconds = []
    for _ in range(times):
        start_time = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - start_time)
    return 2 * side**3 / min(seconds) / 1e9


def machine_kind(machine: dict[str, Any]) -> str:
    """What times may be compared within: "AVX512, 2 threads"."""
    return f"{machine['instructions']}{' with AMX' if machine['amx'] else ''}, {machine['threads']} threads"


def hardware_line(machine: dict[str, Any]) -> str:
    """The line of a table: "AMD EPYC, 2 cores, AVX512, no AMX, 160 GFLOP/s"."""
    amx = "AMX" if machine["amx"] else "no AMX"
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['instructions']}, {amx}, {machine['gflops']:.0f} GFLOP/s"
    )


def is_busy(machine: dict[str, Any]) -> bool:
    """Whether something else was running before a measurement."""
    return bool(machine["load"] > BUSY * machine["cores"])


def commit() -> str:
    """The commit of this checkout, and "with changes" if a file of the package differs from it; "" without git."""
    root = Path(__file__).resolve().parents[1]

    def git(*words: str) -> str:
        try:
            done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False)
        except OSError:
            return ""
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--", "src")
    return git("rev-parse", "--short=10", "HEAD") + (" with changes" if changed else "")
