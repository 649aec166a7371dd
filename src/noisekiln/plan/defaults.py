"""Choosing for the user: the smart defaults, from the data, the machine and the budget."""

from noisekiln.components.registry import did_you_mean
from noisekiln.data import DataSet
from noisekiln.logs.base import pick_log
from noisekiln.machine.devices import pick_device
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.sampling import Sampling
from noisekiln.plan.fine_tune import fitting
from noisekiln.plan.images import task_of
from noisekiln.plan.network_sizes import SIZES, fitting_size, unet_of_size
from noisekiln.plan.settings import Settings
from noisekiln.predictions import PREDICTIONS
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
        noise_label=settings.noise_label or "angle",
        backbone=settings.backbone or unet_of_size(model, data.size),
        batch_size=min(settings.batch_size or (64 if device == "cpu" else 256), max(len(data.train), 1)),
        lr=settings.lr or default_lr(settings),
        precision=settings.precision or best(device),
        compile=_compile(settings.compile, device),
        sampler=settings.sampler or usual.sampler,
        steps=settings.steps or usual.steps,
        schedule=settings.schedule or usual.schedule,
        guidance=settings.guidance if settings.guidance is not None else 1.5 if task_of(settings.task) is None else 1.0,
        curves=pick_log(settings.curves),
    )


def default_lr(settings: Settings) -> float:
    """The peak learning rate: lower for weights that are trained already, higher for adapters (see LOG.md)."""
    rate = {"muon": 2e-3, "adamw": 1e-3, "adam": 1e-4}[settings.optimizer]
    if settings.lora is not None:
        return 3 * rate
    return rate if settings.start is None else rate / 3


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
