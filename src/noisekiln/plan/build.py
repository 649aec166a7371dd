"""Construction of a model and its trainer from settings and data."""

import copy

import torch

from noisekiln.backbones.base import INTERFACE, Backbone
from noisekiln.codecs.base import Codec
from noisekiln.components.spec import build, class_of, has_argument
from noisekiln.conditioners.base import Conditioner
from noisekiln.conditions import NOTHING, CondSizes
from noisekiln.data import DataSet
from noisekiln.denoisers import Denoiser
from noisekiln.distributed.ranks import Ranks
from noisekiln.draws.base import Draw
from noisekiln.guidance.classifier_free import guidance_of
from noisekiln.loss_weights.base import LossWeight
from noisekiln.machine.memory import is_async
from noisekiln.machine.transfer import module_to_device
from noisekiln.model.diffusion import Diffusion
from noisekiln.noise_labels.base import NoiseLabel
from noisekiln.objectives.base import Objective
from noisekiln.optimizers.base import OptimizerFactory
from noisekiln.plan.conditioning import make_conditioner
from noisekiln.plan.default_sampling import default_sampling
from noisekiln.plan.fine_tune import prepare_model_to_fine_tune
from noisekiln.plan.learner import Learner
from noisekiln.plan.network_check import check_network
from noisekiln.plan.settings import Settings
from noisekiln.plan.task_data import task_of
from noisekiln.plan.teacher import check_teacher_fits
from noisekiln.plan.training_batches import TrainingBatches
from noisekiln.predictions import PREDICTIONS
from noisekiln.tasks.base import Task
from noisekiln.training.activation_checkpointing import blocks_of, checkpoint_activations
from noisekiln.training.budget import Budget, LearningRate
from noisekiln.training.placement import Placement
from noisekiln.training.trainer import Trainer


def make_trainer(
    settings: Settings,
    data: DataSet,
    base: Diffusion | None = None,
    *,
    teacher: Diffusion | None = None,
    codec: Codec | None = None,
    ranks: Ranks | None = None,
) -> Trainer:
    """The trainer of a `Learner`, for resolved settings; the seed also determines the initial weights.

    Args:
        settings: Resolved settings.
        data: The images.
        base: The model to fine-tune, if any.
        teacher: The model that the objective distils, if any.
        codec: The codec that an earlier start of the run made, if any; it is not made again.
        ranks: The processes that train together.

    Raises:
        ValueError: If the codec cannot encode images of this size, or the network cannot be trained.
    """
    learner = make_learner(settings, data, base, teacher, codec)
    check_network(learner, data.size)
    assert settings.lr is not None
    assert settings.batch_size is not None
    assert settings.precision is not None
    network = learner.diffusion.denoiser.backbone
    if settings.activation_checkpointing:
        checkpoint_activations(network)
    optimizer: OptimizerFactory = build(OptimizerFactory, settings.optimizer)
    return Trainer(
        learner,
        TrainingBatches(learner, data, settings),
        lambda module: optimizer(module, network),
        budget=Budget(settings.minutes, settings.image_budget(len(data.train))),
        lr=LearningRate(settings.lr, cooldown=settings.cooldown),
        batch_size=settings.batch_size,
        seed=settings.seed,
        ema_lengths=(settings.ema_length, settings.ema_length / 2),
        placement=Placement(
            device=settings.device,
            ranks=ranks or Ranks(),
            precision=settings.precision,
            micro_batch_size=settings.micro_batch_size,
            shard_blocks=blocks_of(network) if settings.shard else None,
            deterministic=settings.deterministic,
            prefetch=is_async(settings.device),
        ),
    )


def make_learner(
    settings: Settings,
    data: DataSet,
    base: Diffusion | None = None,
    teacher: Diffusion | None = None,
    codec: Codec | None = None,
) -> Learner:
    """The untrained `Learner`, the same at every call; arguments are those of `make_trainer`."""
    if codec is None and teacher is not None:
        codec = teacher.codec
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        if base is None:
            diffusion = make_diffusion(settings, data, codec)
        else:
            diffusion = prepare_model_to_fine_tune(base, settings, data)
        objective = make_objective(settings)
    if guidance_of(diffusion.sampling.guidance).weaker == "early exit":
        diffusion.denoiser.bind_exits(NOTHING)  # raises if there is none: now, and not at the first grid
    diffusion.cuda_graphs = settings.compile != "no"
    if teacher is not None:
        check_teacher_fits(diffusion, teacher, settings)
        teacher = copy.deepcopy(teacher)
    return module_to_device(Learner(diffusion, objective, teacher), settings.device)


def make_diffusion(settings: Settings, data: DataSet, codec: Codec | None = None) -> Diffusion:
    """The untrained model for these data, with a new codec if `codec` is None."""
    assert settings.prediction is not None
    assert settings.noise_label is not None
    conditioner = make_conditioner(settings.cond, data)
    codec = make_codec(settings, data) if codec is None else copy.deepcopy(codec)
    task = task_of(settings.task)
    backbone = make_backbone(settings, codec, conditioner, task)
    denoiser = Denoiser(backbone, PREDICTIONS[settings.prediction], build(NoiseLabel, settings.noise_label))
    return Diffusion(denoiser, codec, data.size, conditioner, default_sampling(settings), task)


def make_codec(settings: Settings, data: DataSet) -> Codec:
    """The codec for these data."""
    assert settings.codec is not None
    unfitted: Codec = build(Codec, settings.codec)
    return unfitted.fit(torch.from_numpy(data.train.pixels))


def make_backbone(settings: Settings, codec: Codec, conditioner: Conditioner | None, task: Task | None) -> Backbone:
    """The network, built for the slots of `Cond` that are filled.

    Raises:
        ValueError: If it does not read the task's condition image, or no slot of the condition.
    """
    assert settings.backbone is not None
    filled = conditioner.sizes if conditioner else CondSizes()
    if task is not None:
        task.source_channels(codec.image_channels)
        if filled.image:
            raise ValueError(
                f"`cond={settings.cond}` fills Cond.image, and so does `task={settings.task}`: a network reads one "
                "condition image. Omit one of them."
            )
        filled = filled._replace(image=task.condition_channels(codec.x_channels))
    kind = class_of(Backbone, settings.backbone)
    if filled.image and not has_argument(kind, "image"):
        source = f"cond={settings.cond}" if task is None else f"task={settings.task}"
        raise ValueError(
            f"`backbone={settings.backbone}` does not read Cond.image, which `{source}` fills. "
            "Use another, such as unet, or give its constructor an argument `image`."
        )
    if conditioner is not None and not any(
        has_argument(kind, slot) for slot, size in conditioner.sizes._asdict().items() if size
    ):
        raise ValueError(
            f"`backbone={settings.backbone}` reads neither Cond.vector nor Cond.tokens, one of which `cond="
            f"{settings.cond}` fills. Use another, such as unet, or `cond=none`."
        )
    return build(Backbone, settings.backbone, **dict(zip(INTERFACE, (codec.x_channels, *filled), strict=True)))


def make_objective(settings: Settings) -> Objective:
    """The objective, with the draw and the loss weight of the settings if it has these arguments."""
    return build(
        Objective,
        settings.objective,
        draw=build(Draw, settings.draw),
        loss_weight=build(LossWeight, settings.loss_weight),
    )
