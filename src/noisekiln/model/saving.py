"""A diffusion model's folder: its parts as specs in `model.json`, its weights in `model.safetensors`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from safetensors import SafetensorError
from torch import Tensor, nn

from noisekiln.backbones.base import Backbone
from noisekiln.codecs.base import Codec
from noisekiln.components.consent import NO_CODE, Consent
from noisekiln.components.spec import build, describe
from noisekiln.conditioners.base import Conditioner
from noisekiln.data.sizes import MAX_SIDE
from noisekiln.denoisers import Denoiser
from noisekiln.errors import CodeNotAllowed, shorten
from noisekiln.files.json_file import read_json, write_json
from noisekiln.files.model_folder import (
    model_folder,
    read_description,
    read_weights,
    write_description,
    write_weights,
)
from noisekiln.guidance.classifier_free import guidance_of
from noisekiln.model.code_copies import CODE, copy_code, located, spec_to_save
from noisekiln.model.sampling import Sampling
from noisekiln.model.weights_check import check_matches_weights
from noisekiln.noise_labels.base import NoiseLabel
from noisekiln.predictions import PREDICTIONS
from noisekiln.samplers.base import Sampler, check_steps
from noisekiln.schedules.base import Schedule
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

    Raises:
        ValueError: If a part could not be loaded again.
    """
    description = {
        "size": list(parts.size),
        "backbone": spec_to_save(parts.denoiser.backbone),
        "prediction": parts.denoiser.prediction.name,
        "noise_label": spec_to_save(parts.denoiser.noise_label),
        "codec": spec_to_save(parts.codec),
        "conditioner": spec_to_save(parts.conditioner),
        "sampling": {name: _as_text(value) for name, value in vars(parts.sampling).items()},
        "task": spec_to_save(parts.task),
        **metadata,
    }
    folder.mkdir(parents=True, exist_ok=True)
    copies = copy_code(description, folder)
    write_weights(weights, folder / "model.safetensors")
    write_description({**description, **({CODE: copies} if copies else {})}, folder)


def _as_text(value: object) -> object:
    """A setting of sampling as `model.json` has it: a component as its spec."""
    return value if isinstance(value, str | int | float) else describe(value, include_defaults=True)


def load_parts(make: Callable[[Parts], Loaded], folder: str | Path, consent: Consent) -> Loaded:
    """The model that `save_parts` wrote, on the CPU.

    Args:
        make: Function from the parts to the model.
        folder: Folder with `model.json`, or a run folder that holds it in `model/`.
        consent: Python files that may run, if `model.json` names them.

    Raises:
        CodeNotAllowed: If it names another Python file.
        ValueError: If there is no model, or it is damaged, from a later version, or a cascade.
    """
    place = model_folder(Path(folder))
    description = read_description(place / "model.json")
    if "cascade" in description:
        raise ValueError(
            f"{place} holds a cascade of models, not a single one. "
            "Use `noisekiln sample` or noisekiln.load; or give one of its stages, the folders in it."
        )
    try:
        with located(description, place, consent) as found:
            if consent == NO_CODE:  # a user's own network may not be buildable without values
                check_matches_weights(lambda: make(_build_parts(found, consent)), place / "model.safetensors")
            model = make(_build_parts(found, consent))
        model.load_state_dict(read_weights(place / "model.safetensors"))
    except CodeNotAllowed as error:
        raise CodeNotAllowed(error.file, folder) from None
    except (ArithmeticError, LookupError, TypeError, ValueError, OSError, RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"The model in {place} is missing or damaged ({shorten(str(error), 500)}). "
            "Restore it from a backup, or download it again."
        ) from error
    return model


def save_codec(codec: Codec, folder: Path) -> None:
    """Write a codec by itself: its spec in `codec.json`, its weights in `codec.safetensors`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(codec.state_dict(), folder / "codec.safetensors")
    write_json(folder / "codec.json", {"codec": describe(codec, include_defaults=True)}, indent=None)


def has_codec(folder: Path, consent: Consent = NO_CODE) -> bool:
    """Whether a folder holds a codec that can be read; arguments are those of `load_codec`.

    Raises:
        CodeNotAllowed: If it names another Python file.
    """
    try:
        return load_codec(folder, consent) is not None
    except CodeNotAllowed:
        raise
    except ValueError:
        return False


def load_codec(folder: Path, consent: Consent = NO_CODE) -> Codec | None:
    """The codec that `save_codec` wrote, frozen, on the CPU; None if the folder holds none.

    Args:
        folder: Folder with `codec.json`.
        consent: Python files that may run, if it names them.

    Raises:
        CodeNotAllowed: If it names another Python file.
        ValueError: If it is damaged.
    """
    if not (folder / "codec.json").is_file():
        return None
    try:
        spec = str(read_json(folder / "codec.json")["codec"])
        codec: Codec = build(Codec, spec, consent)
        codec.load_state_dict(read_weights(folder / "codec.safetensors"))
    except CodeNotAllowed as error:
        raise CodeNotAllowed(error.file, folder) from None
    except (KeyError, TypeError, ValueError, OSError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"The codec in {folder} is damaged ({error}). Restore it from a backup.") from error
    return codec.requires_grad_(False)


def _build_parts(description: Mapping[str, Any], consent: Consent) -> Parts:
    """The untrained parts that a `model.json` describes."""
    backbone: Backbone = build(Backbone, description["backbone"], consent)
    label: NoiseLabel = build(NoiseLabel, description["noise_label"], consent)
    codec: Codec = build(Codec, description["codec"], consent)
    conditioner, task = description["conditioner"], description.get("task")
    return Parts(
        Denoiser(backbone, PREDICTIONS[description["prediction"]], label),
        codec,
        checked_model_size(description["size"]),
        None if conditioner is None else build(Conditioner, conditioner, consent),
        _sampling_of(description["sampling"], consent),
        None if task is None else build(Task, task, consent),
    )


def checked_model_size(size: object) -> tuple[int, int]:
    """Height and width from a `model.json`."""
    if not isinstance(size, list) or len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
        raise ValueError("its size is not a height and a width")
    if max(size) > MAX_SIDE:
        raise ValueError(f"its size is larger than {MAX_SIDE:,} pixels")
    return size[0], size[1]


def _sampling_of(settings: Mapping[str, Any], consent: Consent) -> Sampling:
    """Settings of sampling from a `model.json`; their specs are built here, as they are used without consent later."""
    sampling = Sampling(**settings)
    build(Sampler, sampling.sampler, consent)
    build(Schedule, sampling.schedule, consent)
    guidance_of(sampling.guidance, consent)
    check_steps(sampling.steps)
    return sampling
