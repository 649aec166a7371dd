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
from noisekiln.recipes.read import task_of
from noisekiln.recipes.settings import Settings
from noisekiln.recipes.start import continued
from noisekiln.recipes.usual import usual_sampling
from noisekiln.spec import build, describe
from noisekiln.tasks.base import Task
from noisekiln.training.budget import Budget, Rate
from noisekiln.training.muon import Muon, split_for_muon
from noisekiln.training.trainer import Trainer
from noisekiln.weights.base import Weight

Batch = tuple[Tensor, Tensor | None, Tensor | None]  # x, the ids of the wishes, and what a task makes its images of


class Trained(nn.Module):
    """All that is trained: the model, and what the objective learns along."""

    def __init__(self, diffusion: Diffusion, objective: Objective) -> None:
        super().__init__()
        self.diffusion = diffusion
        self.objective = objective


def assemble(settings: Settings, data: DataSet, base: Diffusion | None = None) -> Trainer[Batch]:
    """The trainer of a `Trained`, for resolved settings; the seed decides the first weights too.

    With a `base`, training goes on from it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        if base is None:
            diffusion = make_diffusion(settings, data)
        else:
            diffusion = continued(base, settings, data, make_conditioner(settings.cond, data))
        objective = Denoising(build(Draw, settings.draw), build(Weight, settings.weight))
    trained = Trained(diffusion, objective).to(settings.device)
    trained.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert settings.rate is not None
    assert settings.batch is not None
    return Trainer(
        trained,
        lambda batch, generator: _loss(trained, batch, settings.drop, generator),
        Batches(diffusion, data, settings.seed, settings.device, told=settings.cond != "none"),
        make_optimizers(settings.optimizer, trained),
        budget=Budget(settings.minutes, settings.images),
        rate=Rate(settings.rate, cool=settings.cool),
        batch=settings.batch,
        seed=settings.seed,
        ema_length=settings.ema,
    )


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
    """Batches of the training part, encoded: a function of the seed and the images seen before.

    Args:
        diffusion: Its codec and conditioner do the encoding; wishes are encoded once, here.
        data: The images.
        seed: Of their order.
        device: Where batches go.
        told: Whether the images come with their wishes; if not, with none.
    """

    def __init__(self, diffusion: Diffusion, data: DataSet, seed: int, device: str, *, told: bool = True) -> None:
        self.codec, self.images, self.seed, self.device = diffusion.codec, data.train, seed, device
        self.task = diffusion.task
        if self.task is not None and self.task.paired and data.train.partners is None:
            raise ValueError(
                f"{describe(self.task)} learns from pairs of images, and {data.name} holds single ones. "
                "Read them with noisekiln.data.load_pairs."
            )
        conditioner = diffusion.conditioner
        self.ids: Tensor | None = None
        if conditioner is not None:
            self.ids = wishes(conditioner, data) if told else conditioner.nothing(len(self.images))

    def __call__(self, start: int, count: int) -> Batch:
        """The next `count` images after `start`."""
        rows = batch_order(len(self.images), seed=self.seed, start=start, count=count)
        pixels = torch.from_numpy(self.images.pixels[rows]).to(self.device)
        ids = None if self.ids is None else self.ids[torch.from_numpy(rows)]
        return self.codec.encode(pixels), ids, self._seen(pixels, rows)

    def _seen(self, pixels: Tensor, rows: NDArray[np.int64]) -> Tensor | None:
        if self.task is None or not self.task.paired:
            return None if self.task is None else pixels
        assert self.images.partners is not None
        return torch.from_numpy(self.images.partners[rows]).to(self.device)


def _loss(trained: Trained, batch: Batch, drop: float, generator: torch.Generator) -> Loss:
    x, ids, seen = batch
    conditioner, task = trained.diffusion.conditioner, trained.diffusion.task
    cond = NOTHING
    if conditioner is not None and ids is not None:
        cond = conditioner(conditioner.drop(ids, drop, generator).to(x.device))
    if task is not None and seen is not None:
        cond = cond._replace(image=task.degrade(seen, trained.diffusion.codec, generator))
    loss: Loss = trained.objective(trained.diffusion.denoiser, x, cond, generator)
    return loss
