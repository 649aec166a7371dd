"""Previews of a run with averages of several lengths, side by side."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from noisekiln.data import DataSet
from noisekiln.distributed.ranks import Ranks
from noisekiln.files.atomic import atomic_write
from noisekiln.files.pictures import ImageArray, concat_with_labels, save_image
from noisekiln.model.diffusion import Diffusion
from noisekiln.monitor.preview import PREVIEW, TaskPreview, generate_previews, preview_conditions, sheet_of
from noisekiln.plan.task_data import read_images
from noisekiln.runs.ema_length import PostHocEma


class EmaSample(NamedTuple):
    """Samples of the model with one average.

    Attributes:
        length: Width of the average, as a share of training.
        residual: Error of its profile, as a share of it.
        sheet: A grid with the seeds and conditions of the run's previews; with a task, from their sources.
    """

    length: float
    residual: float
    sheet: ImageArray


class EmaSheet:
    """Draws the previews of a run with other averages.

    Args:
        averages: Averages of the run.
        data: Current place of its images; by default the one of the training.

    Raises:
        ValueError: If the previews need conditions or sources of the data, and the images are not found.
    """

    def __init__(self, averages: PostHocEma, data: str | None = None) -> None:
        self.averages, self._place = averages, data
        model = averages.model(averages.settings.ema_length)
        self._fingerprint, names = averages.run.read_data_description()
        self._task = TaskPreview(model, self._images()) if model.task is not None else None
        conditioner = None if averages.settings.cond == "none" or self._task else model.conditioner
        conditions = preview_conditions(conditioner, None, names)
        if conditions is None:
            images = self._images()
            conditions = preview_conditions(conditioner, images.held_out or images.train, names)
        self._conditions = conditions or []

    def samples(self, lengths: Sequence[float]) -> Iterator[EmaSample]:
        """Samples for each length, one at a time.

        Raises:
            ValueError: If a length cannot be combined; before any image is sampled.
        """
        residuals = [self.averages.combination(length).residual for length in lengths]
        for length, residual in zip(lengths, residuals, strict=True):
            yield EmaSample(length, residual, self._sheet_by(self.averages.model(length)))

    def save(self, samples: Sequence[EmaSample]) -> Path:
        """Write `ema/lengths.png` into the run: all grids side by side, with their lengths below."""
        sheets, labels = [sample.sheet for sample in samples], [f"{sample.length:g}" for sample in samples]
        if self._task is not None:
            sheets = [self._task.source_sheet, *sheets, self._task.original_sheet]
            labels = ["source", *labels, "original"]
        file = self.averages.run.snapshots / "lengths.png"
        with atomic_write(file) as draft:
            text = {"command": "ema", "model": self.averages.folder.resolve().name, "lengths": labels}
            save_image(concat_with_labels(sheets, labels), draft, text=text)
        return file

    def _sheet_by(self, model: Diffusion) -> ImageArray:
        if self._task is not None:
            return self._task.sheet_by(model, Ranks(), **PREVIEW)
        return sheet_of(generate_previews(model, self._conditions, Ranks(), **PREVIEW))

    def _images(self) -> DataSet:
        """The images that the run was trained on, whose held-out part its previews show."""
        run, settings = self.averages.folder, self.averages.settings
        place = self._place or settings.data
        hint = f"The previews of {run} show some of them. Give their place as `data`."
        try:
            images = read_images(place, settings.task, size=settings.size)
        except ValueError as error:
            raise ValueError(f"The images of {run} are not found ({str(error).rstrip('.')}). {hint}") from error
        if images.fingerprint != self._fingerprint:
            raise ValueError(f"The images in {place} are not those that {run} was trained on. {hint}")
        return images
