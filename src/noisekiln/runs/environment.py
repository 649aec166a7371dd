"""Environment of a run: versions, device, git commit, command line."""

import importlib.metadata
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from noisekiln.files.json_file import read_json, write_json
from noisekiln.machine.processor import processor_name

FILE = "environment.json"
PACKAGES = ("noisekiln", "torch", "numpy", "pillow", "safetensors")


def append_environment(folder: Path, images_seen: int, device: str, world_size: int = 1) -> None:
    """Add an entry for this start of a run to its `environment.json`: a list, oldest first.

    Args:
        folder: Folder of the run.
        images_seen: Images seen before this start.
        device: Device of the training.
        world_size: Number of processes that train together.
    """
    earlier = [] if damage_of_environment(folder) else _read_entries(folder / FILE)
    write_json(folder / FILE, [*earlier, environment(images_seen, device) | {"world_size": world_size}])


def environment(images_seen: int, device: str) -> dict[str, Any]:
    """The current environment, for JSON."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "images_seen": images_seen,
        "command": sys.argv,
        "versions": {"python": platform.python_version()} | {name: version_of(name) for name in PACKAGES},
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "device": _device_name(device),
        "threads": torch.get_num_threads(),
        "git": {"code": _git(Path(__file__).parent), "working_directory": _git(Path.cwd())},
    }


def damage_of_environment(folder: Path) -> str:
    """One line of text if a run's `environment.json` cannot be read, which must not prevent a start; otherwise ""."""
    try:
        _read_entries(folder / FILE)
    except (OSError, ValueError) as error:
        return f"{FILE} is damaged ({error}): a new one replaces it, without the run's earlier starts"
    return ""


def _read_entries(file: Path) -> list[Any]:
    """The entries so far, none if there is no file; raises ValueError or OSError if it is damaged."""
    if not file.exists():
        return []
    entries = read_json(file)
    if not isinstance(entries, list):
        raise ValueError("it holds no list")
    return entries


def version_of(package: str) -> str | None:
    """The version of an installed package; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _device_name(device: str) -> str:
    if device.startswith("cuda"):
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({processor_name()})"


def _git(folder: Path) -> dict[str, Any] | None:
    """The commit of the git checkout of a folder, and whether tracked files differ from it; None without git."""
    try:
        commit = _run_git(folder, "rev-parse", "HEAD")
        changes = _run_git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "dirty": bool(changes)}


def _run_git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
