"""What an exported model does, in terms of its parts: the source that `model_code` copies, with the parts, into a file.

A smaller `Diffusion`, without loading by specs, checks of settings, tiles and progress.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from noisekiln.codecs.base import Codec
from noisekiln.conditioners.base import Conditioner, conds_of
from noisekiln.denoisers import Denoiser
from noisekiln.estimate import Denoise
from noisekiln.guidance.base import Guidance
from noisekiln.guidance.classifier_free import ClassifierFree
from noisekiln.levels import NoiseSource
from noisekiln.model.guided import guided
from noisekiln.model.strength import levels_from
from noisekiln.samplers.base import Sampler, sample
from noisekiln.schedules.base import Schedule
from noisekiln.tasks.base import Task


class StandaloneModel(nn.Module):
    """Denoiser, codec and conditioner of a trained model, and the loop that makes images of noise.

    Args:
        denoiser: The trained network.
        codec: Encoder and decoder between images and x.
        size: Height and width of the images, in pixels.
        conditioner: Embedding of classes or prompts; None for an unconditional model.
        task: Kind of image that it starts from; None for a model that starts from noise alone.
        sampler: How a step moves, by default.
        steps: Number of steps, by default.
        guidance: Guidance, by default.
        schedule: Noise levels of the steps.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        codec: Codec,
        size: tuple[int, int],
        conditioner: Conditioner | None,
        task: Task | None,
        sampler: Sampler,
        steps: int,
        guidance: Guidance,
        schedule: Schedule,
    ) -> None:
        super().__init__()
        self.denoiser, self.codec = denoiser, codec
        self.conditioner, self.task = conditioner, task
        self.size, self.steps = size, steps
        self.sampler, self.guidance = sampler, guidance
        self.schedule = schedule

    @torch.no_grad()
    def images(
        self,
        conditions: Sequence[Any],
        noise: NoiseSource,
        *,
        steps: int | None = None,
        guidance: float | None = None,
        start: Tensor | None = None,
        source: Tensor | None = None,
        progress: Callable[[Iterator[Tensor], int], Iterator[Tensor]] = lambda each, count: each,
    ) -> Tensor:
        """Images of conditions, (B, H, W, C) uint8.

        Args:
            conditions: A class name or number, or a prompt, for each image; None for an unconditional one.
            noise: Source of unit noise, for the start and for samplers that add some.
            steps: Number of steps; the model's own if None.
            guidance: Scale of classifier-free guidance; the model's own if None.
            start: Unit noise to start from, (B, C', H', W'), instead of the source's.
            source: Images that the task starts from, (B, h, w, c) uint8.
            progress: Wrapped around the steps: a bar.
        """
        weight = next(self.parameters())
        size, image = self.size, None
        if self.task is not None:
            checked = self.task.check_source(source, len(conditions), self.codec.image_channels)
            size = self.task.output_size((checked.shape[1], checked.shape[2]), self.size)
            image = self.task.condition_image(checked.to(weight.device), self.codec, size, noise).to(weight.dtype)
        guide = self.guidance if guidance is None else ClassifierFree(guidance)
        denoise = self._denoise(conditions, guide, image)
        levels = levels_from(1.0, self.schedule, steps or self.steps, self.denoiser.prediction)
        x = weight.new_empty(len(conditions), self.codec.x_channels, *self.codec.x_size(size))
        x = levels[0].norm * (noise(x) if start is None else start.to(x))
        steps_done = progress(sample(denoise, self.sampler, levels, x, noise), len(levels) - 1)
        return self.codec.decode(deque(steps_done, maxlen=1)[0], size)

    def _denoise(self, conditions: Sequence[Any], guidance: Guidance, image: Tensor | None) -> Denoise:
        cond, unconditional = conds_of(self.conditioner, conditions, next(self.parameters()).device)
        nothing = None if unconditional is None else unconditional.with_image(image)
        denoise = guided(self.denoiser, guidance, cond.with_image(image), nothing)
        return denoise if self.task is None or image is None else self.task.clamp_known(denoise, image)
