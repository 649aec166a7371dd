"""What is evaluated: a run, a model or a cascade, with its data; the weights of the last step beside averaged ones."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import log10
from pathlib import Path
from typing import Any

from noisekiln.codecs.base import Codec
from noisekiln.components.spec import describe
from noisekiln.data import DataSet, with_channels
from noisekiln.errors import DataError, reason_of
from noisekiln.evaluation.evaluation_options import AVERAGED, RAW
from noisekiln.files.json_file import read_json
from noisekiln.files.model_folder import digest
from noisekiln.model.cascade import load
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.model import Model
from noisekiln.paths import expand_home
from noisekiln.plan.settings import Settings
from noisekiln.plan.task_data import GENERATE, read_images
from noisekiln.training import checkpoints

Reading = Callable[[int, int], None]
"""Callback while images are read: images so far, images in all."""


@dataclass(frozen=True)
class EvaluatedModel:
    """A model to evaluate.

    Attributes:
        name: Its name in the report.
        models: The model with each of its weights: "averaged", and "raw" if a run has those of its last step.
        settings: Settings of its run; None if it is no run.
        folder: Folder of its run or model; None for a model in memory.
        notes: What could not be found, one line each.
    """

    name: str
    models: dict[str, Model]
    settings: Settings | None = None
    folder: Path | None = None
    notes: tuple[str, ...] = ()
    images_seen: int | None = field(default=None)

    @property
    def model(self) -> Model:
        """The model whose size, conditions and task count: all have the same."""
        return next(iter(self.models.values()))


def about_codec(codec: Codec) -> list[str]:
    """What a codec loses of every image, and with it of every sample, in one line; none if it loses nothing."""
    error = codec.reconstruction_error
    if not error:
        return []
    return [
        f"samples come through the codec, which brings back real images with a PSNR of {-20 * log10(error):.1f} dB: no "
        "sample can be nearer to real images than that. A codec that is trained for longer brings them nearer"
    ]


def open_model(
    source: Model | str | Path, weights: str = "both", *, device: str = "cpu", allow_code: bool = False
) -> EvaluatedModel:
    """A model in memory, or in the folder of a run, a model or a cascade.

    Args:
        source: The model, or its folder.
        weights: averaged, raw, or both where there are both.
        device: Device of a model that is loaded.
        allow_code: Whether it may run components from Python files of its author.

    Raises:
        ValueError: If there is no model, or the requested weights are missing.
    """
    if isinstance(source, Model):
        if weights == RAW:
            raise ValueError(
                f"`model_weights={RAW}`: a model in memory has one kind of weights. Omit `model_weights`, or give the "
                "folder of its run."
            )
        return EvaluatedModel(type(source).__name__, {AVERAGED: source})
    folder = expand_home(source)
    averaged = load(folder, device=device, allow_code=allow_code)
    run = next((place for place in (folder, folder.resolve().parent) if (place / "run.yaml").is_file()), folder)
    settings = _settings_of(run)
    seen = checkpoints.list_images_seen(folder / "checkpoints")
    models: dict[str, Model] = {AVERAGED: averaged}
    notes: list[str] = []
    if weights != AVERAGED and settings is not None and run == folder:
        try:
            models[RAW] = _with_raw_weights(folder, settings, device=device, allow_code=allow_code)
        except ValueError as error:
            if weights == RAW:
                raise
            notes.append(f"the weights of the last step are left out: {reason_of(error)}")
    elif weights == RAW:
        raise ValueError(
            f"`model_weights={RAW}`: {folder} is a model and no run, so it has no weights of the last step. "
            "Omit `model_weights`."
        )
    if weights == RAW:
        del models[AVERAGED]
    name = folder.resolve().name if run == folder else f"{run.name}/{folder.name}"  # model-best/ of a run
    return EvaluatedModel(name, models, settings, run, tuple(notes), max(seen, default=None))


def read_training_data(evaluated: EvaluatedModel, progress: Reading) -> tuple[DataSet, list[str]]:
    """The data of a run, and notes on them.

    Raises:
        ValueError: If the model is no run, or its data cannot be read where it found them.
    """
    settings = evaluated.settings
    if settings is None or evaluated.folder is None:
        raise ValueError(
            f"{evaluated.name} is no run, so it is unknown which images it learned. Give real images to compare with "
            "as `against`."
        )
    try:
        data = read_images(settings.data, settings.task, size=evaluated.model.size, progress=progress)
    except (DataError, OSError) as error:
        raise DataError(
            f"the data of {evaluated.name}, {settings.data}",
            f"they cannot be read where training found them ({reason_of(error)})",
            "Give the same images, wherever they are now, as `against`",
        ) from error
    data = with_channels(data, evaluated.model.codec.image_channels)
    same = _fingerprint_of(evaluated.folder) in (None, data.fingerprint)
    return data, [] if same else [f"{settings.data} has changed since training"]


def read_other_data(source: Any, evaluated: EvaluatedModel, progress: Reading) -> DataSet:
    """Other data to compare with, in the size and the channels of a model."""
    if isinstance(source, DataSet):
        data = source
    else:
        task = GENERATE if evaluated.settings is None else evaluated.settings.task
        data = read_images(source, task, size=evaluated.model.size, progress=progress)
    if data.size != tuple(evaluated.model.size):
        raise DataError(
            data.name,
            f"its images have {data.size[0]}x{data.size[1]} pixels, and the model makes "
            f"{evaluated.model.size[0]}x{evaluated.model.size[1]}",
            "Give images of that size, or a folder or an array, which is resized",
        )
    return with_channels(data, evaluated.model.codec.image_channels)


def model_key(model: Model) -> str:
    """Text that is the same for the same weights and settings of a model, and of each stage of a cascade."""
    stages = [stage for stage in model.modules() if isinstance(stage, Diffusion)]
    about = [
        f"{stage.size} {stage.sampling} {stage.denoiser.prediction.name} {describe(stage.denoiser.noise_label)} "
        f"{stage.task and describe(stage.task)}"
        for stage in stages
    ]
    return " ".join([digest(model.state_dict()), *about])


def _settings_of(folder: Path) -> Settings | None:
    file = folder / "run.yaml"
    return Settings.read(file) if file.is_file() else None


def _fingerprint_of(folder: Path) -> str | None:
    try:
        found = read_json(folder / "dataset.json")
        return str(found["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError):  # it only warns of other data, and may be lost
        return None


def _with_raw_weights(folder: Path, settings: Settings, *, device: str, allow_code: bool) -> Diffusion:
    """The model of a run with the weights of its newest checkpoint.

    Raises:
        ValueError: If they cannot be read, or are those of an adapter or of several processes.
    """
    if settings.lora is not None:
        raise ValueError("a run that trains an adapter keeps them as an adapter only")
    checkpoint = checkpoints.load_newest(folder / "checkpoints")
    if checkpoint is None:
        raise ValueError(f"{folder} has no checkpoint")
    if len(checkpoint.shards) > 1:
        raise ValueError("they are sharded over several processes")
    model = Diffusion.load(folder, device=device, allow_code=allow_code)
    prefix = "module.diffusion."
    raw = {name.removeprefix(prefix): own for name, own in checkpoint.tensors.items() if name.startswith(prefix)}
    own = model.state_dict()
    if not raw or any(name not in own or own[name].shape != tensor.shape for name, tensor in raw.items()):
        raise ValueError("the newest checkpoint holds another network")
    model.load_state_dict(raw, strict=False)  # frozen weights are not in checkpoints, and are those of the model
    return model
