"""Checks of `noisekiln doctor`."""

import os
import platform
import re
import shutil
import time
from collections.abc import Iterator
from importlib import metadata
from typing import NamedTuple

import torch
from torch.nn import functional as F

from noisekiln.machine.memory import available_bytes
from noisekiln.machine.processor import processor_name
from noisekiln.runs.environment import version_of
from noisekiln.version import VERSION

PACKAGES = ("numpy", "pillow", "safetensors", "matplotlib", "typer", "rich")
FEATURES = {"log": "--curves tensorboard", "wandb": "--curves wandb"}  # where the name does not say it
WITHOUT_EXTRA = ("wandb",)
NOT_REPORTED = ("test", "all")
CONFLICTING = "torchvision"  # beside a CPU build of torch it fails, and takes diffusers and transformers with it


class Finding(NamedTuple):
    """The result of one check.

    Attributes:
        good: Whether the check passed.
        what: Subject of the check.
        text: Result in words, without names of files or people: it may be published.
    """

    good: bool
    what: str
    text: str


def findings() -> Iterator[Finding]:
    """Results of all checks, the fastest first."""
    yield Finding(True, "noisekiln", VERSION)
    yield Finding(True, "python", platform.python_version())
    yield Finding(True, "system", f"{platform.system()} {platform.release()} {platform.machine()}")
    yield _torch()
    yield Finding(True, "packages", ", ".join(f"{name} {version_of(name) or 'missing'}" for name in PACKAGES))
    for extra, packages in _extras().items():
        yield _optional(extra, packages, f"noisekiln[{extra}]")
    for package in WITHOUT_EXTRA:
        yield _optional(package, [package], package)
    yield _processor()
    yield from _graphics_cards()
    yield _memory_size()
    yield _disk()
    yield _matrix_speed()


def _torch() -> Finding:
    builds = {"CUDA": torch.version.cuda, "ROCm": torch.version.hip}
    build = ", ".join(f"{name} {version}" for name, version in builds.items() if version)
    text = f"{torch.__version__}{f', built for {build}' if build else ''}"
    if (other := version_of(CONFLICTING)) is None:
        return Finding(True, "torch", text)
    return Finding(False, "torch", f"{text}; {CONFLICTING} {other} is not needed, and a build for another torch fails")


def _extras() -> dict[str, list[str]]:
    """The packages of each extra of noisekiln, as its installation says; none if it runs without one."""
    extras: dict[str, list[str]] = {}
    try:
        lines = metadata.requires("noisekiln") or []
    except metadata.PackageNotFoundError:
        lines = []
    for line in lines:
        found = re.match(r"""([\w.-]+).*;.*\bextra\s*==\s*["']([\w.-]+)["']""", line)
        if found and found[2] not in NOT_REPORTED:
            extras.setdefault(found[2], []).append(found[1])
    return extras


def _optional(what: str, packages: list[str], source: str) -> Finding:
    """Optional packages: their versions, or what they are needed for and how to get them."""
    versions = {name: version_of(name) for name in packages}
    if all(versions.values()):
        return Finding(True, what, ", ".join(f"{name} {version}" for name, version in versions.items()))
    missing = ", ".join(name for name, version in versions.items() if not version)
    feature = f", needed for {FEATURES[what]}" if what in FEATURES else ""
    return Finding(True, what, f'not installed: {missing}{feature}; pip install "{source}"')


def _processor() -> Finding:
    threads = f"{torch.get_num_threads()} of {os.cpu_count()} threads"
    return Finding(True, "processor", f"{processor_name()}, {torch.backends.cpu.get_cpu_capability()}, {threads}")


def _graphics_cards() -> Iterator[Finding]:
    for number in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(number)
        name = f"{card.name}, {card.total_memory / 2**30:.0f} GiB, compute capability {card.major}.{card.minor}"
        yield Finding(True, f"cuda:{number}", name)
    if torch.backends.mps.is_available():
        yield Finding(True, "mps", "available")
    elif not torch.cuda.is_available():
        yield Finding(True, "gpu", "none: small images train in minutes on the processor")


def _memory_size() -> Finding:
    if "SC_PHYS_PAGES" not in os.sysconf_names:
        return Finding(True, "memory", "unknown on this system")
    size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    available = available_bytes("cpu")
    free = size if available is None else available / 2**30
    text = f"{size:.0f} GiB" + ("" if available is None else f", {free:.1f} GiB available")
    return Finding(free > 2, "memory", text + ("" if free > 2 else ": little; use a small --batch-size"))


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
