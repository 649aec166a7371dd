"""A diffusion model, whole: everything between a wish and a picture, in one object that can be saved and loaded."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from noisekiln.backbones.base import Backbone
from noisekiln.codecs.base import Codec
from noisekiln.components.spec import build, describe
from noisekiln.conditioners.base import Conditioner
from noisekiln.conditions import NOTHING, Cond
from noisekiln.denoiser import Denoiser
from noisekiln.estimate import Denoise
from noisekiln.files.atomic import replacing
from noisekiln.files.model_folder import digest, model_folder, read_description, read_weights, write_description
from noisekiln.guidance.base import Guidance
from noisekiln.guidance.classifier_free import guidance_of
from noisekiln.levels import CLEAN, Level, NoiseSource, level, renoise
from noisekiln.model.sampling import Progress, Sampling
from noisekiln.model.tiling import tiled, windows
from noisekiln.noise_labels.base import NoiseLabel
from noisekiln.predictions import PREDICTIONS
from noisekiln.samplers.base import Sampler, SeededNoise, grid, sample
from noisekiln.schedules.base import Schedule
from noisekiln.tasks.base import Task

Steer = Callable[[Denoise], Denoise]


class Diffusion(nn.Module):
    """Denoiser, codec, and conditioner together, for images of one size.

    Args:
        denoiser: The trained part that sees noisy images.
        codec: Between images and x.
        size: Height and width of x.
        conditioner: What reads classes or prompts; None for a model that takes no wishes.
        sampling: How it is sampled unless asked otherwise.
        task: What it starts from besides noise; None for nothing.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        codec: Codec,
        size: tuple[int, int],
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

    @torch.no_grad()
    def generate(
        self,
        wanted: Sequence[str | int | None],
        *,
        seeds: Sequence[int],
        sampler: str | Sampler | None = None,
        steps: int | None = None,
        guidance: float | str | Guidance | None = None,
        schedule: str | Schedule | None = None,
        start: Tensor | None = None,
        strength: float = 1.0,
        noise: Tensor | None = None,
        size: tuple[int, int] | None = None,
        steer: Steer | None = None,
        given: Tensor | None = None,
    ) -> Iterator[Progress]:
        """Paint one image for each wish, step by step; the last `Progress` holds the finished ones.

        Args:
            wanted: Class names or numbers, or prompts, as the model's conditioner takes them; None wishes for nothing.
            seeds: One an image: the seed and the wish alone decide an image, not its batch.
            sampler: A sampler or its spec.
            steps: Number of steps, >= 1.
            guidance: A scale (0 ignores the wish, 1 is the model as it is, above asks more strongly), or a guidance.
            schedule: Along which levels, or its spec.
            start: Clean x to begin from instead of from nothing, (B, C, H, W) or (1, C, H, W).
            strength: How much noise is put on it, as a share of the way from clean to noise; steps in proportion.
            noise: Unit noise to begin with instead of that of the seeds, (B, C, H, W).
            size: Height and width of x, if larger than the model's own: painted in overlapping tiles.
            steer: A last wrapper of the denoiser, for what else shall change where the model aims.
            given: What the model's task starts from, one an image, as pixels (B, h, w, c) uint8: small or grey images,
                images whose last channel says what is known, ...; its size decides that of the pictures.

        Raises:
            ValueError: For a wish, a setting or a number that cannot be, with what can.
        """
        if len(wanted) != len(seeds):
            raise ValueError(f"{len(wanted)} wishes came with {len(seeds)} seeds. Give one seed for each image.")
        usual = self.sampling
        method: Sampler = build(Sampler, sampler or usual.sampler)
        path: Schedule = build(Schedule, schedule or usual.schedule)
        source = SeededNoise(seeds)
        shown, image = self._shown(given, len(seeds), source)
        denoise = self.bind(wanted, usual.guidance if guidance is None else guidance, size or shown, image)
        denoise = steer(denoise) if steer else denoise
        levels = self.levels(path, usual.steps if steps is None else steps, 1.0 if start is None else strength)
        like = torch.empty(len(seeds), self.codec.channels, *(size or shown), device=self._device())
        first = source(like) if noise is None else noise
        x = levels[0].norm * first if start is None else renoise(start, CLEAN, levels[0], first)
        for i, x_s in enumerate(sample(denoise, method, levels, x, source), 1):
            if i == len(levels) - 1 and not bool(x_s.isfinite().all()):
                raise ValueError(
                    "What was painted is no longer made of numbers. "
                    "Take a lower guidance or a weaker adapter, or other steps and sampler."
                )
            yield Progress(i, len(levels) - 1, x_s, self.codec)

    def levels(self, schedule: str | Schedule, steps: int, strength: float = 1.0) -> list[Level]:
        """The levels of the last `strength` of the way to clean, measured in the angle of a level: 0.5 is nsr 1.

        Raises:
            ValueError: If there are no steps, or the strength is not in (0, 1].
        """
        if not 0 < strength <= 1:
            raise ValueError(
                f"A strength of {strength:g} is not possible: it is the share of noise to begin with. "
                "Give more than 0 (keep all) and at most 1 (keep nothing)."
            )
        path: Schedule = build(Schedule, schedule)
        end = path(torch.ones((), dtype=torch.float64))
        # A little less than 1 where the prediction says nothing about the image at pure noise (eps at alpha = 0).
        last = 1.0 if bool(self.denoiser.prediction.determinant(end) != 0) else 0.999
        turn = strength * math.pi / 2
        begin = last if strength == 1 else min(last, float(path.time(level(math.cos(turn), math.sin(turn)))))
        return grid(path, max(min(steps, 1), math.ceil(steps * strength)), begin)

    def sample(
        self, wanted: int | Sequence[str | int | None], *, seed: int = 0, batch: int = 64, **settings: Any
    ) -> Tensor:
        """Finished images, without the steps in between: (B, H, W, C) uint8.

        Args:
            wanted: How many images without a wish, or the wishes as `generate` takes them.
            seed: Of the first image; the others count on from it.
            batch: Images painted at once; it changes nothing but speed and memory.
            settings: The other settings of `generate`.
        """
        wanted = [None] * wanted if isinstance(wanted, int) else wanted
        seeds = settings.pop("seeds", range(seed, seed + len(wanted)))
        given = settings.pop("given", None)
        if not wanted or batch < 1:
            raise ValueError(
                f"{len(wanted)} images in batches of {batch}: there is nothing to paint. Ask for 1 or more."
            )
        done = []
        for i in range(0, len(wanted), batch):
            part = slice(i, i + batch)
            shown = None if given is None else given[part]
            *_, last = self.generate(wanted[part], seeds=seeds[part], given=shown, **settings)
            done.append(last.images())
        return torch.cat(done)

    def count_steps(self, asked: int | None = None) -> int:
        """Steps to a picture, unless asked for so many."""
        return self.sampling.steps if asked is None else asked

    def bind(
        self,
        wanted: Sequence[str | int | None],
        guidance: float | str | Guidance = 1.0,
        size: tuple[int, int] | None = None,
        image: Tensor | None = None,
    ) -> Denoise:
        """The denoiser with these wishes and ``Cond.image`` bound, and guided: the unwanted sees the image too.

        Of images larger than the model's, given by their size, it is made of overlapping tiles.
        """
        size = size or self.size
        smaller = size[0] < self.size[0] or size[1] < self.size[1]
        if size == self.size or (smaller and image is not None):  # what a task is given may be smaller
            denoise = self._guided(wanted, guidance, image)
        else:
            denoise = tiled(
                lambda at: self._guided(wanted, guidance, None if image is None else image[..., at[0], at[1]]),
                windows(size, self.size),
            )
        return denoise if self.task is None or image is None else self.task.clamp_known(denoise, image)

    def _guided(
        self, wanted: Sequence[str | int | None], guidance: float | str | Guidance, image: Tensor | None
    ) -> Denoise:
        guide = guidance_of(guidance)
        if self.conditioner is None:
            if any(wish is not None for wish in wanted):
                asked = next(wish for wish in wanted if wish is not None)
                raise ValueError(
                    f"{asked!r} was asked for, but this model was trained without classes or captions. "
                    "Sample it without, or train one on images with classes (a sub-folder each) or captions."
                )
            return self.denoiser.bind(NOTHING._replace(image=image))
        ids = self.conditioner.nothing(len(wanted))
        for i, wish in enumerate(wanted):
            if wish is not None:
                ids[i] = self.conditioner.encode([wish])[0]
        device = self._device()
        cond: Cond = self.conditioner(ids.to(device))._replace(image=image)
        away: Cond = self.conditioner(self.conditioner.nothing(len(wanted)).to(device))._replace(image=image)
        if all(wish is None for wish in wanted):  # nothing to guide towards
            return self.denoiser.bind(away)
        return guide(self.denoiser.bind(cond), self.denoiser.bind_both(cond, away))

    def save(self, folder: str | Path, **notes: Any) -> None:
        """Write `model.json`, with any notes about the model, and `model.safetensors` into a folder, which is made."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        denoiser = self.denoiser
        told = {
            "size": list(self.size),
            "backbone": describe(denoiser.backbone, whole=True),
            "prediction": denoiser.prediction.name,
            "label": describe(denoiser.noise_label, whole=True),
            "codec": describe(self.codec, whole=True),
            "conditioner": describe(self.conditioner, whole=True) if self.conditioner else None,
            "sampling": asdict(self.sampling),
            "task": describe(self.task, whole=True) if self.task else None,
            **notes,
        }
        weights = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        with replacing(folder / "model.safetensors") as draft:  # whoever samples meanwhile never reads half a file
            save_file(weights, draft, metadata={"sha256": digest(weights)})
        write_description(told, folder)

    @classmethod
    def load(cls, folder: str | Path, *, device: str | torch.device = "cpu", allow_code: bool = False) -> "Diffusion":
        """The model that `save` wrote, ready to sample.

        Args:
            folder: The folder with `model.json`, or a run folder that holds it in `model/`.
            device: Where to put it.
            allow_code: Whether a component from somebody's own Python file may be run; only for files that you trust.

        Raises:
            ValueError: If there is no model there, or it is damaged, or of a later version.
        """
        folder = model_folder(Path(folder))
        told = read_description(folder / "model.json")
        if "cascade" in told:
            raise ValueError(
                f"{folder} holds a cascade of models, not a single one. "
                "Use `noisekiln sample` or noisekiln.load; or give one of its stages, the folders in it."
            )
        if any(".py:" in str(spec) for spec in told.values()) and not allow_code:
            raise ValueError(
                f"{folder} runs Python code of its maker's, which could do anything. "
                "If you trust it, allow it: --allow-code, or allow_code=True."
            )
        try:
            model = cls._told(told)
            model.load_state_dict(read_weights(folder / "model.safetensors"))
        except (KeyError, TypeError, ValueError, OSError, RuntimeError, SafetensorError) as error:
            raise ValueError(f"The model in {folder} is missing or damaged ({error}). Take another copy.") from error
        model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model.eval()

    @classmethod
    def _told(cls, told: dict[str, Any]) -> "Diffusion":
        """The model that a `model.json` describes, untrained."""
        backbone: Backbone = build(Backbone, told["backbone"])
        denoiser = Denoiser(backbone, PREDICTIONS[told["prediction"]], build(NoiseLabel, told["label"]))
        conditioner: Conditioner | None = build(Conditioner, told["conditioner"]) if told["conditioner"] else None
        codec: Codec = build(Codec, told["codec"])
        task: Task | None = build(Task, told["task"]) if told.get("task") else None  # older models say nothing of it
        return cls(denoiser, codec, tuple(told["size"]), conditioner, Sampling(**told["sampling"]), task)

    def _shown(self, given: Tensor | None, count: int, noise: NoiseSource) -> tuple[tuple[int, int], Tensor | None]:
        """The size of the pictures, and the ``Cond.image`` that they start from."""
        if self.task is None and given is None:
            return self.size, None
        if self.task is None:
            raise ValueError("Images were given to a model that starts from noise alone. Train one with a task.")
        given = self.task.check_source(given, count, self.codec.channels).to(self._device())
        size = self.task.output_size((given.shape[1], given.shape[2]), self.size)
        return size, self.task.condition_image(given, self.codec, size, noise)

    def _device(self) -> torch.device:
        return next(self.parameters()).device
