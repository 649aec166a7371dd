"""A strip: the same pictures as averages of several lengths paint them, side by side."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from noisekiln.data import DataSet
from noisekiln.distributed.ranks import Ranks
from noisekiln.files.atomic import replacing
from noisekiln.files.pictures import ImageArray, labelled, save_picture, tile
from noisekiln.model.diffusion import Diffusion
from noisekiln.monitor.preview import COUNT, PREVIEW, TaskPreview, preview_wishes
from noisekiln.plan.images import GENERATE, read_images
from noisekiln.runs.ema_length import PostHocEma
from noisekiln.runs.run_folder import AVERAGES


class Column(NamedTuple):
    """One average, and what it paints.

    Attributes:
        length: Of the average.
        residual: What is left of its profile, as a share of it.
        sheet: The seeds and wishes of the run's previews; with a task, what it makes of the same held-out images.
    """

    length: float
    residual: float
    sheet: ImageArray


class EmaSheet:
    """The previews of a run, painted anew with other averages.

    Args:
        averages: Of the run.
        data: Where its images are now; by default where they were.

    Raises:
        ValueError: If the previews show captions or images of the data, and these are not found.
    """

    def __init__(self, averages: PostHocEma, data: str | None = None) -> None:
        self.averages, settings = averages, averages.settings
        described = json.loads((averages.folder / "dataset.json").read_text(encoding="utf-8"))
        self._task: TaskPreview | None = None
        self._wishes: list[str | int | None] = [None] * COUNT
        if settings.task != GENERATE:
            images = self._images(data, described["fingerprint"])
            self._task = TaskPreview(averages.model(settings.ema_length), images)
        elif settings.cond == "text":
            self._wishes = preview_wishes(self._images(data, described["fingerprint"]), "text", COUNT)
        elif settings.cond == "class":
            names = described["class_names"]
            self._wishes = [names[i % len(names)] for i in range(COUNT)]

    def columns(self, lengths: Sequence[float]) -> Iterator[Column]:
        """Paint with one length after another, each when it is asked for.

        Raises:
            ValueError: If a length cannot be made; before any is painted.
        """
        residuals = [self.averages.fit(length).residual for length in lengths]
        for length, residual in zip(lengths, residuals, strict=True):
            yield Column(length, residual, self._painted_by(self.averages.model(length)))

    def save(self, columns: Sequence[Column]) -> Path:
        """Write `ema/lengths.png` into the run: all columns side by side, their lengths below."""
        sheets, labels = [column.sheet for column in columns], [f"{column.length:g}" for column in columns]
        if self._task is not None:
            sheets = [self._task.given_sheet, *sheets, self._task.original_sheet]
            labels = ["given", *labels, "original"]
        file = self.averages.folder / AVERAGES / "lengths.png"
        with replacing(file) as draft:
            save_picture(labelled(sheets, labels), draft)
        return file

    def _painted_by(self, model: Diffusion) -> ImageArray:
        if self._task is not None:
            return self._task.painted_by(model, Ranks(), **PREVIEW)
        return tile(model.sample(self._wishes, **PREVIEW).cpu().numpy(), columns=4)

    def _images(self, data: str | None, fingerprint: str) -> DataSet:
        """Those that the run was trained on, whose held-out part its previews show."""
        run, settings = self.averages.folder, self.averages.settings
        place = data or settings.data
        hint = f"The previews of {run} show some of them. Say where they are with --data."
        try:
            images = read_images(place, settings.task, size=settings.size)
        except ValueError as error:
            raise ValueError(f"The images of {run} are not found ({str(error).rstrip('.')}). {hint}") from error
        if images.fingerprint != fingerprint:
            raise ValueError(f"The images in {place} are not those that {run} was trained on. {hint}")
        return images
