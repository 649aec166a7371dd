"""From settings and data to a model and its trainer."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from noisekiln.backbones.base import Backbone
from noisekiln.blocks.low_rank import factors
from noisekiln.codecs.base import Codec
from noisekiln.codecs.pixels import Pixels
from noisekiln.conditioners.base import Conditioner
from noisekiln.conditioners.class_label import ClassLabel
from noisekiln.conditioners.text import Text
from noisekiln.conditions import NOTHING
from noisekiln.data import DataSet, batch_order
from noisekiln.denoiser import Denoiser
from noisekiln.diffusion import Diffusion
from noisekiln.draws.base import Draw
from noisekiln.labels.base import Label
from noisekiln.objectives.base import Loss, Objective
from noisekiln.objectives.denoising import Denoising
from noisekiln.predictions import PREDICTIONS
from noisekiln.recipes.network import blocks_of, recompute
from noisekiln.recipes.read import task_of
from noisekiln.recipes.settings import Settings
from noisekiln.recipes.start import continued
from noisekiln.recipes.usual import usual_sampling
from noisekiln.spec import build, describe
from noisekiln.tasks.base import Task
from noisekiln.training import memory
from noisekiln.training.budget import Budget, Rate
from noisekiln.training.muon import Muon, split_for_muon
from noisekiln.training.peers import Peers
from noisekiln.training.precision import Precision
from noisekiln.training.rows import Rows
from noisekiln.training.trainer import Trainer
from noisekiln.weights.base import Weight


class Trained(nn.Module):
    """All that is trained: the model, and what the objective learns along."""

    def __init__(self, diffusion: Diffusion, objective: Objective) -> None:
        super().__init__()
        self.diffusion = diffusion
        self.objective = objective

    def forward(self, x: Tensor, ids: Tensor | None, image: Tensor | None, *drawn: Tensor) -> Loss:
        """The loss of some rows of `Batches`."""
        conditioner, cond = self.diffusion.conditioner, NOTHING
        if conditioner is not None and ids is not None:
            cond = conditioner(ids)
        return self.objective.loss(self.diffusion.denoiser, x, cond._replace(image=image), drawn)


def assemble(
    settings: Settings,
    data: DataSet,
    base: Diffusion | None = None,
    *,
    peers: Peers | None = None,
) -> Trainer:
    """The trainer of a `Trained`, for resolved settings; the seed decides the first weights too.

    Args:
        settings: Resolved.
        data: The images.
        base: What training goes on from, if anything.
        peers: The processes that train together.
    """
    trained = make_trained(settings, data, base)
    assert settings.rate is not None
    assert settings.batch is not None
    assert settings.precision is not None
    network = trained.diffusion.denoiser.backbone
    if settings.recompute:
        recompute(network)
    return Trainer(
        trained,
        Batches(trained, data, settings),
        lambda module: make_optimizers(settings.optimizer, trained),
        budget=Budget(settings.minutes, settings.images),
        rate=Rate(settings.rate, cool=settings.cool),
        batch=settings.batch,
        micro=settings.micro,
        seed=settings.seed,
        ema_lengths=(settings.ema, settings.ema / 2),
        precision=Precision(settings.precision, settings.device),
        peers=peers,
        blocks=blocks_of(network) if settings.shard else None,
        ahead=memory.ends_hard(settings.device),
    )


def make_trained(settings: Settings, data: DataSet, base: Diffusion | None = None) -> Trained:
    """What is trained, at its start: the same at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        if base is None:
            diffusion = make_diffusion(settings, data)
        else:
            diffusion = continued(base, settings, data, make_conditioner(settings.cond, data))
        objective = Denoising(build(Draw, settings.draw), build(Weight, settings.weight))
    trained = Trained(diffusion, objective).to(settings.device)
    trained.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return trained


def make_diffusion(settings: Settings, data: DataSet) -> Diffusion:
    """The untrained model for these data."""
    conditioner = make_conditioner(settings.cond, data)
    codec = Pixels.fit(torch.from_numpy(data.train.pixels))
    task = task_of(settings.task)
    backbone = _make_backbone(settings, codec, conditioner, task)
    assert settings.prediction is not None
    assert settings.label is not None
    denoiser = Denoiser(backbone, PREDICTIONS[settings.prediction], build(Label, settings.label))
    return Diffusion(denoiser, codec, data.size, conditioner, usual_sampling(settings), task)


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


def make_optimizers(name: str, trained: Trained) -> Sequence[torch.optim.Optimizer]:
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


def wishes(conditioner: Conditioner, data: DataSet) -> Tensor:
    """Ids of what each training image shows, as the conditioner knows it: a class has its row by its name."""
    if conditioner.reads == "labels" and conditioner.choices != data.class_names:
        return conditioner.encode(data.class_names)[torch.as_tensor(data.train.labels)]
    return conditioner.encode(getattr(data.train, conditioner.reads))


class Batches:
    """Rows of the training part, encoded, with all that is random about them.

    A row has x, the ids of its wish, what a task shows of it, and what the objective draws for it.

    Args:
        trained: Its codec, conditioner, task and objective; wishes are encoded once, here.
        data: The images.
        settings: Resolved.
    """

    def __init__(self, trained: Trained, data: DataSet, settings: Settings) -> None:
        diffusion = trained.diffusion
        self.diffusion, self.objective, self.images = diffusion, trained.objective, data.train
        self.seed, self.drop, self.device = settings.seed, settings.drop, settings.device
        task, conditioner = diffusion.task, diffusion.conditioner
        if task is not None and task.paired and data.train.partners is None:
            raise ValueError(
                f"{describe(task)} learns from pairs of images, and {data.name} holds single ones. "
                "Read them with noisekiln.data.load_pairs."
            )
        self.ids: Tensor | None = None
        if conditioner is not None:
            told = settings.cond != "none"
            self.ids = wishes(conditioner, data) if told else conditioner.nothing(len(self.images))

    def __call__(self, start: int, count: int, generator: torch.Generator) -> Rows:
        """The next `count` images after `start`."""
        places = self.places(start, count)
        pixels = self._on_device(self.images.pixels[places])
        x, ids, image = self.diffusion.codec.encode(pixels), None, None
        if self.ids is not None and self.diffusion.conditioner is not None:
            ids = self.ids[torch.from_numpy(places)]
            ids = self.diffusion.conditioner.drop(ids, self.drop, generator).to(x.device)
        task = self.diffusion.task
        if task is not None:
            partners = self.images.partners
            seen = self._on_device(partners[places]) if task.paired and partners is not None else pixels
            image = task.degrade(seen, self.diffusion.codec, generator)
        return x, ids, image, *self.objective.drawn(x, generator)

    def places(self, start: int, count: int) -> NDArray[np.int64]:
        """Which images of the training part these are."""
        return batch_order(len(self.images), seed=self.seed, start=start, count=count)

    def _on_device(self, pixels: NDArray[np.uint8]) -> Tensor:
        return torch.from_numpy(pixels).to(self.device)
