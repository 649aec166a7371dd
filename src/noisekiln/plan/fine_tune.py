"""Fine-tuning: settings, model and notes of a run that starts from a trained model."""

import copy

from noisekiln.backbones.base import INTERFACE, Backbone
from noisekiln.blocks.low_rank import adapt, adapt_rows, largest_rank
from noisekiln.codecs.base import Codec
from noisekiln.components.registry import name_of
from noisekiln.components.spec import build, class_of, describe, matches, with_defaults
from noisekiln.conditioners.base import Conditioner
from noisekiln.data import DataSet
from noisekiln.draws.steps import Steps
from noisekiln.errors import counted
from noisekiln.model.adapter import new_entries, rows_of
from noisekiln.model.diffusion import Diffusion
from noisekiln.noise_labels.base import NoiseLabel
from noisekiln.noise_labels.time import Time
from noisekiln.plan.conditioning import make_conditioner
from noisekiln.plan.default_sampling import default_sampling
from noisekiln.plan.settings import Settings
from noisekiln.plan.source_models import start_name
from noisekiln.plan.task_data import GENERATE
from noisekiln.schedules.tables.beta_table import BetaTable
from noisekiln.tasks.base import Task


def settings_from_base_model(settings: Settings, data: DataSet, base: Diffusion) -> Settings:
    """The settings, with those of the network copied from the base model.

    Raises:
        ValueError: If the settings request another network, or the data are of another kind.
    """
    denoiser, default = base.denoiser, base.sampling
    if data.channels != base.codec.image_channels:
        raise ValueError(
            f"{data.name} has images of {counted(data.channels, 'channel')}, and {settings.start} was trained on "
            f"{base.codec.image_channels} (1 is grey, 3 is RGB). Its network has no input for them. "
            "Convert the images, or train without `start`."
        )
    task = describe(base.task, include_defaults=True) if base.task else GENERATE
    if settings.task != GENERATE:
        _check_same("task", describe(build(Task, settings.task), include_defaults=True), task, settings)
    codec = name_of(type(base.codec))
    if settings.codec is not None and not matches(Codec, settings.codec, base.codec):
        _check_same("codec", settings.codec, describe(base.codec, include_defaults=True), settings)
    _check_same("prediction", settings.prediction, denoiser.prediction.name, settings)
    label = settings.noise_label and describe(build(NoiseLabel, settings.noise_label), include_defaults=True)
    _check_same("noise_label", label, describe(denoiser.noise_label, include_defaults=True), settings)
    spec = describe(denoiser.backbone, include_defaults=True, exclude=INTERFACE)
    _check_network(settings, base, spec)
    return settings.replace(
        task=settings.task if settings.task != GENERATE else task,
        cond=_conditioner_name(settings, data, base.conditioner),
        codec=codec,
        backbone=spec,
        prediction=denoiser.prediction.name,
        noise_label=settings.noise_label or describe(denoiser.noise_label),
        draw=_own_draw(settings, denoiser.noise_label),
        guidance=default.guidance if settings.guidance is None else settings.guidance,
        sampler=settings.sampler or default.sampler,
        steps=settings.steps or default.steps,
        schedule=settings.schedule or default.schedule,
    )


def prepare_model_to_fine_tune(base: Diffusion, settings: Settings, data: DataSet) -> Diffusion:
    """The model to train: a copy of `base` with the conditions of the data added, and an adapter if `lora` is set.

    Codec and weights are unchanged; the size is that of the data, because networks accept any size.

    Args:
        base: Model that training starts from; not changed.
        settings: Resolved settings.
        data: New images, whose classes or words are added.
    """
    model = copy.deepcopy(base)
    model.size = data.size
    model.sampling = default_sampling(settings)
    extendable = model.conditioner is not None and model.conditioner.table() is not None
    if model.conditioner is not None and extendable and settings.cond != "none":
        fresh = make_conditioner(settings.cond, data)
        if fresh is not None:
            model.conditioner = model.conditioner.extended(fresh)
    model.codec.requires_grad_(False)
    if settings.lora is not None:
        model.requires_grad_(False)
        _check_rank(settings.lora, model.denoiser.backbone)
        adapt(model.denoiser.backbone, settings.lora)
        new = new_entries(base.conditioner, model.conditioner)
        table = model.conditioner.table() if model.conditioner is not None else None
        if new and model.conditioner is not None and table is not None:
            embedding = model.conditioner.get_submodule(table[0].rpartition(".")[0])
            adapt_rows(embedding, rows_of(model.conditioner, new))
    return model


def notes(settings: Settings, data: DataSet, base: Diffusion, model: Diffusion) -> list[str]:
    """Notes for the user about a run that starts from a model, one line each."""
    lines = [f"continues from {start_name(settings)}: its network, codec and conditions are kept"]
    has = [kind for kind, there in (("classes", data.class_names), ("captions", data.train.captions)) if there]
    if base.conditioner is None and has:
        lines.append(f"its model is unconditional, so the {' and '.join(has)} of {data.name} are not used")
    elif base.conditioner is not None and settings.cond == "none":
        lines.append(f"{data.name} is trained as unconditional images")
    new = new_entries(base.conditioner, model.conditioner)
    if new and model.conditioner is not None:
        kind = "classes" if model.conditioner.choices else "words"
        lines.append(f"new {kind}: {', '.join(new[:8])}{', ...' if len(new) > 8 else ''}")
    if base.size != data.size:
        lines.append("it was trained on images of {}x{}, and is fine-tuned on {}x{}".format(*base.size, *data.size))
    return lines


def _own_draw(settings: Settings, label: NoiseLabel) -> str:
    """The requested draw; by default, for a network that reads whole steps of a table, one of these."""
    if settings.draw != Settings.draw or not isinstance(label, Time) or not isinstance(label.schedule, BetaTable):
        return settings.draw
    return describe(Steps(label.schedule, label.schedule.steps))


def _check_network(settings: Settings, base: Diffusion, spec: str) -> None:
    """Raise ValueError if a spec or size of another network than the base's is requested."""
    network = base.denoiser.backbone
    kind, requested = type(network), settings.backbone
    if requested is None and settings.model == "auto":
        return
    if settings.model != "auto" and settings.model in kind.sizes:
        x_size = base.codec.x_size(base.size)
        sized = kind.sized(settings.model, x_size, latents=base.codec.costly)
        requested = with_defaults(Backbone, requested or name_of(kind), sized)
    interface = {name: getattr(network, name) for name in INTERFACE}
    whole = requested and describe(build(Backbone, requested, **interface), include_defaults=True, exclude=INTERFACE)
    _check_same("model" if settings.backbone is None else "backbone", whole or settings.model, spec, settings)


def _conditioner_name(settings: Settings, data: DataSet, conditioner: Conditioner | None) -> str:
    """The conditioner's name, or "none" if the data have no values for it."""
    own = "none" if conditioner is None else name_of(type(conditioner))
    if settings.cond == "none":
        return settings.cond
    requested = own if settings.cond == "auto" else name_of(class_of(Conditioner, settings.cond))
    if requested != own:
        raise ValueError(
            f"`cond={settings.cond}`: {settings.start} was trained with `cond={own}`, and its network has no input "
            "for another. Omit `cond`, or train without `start`."
        )
    if conditioner is None or conditioner.values(data.train, data.class_names) is not None:
        return own
    if settings.cond == "auto":
        return "none"
    raise ValueError(
        f"`cond={settings.cond}` needs {conditioner.needs}, and {data.name} has none. Add them, or omit `cond`."
    )


def _check_rank(rank: int, network: Backbone) -> None:
    largest = largest_rank(network)
    if rank > largest:
        raise ValueError(
            f"`lora={rank}`: no matrix of this network has a rank above {largest}, so more has no effect. "
            f"Give at most {largest}, such as 4 or 8."
        )


def _check_same(name: str, requested: str | None, own: str, settings: Settings) -> None:
    if requested and requested != own:
        raise ValueError(
            f"`{name}` {requested!r} was requested, but {settings.start} has {own!r}. A trained network cannot change "
            f"it. Omit `{name}`, or train without `start`."
        )
