"""On what a run was made: versions, device, git, command line."""

import importlib.metadata
import json
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from noisekiln.files.atomic import replacing

FILE = "environment.json"
PACKAGES = ("noisekiln", "torch", "numpy", "pillow", "safetensors")


def note_start(folder: Path, images_seen: int, device: str, processes: int = 1) -> None:
    """Add an entry for this start of a run to its `environment.json`: a list, oldest first."""
    file = folder / FILE
    told = [*_read(file), environment(images_seen, device) | {"processes": processes}]
    with replacing(file) as draft:
        draft.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def environment(images_seen: int, device: str) -> dict[str, Any]:
    """What is so now, as JSON has it."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "images_seen": images_seen,
        "command": sys.argv,
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "device": _device_name(device),
        "threads": torch.get_num_threads(),
        "git": {"code": _git(Path(__file__).parent), "working_directory": _git(Path.cwd())},
    }


def _read(file: Path) -> list[Any]:
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # there is none, or none that can be read: notes must not keep a run from starting
        return []
    return told if isinstance(told, list) else []


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _device_name(device: str) -> str:
    if device.startswith("cuda"):
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({platform.processor() or platform.machine()})"


def _git(folder: Path) -> dict[str, Any] | None:
    """The commit of the checkout that a folder is in, and whether tracked files differ from it; None if in none."""
    try:
        commit = _ask_git(folder, "rev-parse", "HEAD")
        changes = _ask_git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "dirty": bool(changes)}


def _ask_git(folder: Path, *words: str) -> str:
    asked = ["git", "-C", str(folder), *words]
    return subprocess.run(asked, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
