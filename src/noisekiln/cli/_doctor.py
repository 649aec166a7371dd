"""Checks of `noisekiln doctor`."""

import os
import platform
import shutil
import time
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch.nn import functional as F

from noisekiln.runs.environment import version_of

OPTIONAL = {  # package: the feature that uses it, and how to install it
    "tensorboard": ("--curves tensorboard", "noisekiln[log]"),
    "wandb": ("--curves wandb", "wandb"),
}


class Finding(NamedTuple):
    """The result of one check.

    Attributes:
        good: Whether the check passed.
        what: Subject of the check.
        text: Result in words.
    """

    good: bool
    what: str
    text: str


def findings() -> Iterator[Finding]:
    """Results of all checks, the fastest first."""
    yield Finding(True, "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield Finding(True, "torch", torch.__version__)
    yield Finding(True, "device", _device())
    yield _memory_size()
    yield _disk()
    for package, (feature, source) in OPTIONAL.items():
        missing = f'not installed; needed for {feature}: pip install "{source}"'
        yield Finding(True, package, version_of(package) or missing)
    yield _matrix_speed()


def _device() -> str:
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        return f"{card.name}, {card.total_memory / 2**30:.0f} GiB"
    if torch.backends.mps.is_available():
        return "mps"
    return f"cpu, {torch.get_num_threads()} threads: small images train in minutes"


def _memory_size() -> Finding:
    if "SC_PHYS_PAGES" not in os.sysconf_names:
        return Finding(True, "memory", "unknown on this system")
    size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return Finding(size > 4, "memory", f"{size:.0f} GiB" + ("" if size > 4 else ": little; use a small --batch-size"))


def _disk() -> Finding:
    free = shutil.disk_usage(".").free / 2**30
    return Finding(free > 2, "disk", f"{free:.0f} GiB free here" + ("" if free > 2 else ": a run may not fit"))


def _matrix_speed() -> Finding:
    """Speed of the convolution that takes most of the time in training."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    x = torch.randn(64, 128, 16, 16, device=device).to(memory_format=torch.channels_last)
    weight = torch.randn(128, 128, 3, 3, device=device).to(memory_format=torch.channels_last)
    fastest = float("inf")
    for _ in range(10):
        start = time.perf_counter()
        float(F.conv2d(x, weight, padding=1)[0, 0, 0, 0])
        fastest = min(fastest, time.perf_counter() - start)
    rate = 2 * 64 * 128 * 128 * 9 * 256 / fastest / 1e9
    return Finding(rate > 30, "speed", f"{rate:,.0f} GFLOP/s in a 3x3 convolution" + ("" if rate > 30 else ": slow"))
