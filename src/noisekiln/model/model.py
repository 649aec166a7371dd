"""The interface of models: what a single model and a cascade have in common."""

import html
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Self, Unpack

import torch
from torch import Tensor, nn

from noisekiln.codecs.base import Codec, Size
from noisekiln.conditioners.base import Conditioner
from noisekiln.guidance.base import Guidance
from noisekiln.images import Images
from noisekiln.model.arguments_by_name import ArgumentsByName
from noisekiln.model.generate import Conditions, finished_images, resolve_seeds
from noisekiln.model.sampling import Progress, Sampling
from noisekiln.samplers.base import Sampler
from noisekiln.schedules.base import Schedule
from noisekiln.tasks.base import Task


class Model(nn.Module, ABC):
    """Everything between conditions and images: a `Diffusion`, or a `Cascade` of several.

    Attributes:
        codec: Encoder and decoder between images and x.
        size: Height and width of the images, in pixels.
        conditioner: Embedding of classes or prompts; None for an unconditional model.
        sampling: Default settings of sampling.
        task: Kind of image that it starts from; None for a model that starts from noise alone.
    """

    codec: Codec
    size: Size
    conditioner: Conditioner | None
    sampling: Sampling
    task: Task | None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        weights = chain(self.parameters(), self.buffers())  # a user's own network may have none
        return next((weight.device for weight in weights), torch.device("cpu"))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """As in torch, whose `half`, `double`, `to` and others end here; weights of another type are refused.

        Raises:
            ValueError: If they would not be float32.
        """
        dtype = fn(torch.empty(1)).dtype
        if dtype != torch.float32:
            raise ValueError(
                f"The weights of a model were to become {dtype}. They stay torch.float32, as noise, levels and images "
                "do. To compute the network in 16 bits, sample with `precision=bf16` or `precision=fp16`."
            )
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # which returns this module
        return self

    @abstractmethod
    def generate(
        self,
        conditions: Conditions,
        *,
        seed: int = 0,
        seeds: Sequence[int] | None = None,
        batch_size: int | None = None,
        sampler: str | Sampler | None = None,
        steps: int | None = None,
        guidance: float | str | Guidance | None = None,
        schedule: str | Schedule | None = None,
        precision: str = "auto",
    ) -> Iterator[Progress]:
        """Generate one image for each condition, step by step and batch by batch.

        Settings of sampling that are None are the model's own (`sampling`).

        Args:
            conditions: Condition of each image: a class name or number, or a prompt; None for an unconditional image.
                Text is one condition; a number is that of unconditional images.
            seed: Seed of the first image; image i uses seed + i.
            seeds: Seed of each image, instead. An image depends on its seed and condition, not on its batch.
            batch_size: Images sampled at once; as many as memory holds, up to 64, by default.
            sampler: Sampler or its spec.
            steps: Number of steps, >= 1.
            guidance: Guidance scale (0 ignores the condition, 1 is no guidance, higher follows the condition more
                closely), or a guidance method.
            schedule: Schedule of the noise levels, or its spec.
            precision: Precision of the network, "fp32", "bf16" or "fp16"; "auto" is bf16 on a GPU or a CPU with matrix
                units for it, else fp32. Noise, levels and steps are float32 in any case.

        Raises:
            ValueError: For an invalid condition or setting; raised by this call.
        """

    def trial_step(self, conditions: Sequence[Any], **options: Any) -> None:
        """The first step of sampling some images as one batch, and their decoding: the most memory that it takes.

        May be overridden by a model whose later steps take more.

        Args:
            conditions: Condition of each image.
            options: Other arguments of `generate`, apart from `batch_size`.
        """
        next(self.generate(conditions, batch_size=len(conditions), **options)).images()

    @abstractmethod
    def check_conditions(self, conditions: Sequence[Any]) -> None:
        """Check that the model can be conditioned on these.

        Raises:
            ValueError: If one of them is unknown, or the model is unconditional.
        """

    @abstractmethod
    def save(self, folder: str | Path) -> None:
        """Write `model.json` and all weights to a folder, from which `load` reads them."""

    def _repr_html_(self) -> str:
        """A line about it, in a notebook."""
        weights = sum(weight.numel() for weight in self.parameters())
        height, width = self.size
        kind = "no condition" if self.conditioner is None else self.conditioner.kind
        facts = f"{height}x{width}, {weights:,} parameters, condition: {kind}, {self.sampling.steps} steps"
        return f"<b>{type(self).__name__}</b>: {html.escape(f'{facts} of {self.sampling.sampler}')}"

    def sample(
        self,
        conditions: Conditions,
        *,
        seed: int = 0,
        batch_size: int | None = None,
        **options: Unpack[ArgumentsByName],
    ) -> Images:
        """Finished images, without the steps in between: (N, H, W, C) uint8.

        Args:
            conditions: As for `generate`: conditions, or the number of unconditional images.
            seed: Seed of the first image; image i uses seed + i.
            batch_size: Images sampled at once; as many as memory holds, up to 64, by default. It changes only speed
                and memory.
            options: Other arguments of `generate`.
        """
        generate: Callable[..., Iterator[Progress]] = self.generate  # of a cascade, it refuses some of the options
        progress = generate(conditions, seed=seed, batch_size=batch_size, **options)
        self.warn_of_ignored(conditions, stacklevel=3)
        return finished_images(progress)

    def warn_of_ignored(self, conditions: Conditions, *, stacklevel: int) -> None:
        """A Python warning for whatever is ignored in conditions: unknown words, and what exceeds the length.

        Args:
            conditions: Conditions that the model can read.
            stacklevel: 2 for the caller's line, 3 for the line of its caller, ...
        """
        values = [value for value in resolve_seeds(conditions, 0, None)[0] if value is not None]
        for line in self.conditioner.ignored(values) if self.conditioner else ():
            warnings.warn(line, stacklevel=stacklevel)
