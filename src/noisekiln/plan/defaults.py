"""Defaults of settings, from the data, the machine and the budget."""

import torch

from noisekiln.backbones.base import Backbone
from noisekiln.codecs.base import Codec, Size
from noisekiln.components.registry import did_you_mean, name_of
from noisekiln.components.spec import build, class_of, with_defaults
from noisekiln.data import DataSet
from noisekiln.distributed.torchrun import world_size
from noisekiln.logs.base import choose_log
from noisekiln.machine.autocast import best_precision, has_fast_half
from noisekiln.machine.devices import pick_device
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.sampling import Sampling
from noisekiln.optimizers.base import OptimizerFactory
from noisekiln.plan.conditioning import choose_cond
from noisekiln.plan.fine_tune import settings_from_base_model
from noisekiln.plan.network_size import fitting_batch, fitting_size, images_in_minutes
from noisekiln.plan.settings import Settings
from noisekiln.plan.task_data import task_of

COMPILE_MINUTES = 10  # twice the budget from which the minute that compiling takes is gained back (records/gpu.json)
COMPILE_IMAGES = 2_500_000  # about as long: 10 minutes at 4,000 images per second


def resolve(settings: Settings, data: DataSet, base: Diffusion | None = None, codec: Codec | None = None) -> Settings:
    """The settings with every None and "auto" replaced by a default.

    Args:
        settings: Requested settings.
        data: The images.
        base: Model to fine-tune, if any.
        codec: The codec, if it has weights already.

    Raises:
        ValueError: If a component does not exist, the data have no values for a condition, or a device is not
            available.
    """
    if base is not None:
        settings = settings_from_base_model(settings, data, base)
    settings = with_budget(settings).with_absolute_paths()
    device, default = settings.device, Sampling()
    settings = settings.replace(
        size=data.size,
        codec=settings.codec or "pixels",
        precision=settings.precision or default_precision(device, shard=settings.shard),
    )
    if codec is None:
        unfitted: Codec = build(Codec, str(settings.codec))
        codec = unfitted.fit(torch.from_numpy(data.train.pixels[:1]))
    settings = settings.replace(**choose_network(settings, codec, data.size))
    images = images_in_minutes(settings, str(settings.backbone), codec)
    count = len(data.train)
    batch_size = settings.batch_size or min(fitting_batch(settings, images), settings.image_budget(count) or count)
    return settings.replace(
        road=settings.road if settings.road == "latent" else "pixels",
        cond=choose_cond(settings.cond, data) if base is None else settings.cond,
        prediction=settings.prediction or "v",
        noise_label=settings.noise_label or "angle",
        batch_size=min(batch_size, max(count, 1)),
        lr=settings.lr or default_lr(settings),
        compile=settings.compile if settings.compile != "auto" else default_compile(device, settings, count),
        sampler=settings.sampler or default.sampler,
        steps=settings.steps or default.steps,
        schedule=settings.schedule or default.schedule,
        guidance=settings.guidance if settings.guidance is not None else 1.5 if task_of(settings.task) is None else 1.0,
        curves=choose_log(settings.curves),
    )


def with_budget(settings: Settings) -> Settings:
    """The settings with the device that "auto" stands for, and with the default budget if none was requested."""
    device, minutes = pick_device(settings.device), settings.minutes
    if minutes is None and settings.images is None and settings.epochs is None:
        minutes = 10.0 if device == "cpu" else 30.0
    return settings.replace(device=device, minutes=minutes)


def default_precision(device: str, *, shard: bool = False) -> str:
    """The precision of training: bf16 on a GPU or CPU with units for it, fp16 on an older GPU with some, else fp32.

    Args:
        device: "cpu", "cuda" or "mps".
        shard: Whether weights are sharded, which fp16's loss scaling does not support.
    """
    return "fp16" if device == "cuda" and not shard and has_fast_half() else best_precision(device)


def default_compile(device: str, settings: Settings, images: int = 0) -> str:
    """How the network runs on an Nvidia GPU: compiled if the budget pays for it, otherwise by CUDA graphs.

    Neither if the run has to be repeatable to the bit, nor on other devices. CUDA graphs are for a single process, and
    for a network that says that it has a static graph.

    Args:
        device: "cpu", "cuda" or "mps".
        settings: The settings.
        images: Images of an epoch.
    """
    if device != "cuda" or settings.deterministic:
        return "no"
    budget = max(settings.images or 0, (settings.epochs or 0) * images)
    if (settings.minutes or 0) >= COMPILE_MINUTES or budget >= COMPILE_IMAGES:
        return "yes"
    static = class_of(Backbone, settings.backbone or "unet").static_graph and not settings.activation_checkpointing
    return "graphs" if static and world_size() == 1 else "no"


def default_lr(settings: Settings) -> float:
    """The peak learning rate: lower for weights that are trained already, higher for adapters (see LOG.md)."""
    lr = class_of(OptimizerFactory, settings.optimizer).lr
    if settings.lora is not None:
        return 3 * lr
    return lr if settings.start is None else lr / 3


def choose_network(settings: Settings, codec: Codec, image_size: Size) -> dict[str, str]:
    """The settings `model` and `backbone`: the architecture at the requested size, or at one that fits the budget.

    Args:
        settings: Settings with device, precision and size.
        codec: Codec of the images.
        image_size: Height and width of the images.

    Raises:
        ValueError: If the architecture has no such size.
    """
    spec = settings.backbone or "unet"
    kind = class_of(Backbone, spec)
    if settings.model == "auto" and not kind.sizes:
        return {"model": "auto", "backbone": with_defaults(Backbone, spec, {})}

    def sized(name: str) -> str:
        return with_defaults(Backbone, spec, kind.sized(name, codec.x_size(image_size), latents=codec.costly))

    def images(name: str) -> float:
        return images_in_minutes(settings, sized(name), codec)

    size = settings.model if settings.model != "auto" else kind.default_size or fitting_size(kind, settings, images)
    if size not in kind.sizes:
        known = did_you_mean(size, ("auto", *kind.sizes), "sizes") if kind.sizes else "It has no sizes to choose from."
        raise ValueError(f"`model={size}` is not a size of {name_of(kind)}. {known}")
    return {"model": size, "backbone": sized(size)}
