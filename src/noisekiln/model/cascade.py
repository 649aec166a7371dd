"""Cascades: a model that generates small images, then models that each make larger ones of them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from noisekiln.components.argument_names import answering_unknown_names
from noisekiln.components.consent import Consent
from noisekiln.components.plain_values import plain
from noisekiln.components.spec import describe
from noisekiln.conditioners.base import Conditioner
from noisekiln.files.hub import is_hub_name
from noisekiln.files.model_folder import model_folder, read_description, write_description
from noisekiln.guidance.base import Guidance
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.generate import Conditions, generate_in_batches, resolve_seeds, with_used
from noisekiln.model.model import Model
from noisekiln.model.sampling import Progress
from noisekiln.model.sampling_batch import fitting_batch, numbers_of_image
from noisekiln.paths import expand_home
from noisekiln.samplers.base import Sampler
from noisekiln.schedules.base import Schedule

SEED_STEP = 0x9E3779B97F4A7C15  # between the seeds of two stages, so that they share no noise


class Cascade(Model):
    """Stages one after another (Ho et al. 2021, "Cascaded Diffusion Models").

    The first generates from noise; each of the others has a task, mostly `upscale`, whose source is the images of the
    stage before. A condition is passed to every stage that knows it.

    Args:
        stages: The models, at least two, the first without a task; all on one device.

    Raises:
        ValueError: If a stage cannot read the images of the one before it.
    """

    def __init__(self, stages: Sequence[Diffusion]) -> None:
        super().__init__()
        _check(stages)
        self.stages = nn.ModuleList(stages)
        first, last = stages[0], stages[-1]
        self.conditioner, self.sampling = first.conditioner, first.sampling
        self.codec, self.size = last.codec, last.size
        self.task = first.task  # none: a cascade starts from noise

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
    ) -> Iterator[Progress]:
        """Generate images as `Model.generate` does, each batch through all stages.

        Conditions are those of the first stage, and `guidance` is for it alone; the others use their own. All other
        settings are for every stage, each of which has its own defaults.
        """
        values, seeds = resolve_seeds(conditions, seed, seeds)
        steps, guidance = plain(steps), plain(guidance)
        self.check_conditions(values)
        first = next(self._stages())
        options: dict[str, Any] = {"sampler": sampler, "steps": steps, "schedule": schedule, "precision": precision}
        steps_of_stages = [len(stage.levels(schedule, steps)) - 1 for stage in self._stages()]

        def generate(part: range) -> Iterator[Progress]:
            own, own_seeds = values[part.start : part.stop], seeds[part.start : part.stop]
            of_first = first.generate(own, seeds=own_seeds, guidance=guidance, batch_size=len(own), **options)
            return self._through(of_first, own, own_seeds, steps_of_stages, options)

        def trial(count: int) -> None:
            self.trial_step(values[:count], seeds=seeds[:count], guidance=guidance, **options)

        numbers = numbers_of_image(self.codec, self.size)
        size = fitting_batch(trial, len(values), numbers, self.device) if batch_size is None else batch_size
        return with_used(generate_in_batches(generate, len(values), size), None)

    def trial_step(self, conditions: Sequence[Any], **options: Any) -> None:
        """The first step of every stage with some images, and their decoding; later stages start from black images."""
        source: Tensor | None = None
        for number, stage in enumerate(self._stages()):
            own = options if number == 0 else {**options, "guidance": None, "source": source}
            stage.trial_step(self._translated(conditions, stage), **own)
            shape = (len(conditions), *stage.size, stage.codec.image_channels)
            source = torch.zeros(shape, dtype=torch.uint8, device=self.device)

    def check_conditions(self, conditions: Sequence[Any]) -> None:
        """Check that the first stage knows these conditions; raises ValueError for one that it does not."""
        next(self._stages()).check_conditions(conditions)

    def save(self, folder: str | Path) -> None:
        """Write `model.json`, and every stage into a sub-folder: `stage0`, `stage1`, ..."""
        folder = expand_home(folder)
        names = [f"stage{number}" for number in range(len(self.stages))]
        for name, stage in zip(names, self._stages(), strict=True):
            stage.save(folder / name)
        write_description({"cascade": names}, folder)

    def _through(
        self,
        of_first: Iterator[Progress],
        conditions: Sequence[Any],
        seeds: Sequence[int],
        steps_of_stages: Sequence[int],
        options: dict[str, Any],
    ) -> Iterator[Progress]:
        """One batch through all stages, from the progress of the first."""
        before, total, last = 0, sum(steps_of_stages), len(steps_of_stages) - 1
        images: Tensor | None = None
        for number, (stage, steps) in enumerate(zip(self._stages(), steps_of_stages, strict=True)):
            progress = of_first
            if number:
                own_seeds = [(seed + number * SEED_STEP) % 2**63 for seed in seeds]
                progress = stage.generate(
                    self._translated(conditions, stage),
                    seeds=own_seeds,
                    source=images,
                    batch_size=len(own_seeds),
                    **options,
                )
            for each in progress:
                finished = each.finished and number == last
                yield replace(each, step=before + each.step, steps=total, finished=finished)
                images = each.images() if each.finished and not finished else None
            before += steps

    def _stages(self) -> Iterator[Diffusion]:
        for stage in self.stages:
            assert isinstance(stage, Diffusion)
            yield stage

    def _translated(self, conditions: Sequence[Any], stage: Diffusion) -> Sequence[Any]:
        """The conditions as a later stage reads them; None for one that it does not know."""
        first, later = self.conditioner, stage.conditioner
        if first is None or first is later:
            return conditions
        return [
            None if later is None or value is None else _translate_value(value, first, later) for value in conditions
        ]


def load(folder: str | Path, *, device: str | torch.device = "cpu", allow_code: bool | Consent = False) -> Model:
    """The model or the cascade of a folder, ready to sample; arguments and errors are those of `Diffusion.load`."""
    place = model_folder(Path(folder))
    names = read_description(place / "model.json").get("cascade")
    if names is None:
        found = place if is_hub_name(folder) else folder  # which errors name
        return Diffusion.load(found, device=device, allow_code=allow_code)
    if not isinstance(names, list) or not all(isinstance(name, str) and name.isalnum() for name in names):
        raise ValueError(
            f"{place / 'model.json'} names no stages of a cascade. It is damaged. "
            "Restore it from a backup, or download it again."
        )
    return Cascade([Diffusion.load(place / name, device=device, allow_code=allow_code) for name in names]).eval()


def _check(stages: Sequence[Diffusion]) -> None:
    if len(stages) < 2:
        raise ValueError(
            f"A cascade needs two models or more, and {len(stages)} {'was' if len(stages) == 1 else 'were'} given. "
            "Give one that generates from noise, and one or more with a task."
        )
    if stages[0].task is not None:
        raise ValueError(
            f"Stage 1 is {describe(stages[0].task)}, which needs images to start from. "
            "Give a model first that was trained without a task."
        )
    for number, (before, stage) in enumerate(pairwise(stages), 2):
        if stage.task is None:
            raise ValueError(
                f"Stage {number} generates from noise alone, and would ignore the images of stage {number - 1}. "
                "Give models with a task after the first, such as one trained with `task=upscale`."
            )
        takes = (*stage.task.source_size(stage.size), stage.task.source_channels(stage.codec.image_channels))
        makes = (*before.size, before.codec.image_channels)
        if takes != makes:
            raise ValueError(
                f"Stage {number}, {describe(stage.task)}, takes {_images(takes)} and makes {_images(stage.size)}, "
                f"but stage {number - 1} makes {_images(makes)}. Train one of them for the other's size and channels."
            )


def _images(shape: tuple[int, ...]) -> str:
    kinds = {1: " in grey", 3: " in colour"}
    return f"{shape[0]}x{shape[1]}" + (kinds.get(shape[2], f" with {shape[2]} channels") if len(shape) > 2 else "")


def _translate_value(value: Any, first: Conditioner, later: Conditioner) -> Any:
    """A class by its name, as its number may differ; a prompt unchanged; None for a value that is unknown there."""
    if first.kind != later.kind:
        return None
    if not first.choices:
        return value
    name = first.choices[int(first.encode([value])[0])]
    return name if name in later.choices else None
