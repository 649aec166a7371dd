"""A diffusion model: everything between a condition and an image, in one object that can be saved and loaded."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from noisekiln.codecs.base import Codec, Size, check_image_size
from noisekiln.components.argument_names import answering_unknown_names
from noisekiln.components.consent import Consent
from noisekiln.components.plain_values import plain
from noisekiln.components.setting import check_argument
from noisekiln.components.spec import build
from noisekiln.conditioners.base import Conditioner, conds_of
from noisekiln.data.sizes import height_and_width
from noisekiln.denoisers import Denoiser
from noisekiln.estimate import Denoise
from noisekiln.guidance.base import Guidance
from noisekiln.guidance.classifier_free import guidance_of
from noisekiln.levels import CLEAN, Level, renoise
from noisekiln.machine.autocast import choose_precision
from noisekiln.machine.graphs import use_cuda_graphs
from noisekiln.machine.transfer import module_to_device
from noisekiln.model.generate import (
    Conditions,
    check_rows,
    generate_batch,
    generate_in_batches,
    resolve_seeds,
    rows_of_batch,
    with_used,
    wrapped,
)
from noisekiln.model.guided import guided
from noisekiln.model.model import Model
from noisekiln.model.sampling import Progress, Sampling, UsedSampling, WrapDenoiser
from noisekiln.model.sampling_batch import fitting_batch, numbers_of_image
from noisekiln.model.sampling_request import SamplingRequest
from noisekiln.model.saving import Parts, load_parts, save_parts
from noisekiln.model.strength import levels_from
from noisekiln.model.task_source import check_source, condition_image, output_size
from noisekiln.model.tiling import tiled, windows
from noisekiln.paths import expand_home
from noisekiln.samplers.base import Sampler, SeededNoise, check_steps
from noisekiln.schedules.base import Schedule
from noisekiln.tasks.base import Task


class Diffusion(Model):
    """Denoiser, codec and conditioner together, for images of one size.

    Args:
        denoiser: The trained network.
        codec: Encoder and decoder between images and x.
        size: Height and width of the images, in pixels.
        conditioner: Embedding of classes or prompts; None for an unconditional model.
        sampling: Default settings of sampling.
        task: Kind of image that it starts from; None for a model that starts from noise alone.

    Attributes:
        cuda_graphs: Whether a network with a `static_graph` runs by CUDA graphs on an Nvidia GPU: faster, same images.
    """

    cuda_graphs = True

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

    @answering_unknown_names("arguments")
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
        start: Tensor | None = None,
        strength: float = 1.0,
        noise: Tensor | None = None,
        size: Size | None = None,
        source: Tensor | None = None,
        wrap_denoiser: WrapDenoiser | None = None,
    ) -> Iterator[Progress]:
        """Generate images as `Model.generate` does, also from an image, or of another size.

        Arguments in addition to those of every model:
            start: Clean x to start from instead of pure noise, (B, C', H', W') or (1, C', H', W').
            strength: Share of noise that is added to `start`, in (0, 1]; the number of steps is reduced in proportion.
            noise: Unit noise to start with instead of the seeds' noise, (B, C', H', W') or (1, C', H', W').
            size: Height and width in pixels, if larger than the model's: sampled in overlapping tiles.
            source: Images that the model's task starts from, (B, h, w, c) or (1, h, w, c) uint8; their size determines
                the size of the result.
            wrap_denoiser: Function from the conditioned and guided denoiser to the one that is sampled.

        Raises:
            ValueError: For an invalid condition or setting; raised by this call.
        """
        values, seeds = resolve_seeds(conditions, seed, seeds)
        self.check_conditions(values)
        used = self._used(sampler, plain(steps), plain(guidance), schedule)
        levels = self.levels(used.schedule, used.steps, 1.0 if start is None else plain(strength))
        precision = choose_precision(precision, self.device.type)
        source = check_source(self.task, source, len(values), self.codec.image_channels)
        size = self._checked_size(size, source)
        for name, x in (("start", start), ("noise", noise)):
            check_rows(x, (self.codec.x_channels, *self.codec.x_size(size)), len(values), name)
        request = SamplingRequest(values, seeds, used, levels, size, precision, start, noise, source, wrap_denoiser)
        return with_used(self._generate(request, batch_size), used)

    def _generate(self, request: SamplingRequest, batch_size: int | None) -> Iterator[Progress]:
        """All images of a request, in batches of so many, or of as many as memory holds."""
        generate, count = partial(self._generate_batch, request), len(request.conditions)

        def trial(count: int) -> None:
            next(generate(range(count))).images()

        numbers = numbers_of_image(self.codec, request.size)
        size = fitting_batch(trial, count, numbers, self.device) if batch_size is None else batch_size
        return generate_in_batches(generate, count, size)

    def _generate_batch(self, request: SamplingRequest, part: range) -> Iterator[Progress]:
        """The images of a request with these indices; what is invalid raises in this call."""
        fresh, size, levels = SeededNoise([request.seeds[i] for i in part]), request.size, request.levels
        image = None
        if request.source is not None:
            own = rows_of_batch(request.source, part).to(self.device)
            image = condition_image(self.task, own, self.codec, self.size, fresh)
        conditions = [request.conditions[i] for i in part]
        denoise = self.bind(conditions, request.used.guidance, size, image, request.precision)
        denoise = denoise if request.wrap_denoiser is None else wrapped(denoise, request.wrap_denoiser)
        noise = fresh(self.empty_x(len(part), size)) if request.noise is None else rows_of_batch(request.noise, part)
        if request.start is None:
            x = levels[0].norm * noise
        else:
            x = renoise(rows_of_batch(request.start, part), CLEAN, levels[0], noise)
        decode = partial(self.codec.decode, size=size)
        return generate_batch(denoise, request.used.sampler, levels, x, fresh, decode)

    def _used(
        self,
        sampler: str | Sampler | None,
        steps: int | None,
        guidance: float | str | Guidance | None,
        schedule: str | Schedule | None,
    ) -> UsedSampling:
        """The settings of a call, and the model's own for those that are None."""
        own = self.sampling
        return UsedSampling(
            sampler=build(Sampler, sampler or own.sampler),
            steps=own.steps if steps is None else steps,
            guidance=guidance_of(own.guidance if guidance is None else guidance),
            schedule=build(Schedule, schedule or own.schedule),
        )

    def _checked_size(self, size: Size | None, source: Tensor | None) -> Size:
        """Height and width of the images of a request: as requested, or as its source has them, or the model's."""
        size = output_size(self.task, source, self.size) if size is None else height_and_width(size)
        if size != self.size:
            if source is None:
                windows(size, self.size)  # raises if they do not cover it, or are too many
            check_image_size(self.codec, size, self.device)
        return size

    def levels(
        self, schedule: str | Schedule | None = None, steps: int | None = None, strength: float = 1.0
    ) -> list[Level]:
        """The levels from a share of noise to clean; see `levels_from`.

        Args:
            schedule: Schedule or its spec; the model's default if None.
            steps: Steps from noise to clean; the model's default if None.
            strength: Share of the noise, in (0, 1].

        Raises:
            ValueError: If there are no steps, or the strength is not in (0, 1].
        """
        path: Schedule = build(Schedule, schedule or self.sampling.schedule)
        steps = check_steps(self.sampling.steps if steps is None else steps)
        return levels_from(strength, path, steps, self.denoiser.prediction)

    def check_conditions(self, conditions: Sequence[Any]) -> None:  # noqa: D102 (the base class says it)
        if self.conditioner is not None:
            self.conditioner.encode_all(conditions)
            return
        requested = [value for value in conditions if value is not None]
        if requested:
            raise ValueError(
                f"{requested[0]!r} was requested, but this model was trained without conditions. "
                "Omit it, or train a model on images with classes (a sub-folder each) or captions."
            )

    def check_size(self, size: Size) -> None:
        """Check that images of this height and width can be generated: the model's size, or larger in tiles.

        Raises:
            ValueError: If they are smaller than the model's, too large, or of a size that its codec cannot encode.
        """
        windows(size, self.size)
        check_image_size(self.codec, size, self.device)

    def empty_x(self, count: int, size: Size | None = None) -> Tensor:
        """An uninitialized x for `count` images of (height, width) pixels, the model's own size by default."""
        return torch.empty(count, self.codec.x_channels, *self.codec.x_size(size or self.size), device=self.device)

    def bind(
        self,
        conditions: Sequence[Any],
        guidance: float | str | Guidance = 1.0,
        size: Size | None = None,
        image: Tensor | None = None,
        precision: str = "auto",
    ) -> Denoise:
        """The denoiser with conditions and ``Cond.image`` bound, and guided.

        Images larger than the model's are denoised in overlapping tiles.

        Args:
            conditions: Condition of each image, None for an unconditional one.
            guidance: Scale or guidance; both of its estimates are conditioned on `image`.
            size: Height and width of the images in pixels; the model's by default.
            image: ``Cond.image``, as large as x.
            precision: Precision of the network, as for `generate`.
        """
        guide, precision = guidance_of(guidance), choose_precision(precision, self.device.type)
        if self.cuda_graphs and self.device.type == "cuda" and self.denoiser.backbone.static_graph:
            use_cuda_graphs(self.denoiser.backbone)
        size = size or self.size
        self.check_conditions(conditions)
        cond, unconditional = conds_of(self.conditioner, conditions, self.device)

        def on_image(image: Tensor | None) -> Denoise:
            nothing = None if unconditional is None else unconditional.with_image(image)
            return guided(self.denoiser, guide, cond.with_image(image), nothing, precision)

        smaller = size[0] < self.size[0] or size[1] < self.size[1]
        if size == self.size or (smaller and image is not None):  # a task may generate smaller images
            denoise = on_image(image)
        else:
            windows(size, self.size)  # raises if they do not cover it
            denoise = tiled(
                lambda at: on_image(None if image is None else image[..., at[0], at[1]]),
                windows(self.codec.x_size(size), self.codec.x_size(self.size)),
            )
        return denoise if self.task is None or image is None else self.task.clamp_known(denoise, image)

    def save(self, folder: str | Path, **metadata: Any) -> None:
        """Write `model.json`, with further entries about the model, and `model.safetensors` to a folder."""
        parts = Parts(self.denoiser, self.codec, self.size, self.conditioner, self.sampling, self.task)
        save_parts(parts, self.state_dict(), expand_home(folder), metadata)

    @classmethod
    @torch.inference_mode(False)  # weights that were made in that mode could never be differentiated
    def load(
        cls, folder: str | Path, *, device: str | torch.device = "cpu", allow_code: bool | Consent = False
    ) -> "Diffusion":
        """The model that `save` wrote, ready to sample.

        Args:
            folder: Folder with `model.json`, or a run folder that holds it in `model/`.
            device: Device to load it to.
            allow_code: Whether Python files that the model names may be run, or which; only files that you trust.

        Raises:
            ValueError: If there is no model, or it is damaged, from a later version, or names Python files.
        """
        check_argument("folder", folder, Path)
        model = load_parts(lambda parts: cls(*parts), folder, Consent.of(allow_code))
        return module_to_device(model, device).eval()
