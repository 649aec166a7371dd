"""Going on from a trained model: what a new run keeps of it, and what new data add."""

import copy
from pathlib import Path

from noisekiln.backbones.base import Backbone
from noisekiln.blocks.low_rank import adapt, adapt_rows, largest_rank
from noisekiln.components.spec import build, describe
from noisekiln.conditioners.base import Conditioner
from noisekiln.data import DataSet
from noisekiln.files.model_folder import described
from noisekiln.model.adapter import added, rows_of
from noisekiln.model.diffusion import Diffusion
from noisekiln.noise_labels.base import NoiseLabel
from noisekiln.plan.default_sampling import default_sampling
from noisekiln.plan.images import GENERATE
from noisekiln.plan.network_sizes import unet_of_size
from noisekiln.plan.settings import Settings
from noisekiln.tasks.base import Task

KEPT = "start"  # the folder in a run that keeps the model that it started from, so that it can always go on
FACING = ("channels", "vector", "image")  # a backbone's arguments that come from the data
KINDS = {"labels": "class", "captions": "text"}  # what a conditioner reads -> the setting `cond`
Sides = int | tuple[int, int] | None


def size_to_load(asked: Sides, start: str | Path | None, out: str | Path | None) -> Sides:
    """The size to load images at: as asked, else that of the run that goes on, else of the model that it starts from.

    Raises:
        ValueError: If there is no model to start from.
    """
    if asked is not None or start is None:
        return asked
    kept = Path(out) / KEPT if out else None
    try:
        told = described(kept if kept and kept.is_dir() else start)
        if "cascade" in told:
            raise ValueError(
                f"{start} is a cascade, and training goes on from a single model. Give one of its stages: "
                f"{Path(start) / 'model' / 'stage0'}, ..."
            )
        height, width = told["size"]
    except ValueError as error:
        hint = "" if out else " A run that began there goes on without it: give its folder with --out."
        raise ValueError(f"{error}{hint}") from None
    return height, width


def default_folder(data: DataSet, start: str | Path | None) -> Path:
    """Where a run goes, unless it is told: ``runs/NAME``, or ``runs/NAME-from-START``."""
    return Path("runs") / (f"{data.name}-from-{Path(start).name}" if start else data.name)


def load_start(settings: Settings, folder: Path) -> Diffusion | None:
    """The model that a run starts from: its own copy if it has begun, else that of `settings.start`; or None.

    Raises:
        ValueError: If it is not there, or runs code that the settings do not name.
    """
    if settings.start is None:
        return None
    trusted = ".py:" in str(settings.backbone)
    if (folder / KEPT / "model.json").is_file():
        return Diffusion.load(folder / KEPT, allow_code=trusted)
    if not trusted and any(".py:" in str(spec) for spec in described(settings.start).values()):
        raise ValueError(
            f"{settings.start} runs Python code of its maker's, which could do anything. "
            "If you trust it, name its network too, with the same settings: --backbone FILE.py:Class(...)."
        )
    return Diffusion.load(settings.start, allow_code=trusted)


def keep_start(base: Diffusion | None, folder: Path) -> None:
    """Copy the model that a run starts from into its folder, once."""
    if base is not None and not (folder / KEPT / "model.json").is_file():
        base.save(folder / KEPT)


def fitting(settings: Settings, data: DataSet, base: Diffusion) -> Settings:
    """The settings with all that describes the network taken from the model.

    Raises:
        ValueError: If the settings ask for another network, or the data are of another kind.
    """
    denoiser, usual = base.denoiser, base.sampling
    if data.channels != base.codec.channels:
        raise ValueError(
            f"{data.name} has images of {data.channels} channels, and {settings.start} was trained on "
            f"{base.codec.channels} (1 is grey, 3 is RGB). Its network has no place for them. "
            "Convert the images, or train without --from."
        )
    task = describe(base.task, whole=True) if base.task else GENERATE
    if settings.task != GENERATE:
        _same("task", describe(build(Task, settings.task), whole=True), task, settings)
    _same("prediction", settings.prediction, denoiser.prediction.name, settings)
    label = settings.noise_label and describe(build(NoiseLabel, settings.noise_label), whole=True)
    _same("label", label, describe(denoiser.noise_label, whole=True), settings)
    spec = describe(denoiser.backbone, whole=True, but=tuple(FACING))
    sized = settings.backbone is None and settings.model != "auto"
    asked = unet_of_size(settings.model, base.size) if sized else settings.backbone
    facing = {name: getattr(denoiser.backbone, name) for name in FACING}
    network = asked and describe(build(Backbone, asked, **facing), whole=True, but=tuple(FACING))
    _same("model" if sized else "backbone", network, spec, settings)
    guidance = usual.guidance if settings.guidance is None and isinstance(usual.guidance, float) else settings.guidance
    return settings.but(
        start=str(Path(str(settings.start))),
        task=settings.task if settings.task != GENERATE else task,
        cond=_cond(settings, data, base.conditioner),
        backbone=settings.backbone or spec,
        prediction=denoiser.prediction.name,
        noise_label=settings.noise_label or describe(denoiser.noise_label),
        guidance=guidance,
        **{name: getattr(settings, name) or getattr(usual, name) for name in ("sampler", "steps", "schedule")},
    )


def continued(base: Diffusion, settings: Settings, data: DataSet, fresh: Conditioner | None) -> Diffusion:
    """The model to train: a copy that knows what the data add, adapted if `settings.lora` says so.

    Codec and weights stay as they are; the size is that of the data, as networks take any.

    Args:
        base: What it starts from, left as it is.
        settings: Resolved ones.
        data: The new images.
        fresh: The conditioner that these data alone would get, whose classes or words are added.
    """
    model = copy.deepcopy(base)
    model.size = data.size
    model.sampling = default_sampling(settings)
    if model.conditioner is not None and fresh is not None:
        model.conditioner = model.conditioner.extended(fresh)
    if settings.lora is not None:
        model.requires_grad_(False)
        _check_rank(settings.lora, model.denoiser.backbone)
        adapt(model.denoiser.backbone, settings.lora)
        new = added(base.conditioner, model.conditioner)
        if new and model.conditioner is not None:
            adapt_rows(model.conditioner.get_submodule("vectors"), rows_of(model.conditioner, new))
    return model


def notes(settings: Settings, data: DataSet, base: Diffusion, model: Diffusion) -> list[str]:
    """What somebody should know about a run that starts from a model, one line each."""
    told = [f"from {settings.start}: its network, codec and wishes are kept"]
    has = [kind for kind, there in (("classes", data.class_names), ("captions", data.train.captions)) if there]
    if base.conditioner is None and has:
        told.append(f"it takes no wishes, so the {' and '.join(has)} of {data.name} are not used")
    elif base.conditioner is not None and settings.cond == "none":
        told.append(f"{data.name} is learned as what the model paints without a wish")
    new = added(base.conditioner, model.conditioner)
    if new:
        shown = ", ".join(new[:8]) + (", ..." if len(new) > 8 else "")
        kind = "classes" if settings.cond == "class" else "words"
        told.append(f"new {kind}: {shown}")
    if base.size != data.size:
        told.append("it was trained on images of {}x{}, and goes on with {}x{}".format(*base.size, *data.size))
    return told


def _cond(settings: Settings, data: DataSet, conditioner: Conditioner | None) -> str:
    kind = KINDS[conditioner.reads] if conditioner else "none"
    if settings.cond not in ("auto", kind, "none"):
        raise ValueError(
            f"cond={settings.cond!r}: {settings.start} was trained with cond={kind!r}, and its network has no place "
            "for another. Leave --cond away, or train without --from."
        )
    there = {"class": data.train.labels is not None, "text": data.train.captions is not None, "none": True}
    return (kind if there[kind] else "none") if settings.cond == "auto" else settings.cond


def _check_rank(rank: int, network: Backbone) -> None:
    largest = largest_rank(network)
    if rank > largest:
        raise ValueError(
            f"lora={rank}: no matrix of this network has a rank above {largest}, so more would be the same. "
            f"Give at most {largest}; 4 or 8 is usual."
        )


def _same(name: str, asked: str | None, its: str, settings: Settings) -> None:
    if asked and asked != its:
        raise ValueError(
            f"{name} {asked!r} was asked for, and {settings.start} has {its!r}. A trained network cannot change it. "
            f"Leave --{name} away, or train without --from."
        )
