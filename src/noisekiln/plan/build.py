"""From settings and data to a model and its trainer."""

from collections.abc import Sequence

import torch
from torch import Tensor

from noisekiln.backbones.base import Backbone
from noisekiln.blocks.low_rank import factors
from noisekiln.codecs.base import Codec
from noisekiln.codecs.pixels import Pixels
from noisekiln.components.spec import build
from noisekiln.conditioners.base import Conditioner
from noisekiln.conditioners.class_label import ClassLabel
from noisekiln.conditioners.text import Text
from noisekiln.data import DataSet
from noisekiln.denoiser import Denoiser
from noisekiln.distributed.ranks import Ranks
from noisekiln.draws.base import Draw
from noisekiln.loss_weights.base import LossWeight
from noisekiln.machine import memory
from noisekiln.model.diffusion import Diffusion
from noisekiln.noise_labels.base import NoiseLabel
from noisekiln.objectives.denoising import Denoising
from noisekiln.optimizers.muon import Muon, split_for_muon
from noisekiln.plan.default_sampling import default_sampling
from noisekiln.plan.examples import TrainingBatches
from noisekiln.plan.fine_tune import continued
from noisekiln.plan.images import task_of
from noisekiln.plan.learner import Learner
from noisekiln.plan.settings import Settings
from noisekiln.predictions import PREDICTIONS
from noisekiln.tasks.base import Task
from noisekiln.training.budget import Budget, LearningRate
from noisekiln.training.precision import Precision
from noisekiln.training.recompute import blocks_of, recompute
from noisekiln.training.trainer import Trainer


def assemble(
    settings: Settings,
    data: DataSet,
    base: Diffusion | None = None,
    *,
    ranks: Ranks | None = None,
) -> Trainer:
    """The trainer of a `Learner`, for resolved settings; the seed decides the first weights too.

    Args:
        settings: Resolved.
        data: The images.
        base: What training goes on from, if anything.
        ranks: The processes that train together.
    """
    trained = make_learner(settings, data, base)
    assert settings.lr is not None
    assert settings.batch_size is not None
    assert settings.precision is not None
    network = trained.diffusion.denoiser.backbone
    if settings.activation_checkpointing:
        recompute(network)
    return Trainer(
        trained,
        TrainingBatches(trained, data, settings),
        lambda module: make_optimizers(settings.optimizer, trained),
        budget=Budget(settings.minutes, settings.images),
        lr=LearningRate(settings.lr, cool=settings.cooldown),
        batch_size=settings.batch_size,
        micro_batch_size=settings.micro_batch_size,
        seed=settings.seed,
        ema_lengths=(settings.ema_length, settings.ema_length / 2),
        precision=Precision(settings.precision, settings.device),
        ranks=ranks,
        blocks=blocks_of(network) if settings.shard else None,
        ahead=memory.raises_on_oom(settings.device),
    )


def make_learner(settings: Settings, data: DataSet, base: Diffusion | None = None) -> Learner:
    """What is trained, at its start: the same at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        if base is None:
            diffusion = make_diffusion(settings, data)
        else:
            diffusion = continued(base, settings, data, make_conditioner(settings.cond, data))
        objective = Denoising(build(Draw, settings.draw), build(LossWeight, settings.loss_weight))
    trained = Learner(diffusion, objective).to(settings.device)
    trained.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return trained


def make_diffusion(settings: Settings, data: DataSet) -> Diffusion:
    """The untrained model for these data."""
    conditioner = make_conditioner(settings.cond, data)
    codec = Pixels.fit(torch.from_numpy(data.train.pixels))
    task = task_of(settings.task)
    backbone = _make_backbone(settings, codec, conditioner, task)
    assert settings.prediction is not None
    assert settings.noise_label is not None
    denoiser = Denoiser(backbone, PREDICTIONS[settings.prediction], build(NoiseLabel, settings.noise_label))
    return Diffusion(denoiser, codec, data.size, conditioner, default_sampling(settings), task)


def _make_backbone(settings: Settings, codec: Codec, conditioner: Conditioner | None, task: Task | None) -> Backbone:
    """The network; raises ValueError if it cannot see what the task shows."""
    assert settings.backbone is not None
    vector = conditioner.width if conditioner else 0
    if task is not None:
        task.reads(codec.channels)
    image = task.channels(codec.channels) if task else 0
    backbone = build(Backbone, settings.backbone, channels=codec.channels, vector=vector, image=image)
    if backbone.image != image:
        raise ValueError(
            f"backbone={settings.backbone!r} does not read Cond.image, in which {settings.task} shows what is given. "
            "Take another, such as unet, or give its constructor an argument `image`."
        )
    return backbone


def make_conditioner(cond: str, data: DataSet) -> Conditioner | None:
    """The untrained conditioner for these data."""
    if cond == "class":
        return ClassLabel(data.class_names)
    if cond == "text":
        assert data.train.captions is not None
        return Text.fit(data.train.captions)
    return None


def make_optimizers(name: str, trained: Learner) -> Sequence[torch.optim.Optimizer]:
    """Optimizers over all parameters that are not frozen; rates are set by the trainer."""
    parameters = [parameter for parameter in trained.parameters() if parameter.requires_grad]
    if name == "adam":
        return [torch.optim.Adam(parameters, fused=True)]
    inner: list[Tensor] = []
    if name == "muon":
        inner = factors(trained) or split_for_muon(trained, trained.diffusion.denoiser.backbone)[0]
    taken = {id(weight) for weight in inner}
    rest = [parameter for parameter in parameters if id(parameter) not in taken]
    adamw = [torch.optim.AdamW(rest, betas=(0.9, 0.99), weight_decay=0.0, fused=True)] if rest else []
    return [*adamw, Muon(inner)] if inner else adamw
