"""Checks of the components in settings, before images are read."""

import os
from pathlib import Path
from typing import Any

import torch

from noisekiln.backbones.base import Backbone
from noisekiln.codecs.base import Codec
from noisekiln.components.registry import did_you_mean, names
from noisekiln.components.spec import build, class_of, has_argument
from noisekiln.conditioners.base import Conditioner
from noisekiln.draws.base import Draw
from noisekiln.files.hub import PREFIX, checked_hub_name, is_hub_name
from noisekiln.guidance.classifier_free import guidance_of
from noisekiln.logs.base import choose_log
from noisekiln.loss_weights.base import LossWeight
from noisekiln.machine.devices import pick_device
from noisekiln.noise_labels.base import NoiseLabel
from noisekiln.objectives.base import Objective
from noisekiln.optimizers.base import OptimizerFactory
from noisekiln.paths import expand_home
from noisekiln.plan.settings import Settings
from noisekiln.plan.task_data import task_of
from noisekiln.predictions import PREDICTIONS
from noisekiln.samplers.base import Sampler
from noisekiln.schedules.base import Schedule


def check_components(settings: Settings) -> None:
    """Check that every component in the settings exists and, if no data are needed for it, can be built.

    Raises:
        ValueError: If one does not exist; the message suggests the most similar one.
    """
    pick_device(settings.device)
    check_codec(settings.codec)
    task_of(settings.task)
    choose_log(settings.curves)
    check_prediction(settings.prediction)
    cond = None if settings.cond in ("auto", "none") else settings.cond
    without_data: list[tuple[type[Any], str | None]] = [
        (Codec, None if is_trained_codec(settings.codec) else settings.codec),
        (NoiseLabel, settings.noise_label),
        (Draw, settings.draw),
        (LossWeight, settings.loss_weight),
        (OptimizerFactory, settings.optimizer),
        (Sampler, settings.sampler),
        (Schedule, settings.schedule),
    ]
    with torch.random.fork_rng(devices=[]):  # building one draws its first weights
        for base, spec in without_data:
            if spec is not None:
                build(base, spec)
        if cond is not None:
            check_conditioner(cond)
    if settings.guidance is not None:
        guidance_of(settings.guidance)
    check_objective_arguments(settings)
    if settings.backbone is not None:
        class_of(Backbone, settings.backbone)
    check_teacher(settings)


def is_trained_codec(codec: str | None) -> bool:
    """Whether the setting `codec` names a folder, here or on the Hub, instead of a component, which comes first."""
    if not codec or codec in names("codecs"):
        return False
    return is_hub_name(codec) or expand_home(Path(codec)).is_dir()


def check_codec(codec: str | None) -> None:
    """Raise ValueError if the setting `codec` looks like a folder, and there is none, or like no name on the Hub."""
    if codec is not None and is_hub_name(codec):
        checked_hub_name(codec.removeprefix(PREFIX))
    looks_like_one = codec is not None and ("/" in codec or os.sep in codec) and ":" not in codec
    if looks_like_one and not is_trained_codec(codec):
        raise ValueError(
            f"`codec={codec}`: there is no such folder. Give the folder of a trained codec; to resume a run that has "
            f"its copy of one, omit `codec`. An autoencoder on the Hub is `codec={PREFIX}OWNER/NAME`."
        )


def check_conditioner(cond: str) -> None:
    """Raise ValueError if there is no such conditioner; the message lists the values of `cond` as its help does."""
    try:
        class_of(Conditioner, cond)
    except ValueError:
        if ":" in cond or "(" in cond:  # a file's class, or a name with settings
            raise
        known = ["auto", "none", *(name.partition("_")[0] for name in names("conditioners"))]
        raise ValueError(
            f"There is no conditioner called {cond!r}. {did_you_mean(cond, known, 'values of `cond`')} "
            "For other columns of the data write one of your own: FILE.py:Class."
        ) from None
    build(Conditioner, cond)


def check_prediction(name: str | None) -> None:
    """Raise ValueError if there is no prediction type of this name; None is the default."""
    if name is not None and name not in PREDICTIONS:
        raise ValueError(
            f"`prediction={name}` is not a choice. {did_you_mean(name, list(PREDICTIONS), 'prediction types')}"
        )


def check_objective_arguments(settings: Settings) -> None:
    """Raise ValueError if a draw or a loss weight is requested that the objective does not take."""
    kind = class_of(Objective, settings.objective)
    for name in ("draw", "loss_weight"):
        requested = getattr(settings, name)
        if requested != getattr(Settings, name) and not has_argument(kind, name):
            raise ValueError(
                f"`{name}={requested}` was requested, but `objective={settings.objective}` takes no "
                f"{name.replace('_', ' ')}. Omit `{name}`, or use another `objective`."
            )


def check_teacher(settings: Settings) -> None:
    """Raise ValueError if the objective needs a teacher and none is set, or does not use the one that is set."""
    kind = class_of(Objective, settings.objective)
    if settings.teacher is not None and not kind.needs_teacher:
        raise ValueError(
            f"`objective={settings.objective}` does not use a teacher. Omit `teacher`, or use another `objective`."
        )
    if settings.teacher is None and kind.needs_teacher:
        raise ValueError(
            f"`objective={settings.objective}` learns from a teacher, but none was given. Give `teacher=RUN`."
        )
