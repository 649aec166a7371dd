"""A cascade: a model that paints small, then models that each make more of what the one before has painted."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from noisekiln.components.spec import describe
from noisekiln.conditioners.base import Conditioner
from noisekiln.estimate import Denoise
from noisekiln.files.model_folder import model_folder, read_description, write_description
from noisekiln.guidance.base import Guidance
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.sampling import Progress
from noisekiln.samplers.base import Sampler
from noisekiln.schedules.base import Schedule

APART = 0x9E3779B97F4A7C15  # between the seeds of two stages, so that they share no noise


class Cascade(nn.Module):
    """Stages one after another, with the face of a `Diffusion` (Ho et al. 2021, "Cascaded Diffusion Models").

    The first paints from noise; each of the others has a task, mostly `upscale`, and is given the pictures of the one
    before. A wish goes to every stage that knows it.

    Args:
        stages: The models, the first without a task, at least two; all on one device.

    Raises:
        ValueError: If a stage cannot take what the one before it makes.
    """

    def __init__(self, stages: Sequence[Diffusion]) -> None:
        super().__init__()
        _check(stages)
        self.stages = nn.ModuleList(stages)
        first, last = stages[0], stages[-1]
        self.conditioner, self.sampling = first.conditioner, first.sampling
        self.codec, self.size = last.codec, last.size

    def generate(
        self,
        wanted: Sequence[str | int | None],
        *,
        seeds: Sequence[int],
        sampler: str | Sampler | None = None,
        steps: int | None = None,
        guidance: float | str | Guidance | None = None,
        schedule: str | Schedule | None = None,
    ) -> Iterator[Progress]:
        """Paint one image for each wish, step by step and stage by stage; the last `Progress` holds the finished ones.

        Args:
            wanted: As the first stage takes them.
            seeds: One an image: the seed and the wish alone decide it.
            sampler: Of every stage; each has its own unless asked otherwise.
            steps: Of every stage, likewise.
            guidance: Of the first stage; the others have their own.
            schedule: Of every stage.
        """
        done, total = 0, self.count_steps(steps)
        given: Tensor | None = None
        for number, stage in enumerate(self._stages()):
            progress = None
            for progress in stage.generate(
                self._passed_on(wanted, stage),
                seeds=[(seed + number * APART) % 2**63 if number else seed for seed in seeds],
                sampler=sampler,
                steps=steps,
                guidance=guidance if number == 0 else None,
                schedule=schedule,
                given=given,
            ):
                yield replace(progress, step=done + progress.step, steps=total)
            assert progress is not None
            done, given = done + progress.steps, progress.images()

    def sample(
        self, wanted: int | Sequence[str | int | None], *, seed: int = 0, batch: int = 64, **settings: Any
    ) -> Tensor:
        """Finished images, (B, H, W, C) uint8; arguments are those of `Diffusion.sample`."""
        wanted = [None] * wanted if isinstance(wanted, int) else wanted
        seeds = settings.pop("seeds", range(seed, seed + len(wanted)))
        if not wanted or batch < 1:
            raise ValueError(f"{len(wanted)} images in batches of {batch} are none. Ask for 1 or more.")
        done = []
        for i in range(0, len(wanted), batch):
            *_, last = self.generate(wanted[i : i + batch], seeds=seeds[i : i + batch], **settings)
            done.append(last.images())
        return torch.cat(done)

    def bind(self, wanted: Sequence[str | int | None]) -> Denoise:
        """The first stage's denoiser with these wishes bound; raises ValueError for a wish that cannot be."""
        return next(self._stages()).bind(wanted)

    def count_steps(self, asked: int | None = None) -> int:
        """Steps in all, with so many a stage or each stage's own number."""
        return sum(stage.count_steps(asked) for stage in self._stages())

    def save(self, folder: str | Path) -> None:
        """Write `model.json`, and every stage into a sub-folder: `stage0`, `stage1`, ..."""
        folder = Path(folder)
        names = [f"stage{number}" for number in range(len(self.stages))]
        for name, stage in zip(names, self._stages(), strict=True):
            stage.save(folder / name)
        write_description({"cascade": names}, folder)

    def _stages(self) -> Iterator[Diffusion]:
        for stage in self.stages:
            assert isinstance(stage, Diffusion)
            yield stage

    def _passed_on(self, wanted: Sequence[str | int | None], stage: Diffusion) -> Sequence[str | int | None]:
        """The wishes as this stage takes them; None for one that it does not know."""
        first, later = self.conditioner, stage.conditioner
        if first is None or first is later:
            return wanted
        return [None if later is None or wish is None else _translated(wish, first, later) for wish in wanted]


Model = Diffusion | Cascade


def load(folder: str | Path, *, device: str | torch.device = "cpu", allow_code: bool = False) -> Model:
    """The model or the cascade of a folder, ready to sample; arguments and errors are those of `Diffusion.load`."""
    place = model_folder(Path(folder))
    names = read_description(place / "model.json").get("cascade")
    if names is None:
        return Diffusion.load(place, device=device, allow_code=allow_code)
    if not isinstance(names, list) or not all(isinstance(name, str) and name.isalnum() for name in names):
        raise ValueError(f"{place / 'model.json'} names no stages of a cascade. It is damaged; take another copy.")
    return Cascade([Diffusion.load(place / name, device=device, allow_code=allow_code) for name in names]).eval()


def _check(stages: Sequence[Diffusion]) -> None:
    if len(stages) < 2:
        raise ValueError(
            f"A cascade needs two models or more, and {len(stages)} came. "
            "Give one that paints from noise, and one or more tasks."
        )
    if stages[0].task is not None:
        raise ValueError(
            f"Stage 1 is {describe(stages[0].task)}, which needs images to start from. "
            "Give a model first that was trained without a task."
        )
    for number, (before, stage) in enumerate(pairwise(stages), 2):
        if stage.task is None:
            raise ValueError(
                f"Stage {number} paints from noise alone, and would take nothing of stage {number - 1}. "
                "Give models with a task after the first, such as one of --task upscale."
            )
        takes = (*stage.task.source_size(stage.size), stage.task.source_channels(stage.codec.channels))
        makes = (*before.size, before.codec.channels)
        if takes != makes:
            raise ValueError(
                f"Stage {number}, {describe(stage.task)}, takes {_told(takes)} and makes {_told(stage.size)}, "
                f"but stage {number - 1} makes {_told(makes)}. Train one of them for the other's size and channels."
            )


def _told(shape: tuple[int, ...]) -> str:
    kinds = {1: " in grey", 3: " in colour"}
    return f"{shape[0]}x{shape[1]}" + (kinds.get(shape[2], f" with {shape[2]} channels") if len(shape) > 2 else "")


def _translated(wish: str | int, first: Conditioner, later: Conditioner) -> str | int | None:
    """A class by its name, which may have another number there; a prompt as it is; None for what is unknown there."""
    if not first.choices:
        return None if later.choices else wish
    name = first.choices[int(first.encode([wish])[0])]
    return name if name in later.choices else None
