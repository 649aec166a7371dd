"""A diffusion model: everything between a condition and an image, in one object that can be saved and loaded."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from noisekiln.codecs.base import Codec
from noisekiln.components.spec import build
from noisekiln.conditioners.base import Conditioner
from noisekiln.conditions import NOTHING, Cond
from noisekiln.denoiser import Denoiser
from noisekiln.estimate import Denoise
from noisekiln.guidance.base import Guidance
from noisekiln.guidance.classifier_free import guidance_of
from noisekiln.levels import CLEAN, Level, level, renoise
from noisekiln.model.generate import Conditions, finished_images, in_batches, in_steps, one_seed_each, rows
from noisekiln.model.sampling import Progress, Sampling
from noisekiln.model.saving import Parts, load_parts, save_parts
from noisekiln.model.tiling import tiled, windows
from noisekiln.samplers.base import Sampler, SeededNoise, grid
from noisekiln.schedules.base import Schedule
from noisekiln.tasks.base import Task

Size = tuple[int, int]
WrapDenoiser = Callable[[Denoise], Denoise]


class Diffusion(nn.Module):
    """Denoiser, codec and conditioner together, for images of one size.

    Args:
        denoiser: The trained network.
        codec: Between images and x.
        size: Height and width of the images, in pixels.
        conditioner: Reads classes or prompts; None for a model without conditions.
        sampling: Default settings of sampling.
        task: What it starts from besides noise; None for nothing.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        codec: Codec,
        size: Size,
        conditioner: Conditioner | None = None,
        sampling: Sampling = Sampling(),
        task: Task | None = None,
    ) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.codec = codec
        self.size = size
        self.conditioner = conditioner
        self.sampling = sampling
        self.task = task

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

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
        start: Tensor | None = None,
        strength: float = 1.0,
        noise: Tensor | None = None,
        size: Size | None = None,
        source: Tensor | None = None,
        wrap_denoiser: WrapDenoiser | None = None,
    ) -> Iterator[Progress]:
        """Generate one image for each condition, step by step and batch by batch.

        Args:
            conditions: Class names or numbers, or prompts, as the model's conditioner takes them, None for none; or how
                many images without a condition.
            seed: Seed of the first image; the others count on from it.
            seeds: A seed for each image, instead. Seed and condition alone decide an image, not its batch.
            batch_size: Images sampled at once; all by default.
            sampler: Sampler or its spec.
            steps: Number of steps, >= 1.
            guidance: Scale (0 ignores the condition, 1 is the model as it is, more follows it more closely), or a
                guidance method.
            schedule: Schedule that the levels are taken from, or its spec.
            start: Clean x to begin from instead of pure noise, (B, C', H', W'), or one for all.
            strength: Noise that is put onto `start`, as a share of the way from clean to noise; steps in proportion.
            noise: Unit noise to begin with instead of that of the seeds, (B, C', H', W'), or one for all.
            size: Height and width in pixels, if larger than the model's: sampled in overlapping tiles.
            source: Images that the model's task starts from, (B, h, w, c) uint8, or one for all; their size decides
                that of the result.
            wrap_denoiser: Wrapped around the denoiser last, to change where the model aims.

        Raises:
            ValueError: For a condition or a setting that is not possible; raised by this call.
        """
        values, seeds = one_seed_each(conditions, seed, seeds)
        self.check_conditions(values)
        method: Sampler = build(Sampler, sampler or self.sampling.sampler)
        levels = self.levels(schedule, steps, 1.0 if start is None else strength)
        guide = guidance_of(self.sampling.guidance if guidance is None else guidance)
        source = self._check_source(source, len(values))
        size = size or self._output_size(source)

        def generate(part: range) -> Iterator[Progress]:
            fresh = SeededNoise([seeds[i] for i in part])
            image = None if source is None else self._condition_image(rows(source, part, len(values), "source"), fresh)
            denoise = self.bind([values[i] for i in part], guide, size, image)
            denoise = wrap_denoiser(denoise) if wrap_denoiser else denoise
            first = fresh(self.empty_x(len(part), size)) if noise is None else rows(noise, part, len(values), "noise")
            if start is None:
                x = levels[0].norm * first
            else:
                x = renoise(rows(start, part, len(values), "start"), CLEAN, levels[0], first)
            return in_steps(denoise, method, levels, x, fresh, partial(self.codec.decode, size=size))

        return in_batches(generate, len(values), batch_size)

    def sample(self, conditions: Conditions, *, seed: int = 0, batch_size: int = 64, **options: Any) -> Tensor:
        """Finished images, without the steps in between: (N, H, W, C) uint8.

        Args:
            conditions: As for `generate`: conditions, or how many images without one.
            seed: Seed of the first image; the others count on from it.
            batch_size: Images sampled at once; it changes nothing but speed and memory.
            options: Other arguments of `generate`.
        """
        return finished_images(self.generate(conditions, seed=seed, batch_size=batch_size, **options))

    def levels(
        self, schedule: str | Schedule | None = None, steps: int | None = None, strength: float = 1.0
    ) -> list[Level]:
        """The levels of the last `strength` of the way to clean, measured in the angle of a level: 0.5 is nsr 1.

        Args:
            schedule: Schedule or its spec; the model's default if None.
            steps: Steps of the whole way; the model's default if None.
            strength: Share of the way, in (0, 1].

        Raises:
            ValueError: If there are no steps, or the strength is not in (0, 1].
        """
        if not 0 < strength <= 1:
            raise ValueError(
                f"`strength={strength:g}` is not possible: it is the share of noise to begin with. "
                "Give more than 0 (keeps all) and at most 1 (keeps nothing)."
            )
        steps = self.sampling.steps if steps is None else steps
        path: Schedule = build(Schedule, schedule or self.sampling.schedule)
        end = path(torch.ones((), dtype=torch.float64))
        # A little less than 1 where the prediction says nothing about the image at pure noise (eps at alpha = 0).
        last = 1.0 if bool(self.denoiser.prediction.determinant(end) != 0) else 0.999
        turn = strength * math.pi / 2
        begin = last if strength == 1 else min(last, float(path.time(level(math.cos(turn), math.sin(turn)))))
        return grid(path, max(min(steps, 1), math.ceil(steps * strength)), begin)

    def check_conditions(self, conditions: Sequence[Any]) -> None:
        """Check that the model can be conditioned on these.

        Raises:
            ValueError: If one of them is unknown, or the model has no conditions.
        """
        if self.conditioner is not None:
            self.conditioner.encode_all(conditions)
            return
        requested = [value for value in conditions if value is not None]
        if requested:
            raise ValueError(
                f"{requested[0]!r} was requested, but this model was trained without conditions. "
                "Leave it away, or train a model on images with classes (a sub-folder each) or captions."
            )

    def check_size(self, size: Size) -> None:
        """Check that images of this height and width can be generated: the model's size, or larger in tiles.

        Raises:
            ValueError: If they are smaller than the model's, or too large.
        """
        windows(size, self.size)

    def empty_x(self, count: int, size: Size | None = None) -> Tensor:
        """An uninitialized x for so many images of (height, width) pixels, the model's own size by default."""
        return torch.empty(count, self.codec.x_channels, *self.codec.x_size(size or self.size), device=self.device)

    def bind(
        self,
        conditions: Sequence[Any],
        guidance: float | str | Guidance = 1.0,
        size: Size | None = None,
        image: Tensor | None = None,
    ) -> Denoise:
        """The denoiser with conditions and ``Cond.image`` bound, and guided.

        Images larger than the model's are denoised in overlapping tiles.

        Args:
            conditions: One for each image, None for none.
            guidance: Scale or guidance; both of its estimates see the image.
            size: Height and width of the images in pixels; the model's by default.
            image: ``Cond.image``, as large as x.
        """
        guide = guidance_of(guidance)
        size = size or self.size
        smaller = size[0] < self.size[0] or size[1] < self.size[1]
        if size == self.size or (smaller and image is not None):  # the source of a task may be smaller
            denoise = self._guided(conditions, guide, image)
        else:
            self.check_size(size)
            denoise = tiled(
                lambda at: self._guided(conditions, guide, None if image is None else image[..., at[0], at[1]]),
                windows(self.codec.x_size(size), self.codec.x_size(self.size)),
            )
        return denoise if self.task is None or image is None else self.task.clamp_known(denoise, image)

    def save(self, folder: str | Path, **metadata: Any) -> None:
        """Write `model.json`, with further entries about the model, and `model.safetensors` to a folder."""
        parts = Parts(self.denoiser, self.codec, self.size, self.conditioner, self.sampling, self.task)
        save_parts(parts, self.state_dict(), Path(folder), metadata)

    @classmethod
    def load(cls, folder: str | Path, *, device: str | torch.device = "cpu", allow_code: bool = False) -> "Diffusion":
        """The model that `save` wrote, ready to sample.

        Args:
            folder: Folder with `model.json`, or a run folder that holds it in `model/`.
            device: Device to load it to.
            allow_code: Whether Python files that the model names may be run; only for files that you trust.

        Raises:
            ValueError: If there is no model, or it is damaged, from a later version, or names Python files.
        """
        model = load_parts(lambda parts: cls(*parts), folder, allow_code=allow_code)
        model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model.eval()

    def _guided(self, conditions: Sequence[Any], guidance: Guidance, image: Tensor | None) -> Denoise:
        self.check_conditions(conditions)
        if self.conditioner is None:
            return self.denoiser.bind(NOTHING._replace(image=image))
        nothing = self.conditioner.nothing(len(conditions)).to(self.device)
        unconditional: Cond = self.conditioner(nothing)._replace(image=image)
        if all(value is None for value in conditions):  # nothing to guide towards
            return self.denoiser.bind(unconditional)
        ids = self.conditioner.encode_all(conditions).to(self.device)
        cond: Cond = self.conditioner(ids)._replace(image=image)
        return guidance(self.denoiser.bind(cond), self.denoiser.bind_both(cond, unconditional))

    def _check_source(self, source: Tensor | None, count: int) -> Tensor | None:
        """The source of every image, (count, h, w, c), if the model's task can start from it."""
        if self.task is not None:
            one = source is not None and source.ndim == 4 and len(source) == 1
            source = source.expand(count, -1, -1, -1) if one and source is not None else source
            return self.task.check_source(source, count, self.codec.image_channels)
        if source is not None:
            raise ValueError(
                "A `source` was given to a model that starts from noise alone. "
                "Leave it away, or train a model with a `task`."
            )
        return None

    def _output_size(self, source: Tensor | None) -> Size:
        if self.task is None or source is None:
            return self.size
        return self.task.output_size((source.shape[1], source.shape[2]), self.size)

    def _condition_image(self, source: Tensor, noise: SeededNoise) -> Tensor:
        """The ``Cond.image`` that a batch starts from."""
        assert self.task is not None
        size = self._output_size(source)
        return self.task.condition_image(source.to(self.device), self.codec, size, noise)
