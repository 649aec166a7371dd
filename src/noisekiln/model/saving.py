"""A diffusion model's folder: its parts as specs in `model.json`, its weights in `model.safetensors`."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from safetensors import SafetensorError
from torch import Tensor, nn

from noisekiln.backbones.base import Backbone
from noisekiln.codecs.base import Codec
from noisekiln.components.consent import check_consent, python_files
from noisekiln.components.spec import build, describe
from noisekiln.conditioners.base import Conditioner
from noisekiln.denoisers import Denoiser
from noisekiln.errors import CodeNotAllowed
from noisekiln.files.atomic import atomic_write
from noisekiln.files.model_folder import (
    model_folder,
    read_description,
    read_weights,
    write_description,
    write_weights,
)
from noisekiln.model.sampling import Sampling
from noisekiln.noise_labels.base import NoiseLabel
from noisekiln.predictions import PREDICTIONS
from noisekiln.tasks.base import Task

Loaded = TypeVar("Loaded", bound=nn.Module)


class Parts(NamedTuple):
    """The parts that a diffusion model is made of; the arguments of `Diffusion`."""

    denoiser: Denoiser
    codec: Codec
    size: tuple[int, int]
    conditioner: Conditioner | None
    sampling: Sampling
    task: Task | None


def save_parts(parts: Parts, weights: Mapping[str, Tensor], folder: Path, metadata: Mapping[str, Any]) -> None:
    """Write the parts and weights of a model to a folder, which is created.

    Args:
        parts: Parts of the model.
        weights: The state dict of the whole model.
        folder: Folder of the model.
        metadata: Further entries of `model.json`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    description = {
        "size": list(parts.size),
        "backbone": describe(parts.denoiser.backbone, include_defaults=True),
        "prediction": parts.denoiser.prediction.name,
        "noise_label": describe(parts.denoiser.noise_label, include_defaults=True),
        "codec": describe(parts.codec, include_defaults=True),
        "conditioner": describe(parts.conditioner, include_defaults=True) if parts.conditioner else None,
        "sampling": asdict(parts.sampling),
        "task": describe(parts.task, include_defaults=True) if parts.task else None,
        **metadata,
    }
    write_weights(weights, folder / "model.safetensors")
    write_description(description, folder)


def load_parts(make: Callable[[Parts], Loaded], folder: str | Path, *, allow_code: bool) -> Loaded:
    """The model that `save_parts` wrote, on the CPU.

    Args:
        make: Function from the parts to the model.
        folder: Folder with `model.json`, or a run folder that holds it in `model/`.
        allow_code: Whether Python files that `model.json` names may be run.

    Raises:
        ValueError: If there is no model, or it is damaged, from a later version, a cascade, or names Python files.
    """
    place = model_folder(Path(folder))
    description = read_description(place / "model.json")
    if "cascade" in description:
        raise ValueError(
            f"{place} holds a cascade of models, not a single one. "
            "Use `noisekiln sample` or noisekiln.load; or give one of its stages, the folders in it."
        )
    if python_files(description) and not allow_code:
        raise ValueError(
            f"{place} needs Python code that is part of the model, and such code can do anything. "
            "If you trust it, allow it with `allow_code`."
        )
    try:
        model = make(_build_parts(description))
        model.load_state_dict(read_weights(place / "model.safetensors"))
    except (KeyError, TypeError, ValueError, OSError, RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"The model in {place} is missing or damaged ({error}). Restore it from a backup, or download it again."
        ) from error
    return model


def save_codec(codec: Codec, folder: Path) -> None:
    """Write a codec by itself: its spec in `codec.json`, its weights in `codec.safetensors`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(codec.state_dict(), folder / "codec.safetensors")
    with atomic_write(folder / "codec.json") as draft:
        draft.write_text(json.dumps({"codec": describe(codec, include_defaults=True)}) + "\n", encoding="utf-8")


def load_codec(folder: Path, *, requested: object = None, allow_code: bool = False) -> Codec | None:
    """The codec that `save_codec` wrote, frozen, on the CPU; None if the folder holds none.

    Args:
        folder: Folder with `codec.json`.
        requested: Settings of the user, who may name the codec's Python file.
        allow_code: Whether any Python file may be run.

    Raises:
        ValueError: If it is damaged, or needs a Python file that must not run.
    """
    if not (folder / "codec.json").is_file():
        return None
    try:
        spec = str(json.loads((folder / "codec.json").read_text(encoding="utf-8"))["codec"])
        if not allow_code:
            check_consent(folder, spec, requested)
        codec: Codec = build(Codec, spec)
        codec.load_state_dict(read_weights(folder / "codec.safetensors"))
    except CodeNotAllowed:
        raise
    except (KeyError, TypeError, ValueError, OSError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"The codec in {folder} is damaged ({error}). Restore it from a backup.") from error
    return codec.requires_grad_(False)


def _build_parts(description: Mapping[str, Any]) -> Parts:
    """The untrained parts that a `model.json` describes."""
    backbone: Backbone = build(Backbone, description["backbone"])
    label: NoiseLabel = build(NoiseLabel, description["noise_label"])
    codec: Codec = build(Codec, description["codec"])
    conditioner, task = description["conditioner"], description.get("task")
    return Parts(
        Denoiser(backbone, PREDICTIONS[description["prediction"]], label),
        codec,
        tuple(description["size"]),
        build(Conditioner, conditioner) if conditioner else None,
        Sampling(**description["sampling"]),
        build(Task, task) if task else None,
    )
