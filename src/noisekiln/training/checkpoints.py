"""Checkpoints: folders of tensors and numbers, complete or not there at all."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor


class Checkpoint(NamedTuple):
    """What was saved.

    Attributes:
        tensors: By name.
        numbers: Everything else, as JSON has it.
    """

    tensors: dict[str, Tensor]
    numbers: dict[str, Any]


def save(
    folder: Path, images_seen: int, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any], keep: int = 2
) -> None:
    """Write a checkpoint under `folder`, named by the images seen, and remove all but the newest `keep`.

    It is written beside its place, synced, then renamed: a run that dies here leaves the previous one intact.
    """
    place = folder / f"{images_seen:012d}"
    draft = folder / f".{place.name}.partial"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, draft / "tensors.safetensors")
    (draft / "numbers.json").write_text(json.dumps(dict(numbers), indent=2), encoding="utf-8")
    for file in draft.iterdir():
        with file.open("r+b") as handle:
            os.fsync(handle.fileno())
    shutil.rmtree(place, ignore_errors=True)
    draft.rename(place)
    for old in _all(folder)[:-keep]:
        shutil.rmtree(old)


def newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint under `folder` that can be read, or None if there is none.

    Raises:
        ValueError: If there are some, and all are damaged.
    """
    wrong: Exception | None = None
    for place in reversed(_all(folder)):
        try:
            numbers = json.loads((place / "numbers.json").read_text(encoding="utf-8"))
            return Checkpoint(load_file(place / "tensors.safetensors"), numbers)
        except (OSError, ValueError, SafetensorError) as error:
            wrong = error
    if wrong is None:
        return None
    raise ValueError(
        f"No checkpoint in {folder} can be read ({wrong}). They are damaged. "
        "Restore them from a copy, or give another --out for a new run."
    )


def _all(folder: Path) -> list[Path]:
    return sorted(place for place in folder.glob("[0-9]*") if (place / "numbers.json").is_file())
