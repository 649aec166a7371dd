"""Choosing for the user: the smart defaults, from the data, the machine and the budget."""

import torch

from noisekiln.data import DataSet
from noisekiln.diffusion import Diffusion
from noisekiln.find import did_you_mean
from noisekiln.predictions import PREDICTIONS
from noisekiln.recipes.read import task_of
from noisekiln.recipes.settings import Settings
from noisekiln.recipes.sizes import SIZES, fitting_size, unet_of_size
from noisekiln.recipes.start import fitting
from noisekiln.sampling import Sampling
from noisekiln.training.logs import pick_log
from noisekiln.training.precision import best


def resolve(settings: Settings, data: DataSet, base: Diffusion | None = None) -> Settings:
    """The settings with every None and "auto" replaced by a choice; `base` is the model to start from, if any.

    Raises:
        ValueError: If a condition is asked for that the data have nothing for, or a device that is not there.
    """
    for name, known in (("prediction", list(PREDICTIONS)), ("model", ["auto", *SIZES])):
        given = getattr(settings, name)
        if given is not None and given not in known:
            raise ValueError(f"{name}={given!r} is not a choice. {did_you_mean(given, known)}")
    if base is not None:
        settings = fitting(settings, data, base)
    device = pick_device(settings.device)
    minutes = settings.minutes
    if minutes is None and settings.images is None:
        minutes = 10.0 if device == "cpu" else 30.0
    model = settings.model
    if model == "auto":
        model = fitting_size(minutes, device)
    usual = Sampling()
    return settings.but(
        size=data.size,
        cond=_cond(settings.cond, data),
        minutes=minutes,
        device=device,
        model=model,
        prediction=settings.prediction or "v",
        label=settings.label or "angle",
        backbone=settings.backbone or unet_of_size(model, data.size),
        batch=min(settings.batch or (64 if device == "cpu" else 256), max(len(data.train), 1)),
        rate=settings.rate or usual_rate(settings),
        precision=settings.precision or best(device),
        compile=_compile(settings.compile, device),
        sampler=settings.sampler or usual.sampler,
        steps=settings.steps or usual.steps,
        schedule=settings.schedule or usual.schedule,
        guidance=settings.guidance if settings.guidance is not None else 1.5 if task_of(settings.task) is None else 1.0,
        curves=pick_log(settings.curves),
    )


def usual_rate(settings: Settings) -> float:
    """The peak learning rate: lower for weights that are trained already, higher for adapters (see LOG.md)."""
    rate = {"muon": 2e-3, "adamw": 1e-3, "adam": 1e-4}[settings.optimizer]
    if settings.lora is not None:
        return 3 * rate
    return rate if settings.start is None else rate / 3


def pick_device(asked: str) -> str:
    """The device to use for "auto", or the one asked for.

    Raises:
        ValueError: If it is not there.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if asked == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if there[name])
    if not there.get(asked, False):
        raise ValueError(
            f"The device {asked!r} is not on this machine. Here there is: "
            f"{', '.join(name for name, is_there in there.items() if is_there)}. Leave --device away to take the best."
        )
    return asked


def _compile(asked: str, device: str) -> str:
    return asked if asked != "auto" else "yes" if device == "cuda" else "no"


def _cond(asked: str, data: DataSet) -> str:
    has = {"text": data.train.captions is not None, "class": data.train.labels is not None, "none": True}
    if asked == "auto":
        return next(kind for kind, there in has.items() if there)
    if not has[asked]:
        need = {"text": "captions (a metadata.csv beside the images)", "class": "classes (a sub-folder each)"}[asked]
        raise ValueError(f"cond={asked!r} needs {need}, and {data.name} has none. Add them, or leave --cond away.")
    return asked
