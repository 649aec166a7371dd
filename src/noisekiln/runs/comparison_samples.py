"""Samples of several models with equal seeds and equal conditions."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from noisekiln.components.limits import check_at_most
from noisekiln.components.spec import build
from noisekiln.conditioners.base import Conditioner, Value
from noisekiln.errors import reason_of
from noisekiln.files.atomic import atomic_write
from noisekiln.files.pictures import ImageArray
from noisekiln.files.png_text import png_text
from noisekiln.guidance.classifier_free import guidance_of
from noisekiln.model.cascade import load
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.model import Model
from noisekiln.model.sampling import Progress, UsedSampling
from noisekiln.plots.comparison_sheet import LabelledGrid, draw_grids
from noisekiln.runs.comparison import GRIDS, Comparison
from noisekiln.runs.comparison_conditions import ImagesOfRuns, SharedConditions, sources_of, trained_conditioner
from noisekiln.runs.comparison_table import count_in_words
from noisekiln.runs.run_summary import RunSummary
from noisekiln.samplers.base import Sampler
from noisekiln.schedules.base import Schedule
from noisekiln.session.image_record import describe_sampling
from noisekiln.session.prompts import RequestedConditions

COUNT, MOST = 16, 256  # images of each model


class RunProgress(NamedTuple):
    """Progress of sampling one model after another.

    Attributes:
        name: The model that is sampled.
        number: Its number, from 1.
        total: Models in all.
        step: Steps done of this model, 1 ... steps.
        steps: Steps of this model.
    """

    name: str
    number: int
    total: int
    step: int
    steps: int


class ComparedSamples:
    """Samples every model of a comparison with the same seeds and conditions, and draws all grids on one sheet.

    One model is in memory at a time. One that cannot be sampled is left out, with a note.

    Args:
        comparison: The comparison.
        count: Images of each model.
        seed: Seed of the first image; image i uses seed + i.
        requested: Requested conditions, as text.
        device: Device of the models.
        allow_code: Whether Python files that the models name may be run.
        batch_size: Images sampled at once; by default as many as memory holds, up to 64.
        note: Called with each line for the user.
        options: Other arguments of `generate`, for all models: sampler, steps, guidance, schedule, precision.

    Attributes:
        grids: The finished grids.
        finished: Names of the models that were sampled.
    """

    def __init__(
        self,
        comparison: Comparison,
        *,
        count: int = COUNT,
        seed: int = 0,
        requested: RequestedConditions = RequestedConditions(),
        device: str = "cpu",
        allow_code: bool = False,
        batch_size: int | None = None,
        note: Callable[[str], None] = lambda text: None,
        **options: Any,
    ) -> None:
        check_count(count)
        self.runs = [run for run in comparison.runs if run.model is not None]
        self.count, self.seed = count, seed
        self.device, self.allow_code = device, allow_code
        self.note, self._options = note, {"batch_size": batch_size, **options}
        self._images = ImagesOfRuns()
        self._conditions = SharedConditions(self.runs, count, requested, self._images, note)
        self.grids: list[LabelledGrid] = []
        self.finished: list[str] = []
        self._sources: list[ImageArray] = []

    def sample(self) -> Generator[RunProgress]:
        """Sample all models; `grids` has those that are finished, also if this is closed early."""
        for number, run in enumerate(self.runs, 1):
            try:
                # Without a name for the model here, which would keep it until the next one is loaded.
                yield from self._sample_one(
                    run, load(run.folder, device=self.device, allow_code=self.allow_code), number
                )
            except (ValueError, OSError) as error:
                self.note(f"{run.name}: no samples of it ({reason_of(error, 400)})")

    def save(self, out: Path) -> Path | None:
        """Write the grids as `grids.png` into a folder; None if there are none."""
        if not self.finished:
            return None
        last = f" to {self.seed + self.count - 1}" if self.count > 1 else ""
        labels = {tuple(grid.labels) for grid in self.grids if grid.labels}
        same = ["", ", with the same conditions", ", with the same conditions where models know the same kind"]
        subtitle = f"seeds {self.seed}{last} for each model{same[min(len(labels), 2)]}"
        sheet = draw_grids(self.grids, "Samples side by side", subtitle)
        with atomic_write(out / GRIDS) as draft:
            sheet.save(draft, pnginfo=png_text({"command": "compare", "models": self.finished, "seed": self.seed}))
        return out / GRIDS

    def _sample_one(self, run: RunSummary, model: Model, number: int) -> Iterator[RunProgress]:
        options = dict(self._options)
        sources: list[LabelledGrid] = []
        if model.task is None:
            conditions = self._conditions.of(run, model)
        else:
            assert isinstance(model, Diffusion)
            options["source"], shown, conditions = sources_of(model, self._images.of(run), self.count)
            sources = self._new_sources(run, shown.numpy())
        parts: list[ImageArray] = []
        used: UsedSampling | None = None
        for each in self._progress(model, conditions, options):
            if each.finished:
                parts.append(each.images().cpu().numpy())
                used = each.used
            yield RunProgress(run.name, number, len(self.runs), each.step, each.steps)
        conditioner = trained_conditioner(run, model.conditioner)
        lines = [_about_training(run), _about_sampling(used, conditioner)]
        grid = LabelledGrid(run.name, lines, np.concatenate(parts), _condition_labels(conditioner, conditions))
        self.grids += [*sources, grid]
        self.finished.append(run.name)

    def _progress(self, model: Model, conditions: Sequence[Any], options: dict[str, Any]) -> Iterator[Progress]:
        generate: Callable[..., Iterator[Progress]] = model.generate  # of a cascade, it has no sources
        return generate(conditions, seeds=range(self.seed, self.seed + self.count), **options)

    def _new_sources(self, run: RunSummary, shown: ImageArray) -> list[LabelledGrid]:
        """The grid of sources, unless they stand before an earlier grid."""
        if any(np.array_equal(shown, earlier) for earlier in self._sources):
            return []
        self._sources.append(shown)
        assert run.model is not None
        return [LabelledGrid("sources", [f"of {run.name}", run.model.task], shown)]


def check_sampling(options: Mapping[str, Any]) -> None:
    """Raise ValueError if a sampler, guidance or schedule does not exist; before any run is read."""
    for base, name in ((Sampler, "sampler"), (Schedule, "schedule")):
        if options.get(name) is not None:
            build(base, options[name])
    if options.get("guidance") is not None:
        guidance_of(options["guidance"])


def check_count(count: int) -> None:
    """Raise ValueError if a grid of so many images of each model is impossible."""
    if count < 1:
        raise ValueError(f"`count={count}`: a grid has one image or more. Give 1 or more, or 0 for no grids.")
    check_at_most("count", count, MOST)


def _about_training(run: RunSummary) -> str:
    assert run.model is not None
    seen = "" if run.images_seen is None else f", {run.images_seen:,} images seen"
    return f"{count_in_words(run.model.parameters)} parameters{seen}"


def _about_sampling(used: UsedSampling | None, conditioner: Conditioner | None) -> str:
    if used is None:
        return "cascade, each stage with its own sampling"
    about = describe_sampling(used, {})
    guidance = f", guidance {about['guidance']}" if conditioner is not None else ""
    return f"{about['sampler']}, {about['steps']} steps{guidance}"


def _condition_labels(conditioner: Conditioner | None, conditions: Sequence[Value | None]) -> list[str]:
    """What each image shows, as text; none if no image has a condition."""
    if conditioner is None or all(value is None for value in conditions):
        return []
    return ["" if value is None else _condition_label(conditioner, value) for value in conditions]


def _condition_label(conditioner: Conditioner, value: Value) -> str:
    texts = [text for text in conditioner.describe(value).values() if isinstance(text, str)]
    return texts[0] if texts else str(value)
