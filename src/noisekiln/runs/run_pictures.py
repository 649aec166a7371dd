"""Pictures of a run: its curves, images, their way to noise, and how samples form; its card. None can end the run."""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from noisekiln.conditioners.base import Conditioner
from noisekiln.data import DataSet
from noisekiln.errors import reason_of
from noisekiln.files.atomic import atomic_write
from noisekiln.files.card_file import CARD
from noisekiln.files.png_text import png_text
from noisekiln.logs.json_lines import read_metrics
from noisekiln.model.diffusion import Diffusion
from noisekiln.monitor.plain_copies import PlainCopies
from noisekiln.monitor.preview import TaskPreview, preview_conditions
from noisekiln.plan.learner import Learner
from noisekiln.plan.settings import Settings
from noisekiln.plots.contact_sheet import draw_data
from noisekiln.plots.figure import save_figure
from noisekiln.plots.forward_process import draw_forward
from noisekiln.plots.run_curves import draw_run
from noisekiln.plots.sample_animation import COUNT, denoising_frames, save_animation
from noisekiln.runs.grids import describe_run
from noisekiln.runs.model_card import write_card
from noisekiln.runs.run_summary import ModelFacts
from noisekiln.training.trainer import Trainer

LOSS, DATA, FORWARD, DENOISING = "loss.png", "data.png", "forward.png", "denoising.gif"
FORWARD_ROWS = 3
SHARE = 0.01  # of the time, at most, for drawing the loss again and again
FIRST_SECONDS = 0.1  # that drawing it takes, before it was measured


class RunPictures:
    """Draws `data.png` and `forward.png` at the start of a run, `loss.png` with its grids, `denoising.gif` at its end.

    The model card, which shows some of them, is written last. Whatever goes wrong in drawing becomes a line of text.
    All processes call each method; the first one draws.

    Args:
        folder: Folder of the run.
        trainer: Trainer of a `Learner`.
        copies: Copies of the current and the averaged weights.
        data: The images.
        settings: Resolved settings.
    """

    def __init__(self, folder: Path, trainer: Trainer, copies: PlainCopies, data: DataSet, settings: Settings) -> None:
        self.folder = folder
        self.trainer, self.copies = trainer, copies
        self.data, self.settings = data, settings
        self._drawn_at, self._cost = trainer.seconds, FIRST_SECONDS

    def start(self) -> list[str]:
        """Draw the images, and some of them on their way to noise; returns what went wrong, one line each."""
        model, part = self._model, self.data.train
        kind = "" if self._conditioner is None else self._conditioner.kind
        rows = torch.linspace(0, len(part) - 1, min(FORWARD_ROWS, len(part))).round().long().tolist()
        return [
            *self._try(DATA, lambda file: self._save(draw_data(self.data, kind), file)),
            *self._try(
                FORWARD, lambda file: self._save(draw_forward(model, torch.from_numpy(part.pixels[rows])), file)
            ),
        ]

    def after_grid(self) -> list[str]:
        """Draw the loss so far, unless drawing it took more than a hundredth of the time since the last time."""
        if self.trainer.seconds - self._drawn_at < self._cost / SHARE:
            return []
        return self._try(LOSS, self._draw_loss)

    def finish(self) -> list[str]:
        """Draw the loss and, at the end of the budget, how samples form; write the model card."""
        problems = self._try(LOSS, self._draw_loss)
        if self.trainer.share >= 1:
            model = self.copies.averaged().diffusion  # of all processes, if the weights are sharded
            problems += self._try(DENOISING, lambda file: self._draw_denoising(model, file))
        return problems + self._try(CARD, self._write_card)

    @property
    def _model(self) -> Diffusion:
        assert isinstance(self.trainer.module, Learner)
        return self.trainer.module.diffusion

    @property
    def _conditioner(self) -> Conditioner | None:
        """The conditioner, if conditions are trained."""
        return None if self.settings.cond == "none" else self._model.conditioner

    def _try(self, name: str, draw: Callable[[Path], None]) -> list[str]:
        if not self.trainer.ranks.is_main:
            return []
        try:
            with _without_warnings():
                draw(self.folder / name)
        except Exception as error:  # whatever it is: pictures are an extra, and training must go on
            return [f"{name} could not be drawn ({reason_of(error)}); training does not need it"]
        return []

    def _draw_loss(self, file: Path) -> None:
        start = time.perf_counter()
        figure = draw_run(read_metrics(self.folder), self.folder.resolve().name)
        if figure is not None:
            save_figure(figure, file, self._text())
        self._drawn_at, self._cost = self.trainer.seconds, time.perf_counter() - start

    def _draw_denoising(self, model: Diffusion, file: Path) -> None:
        if model.task is not None:
            preview = TaskPreview(model, self.data)
            source, conditions = preview.source[:COUNT], preview.conditions[:COUNT]
        else:
            part, names = self.data.held_out or self.data.train, self.data.class_names
            source, conditions = None, preview_conditions(self._conditioner, part, names, COUNT) or []
        at_once = min(COUNT, self.trainer.micro_batch_size)
        save_animation(denoising_frames(model, conditions, source=source, batch_size=at_once), file)

    def _write_card(self, file: Path) -> None:
        facts, trainer = ModelFacts.of(self._model), self.trainer
        write_card(file.parent, facts, images_seen=trainer.images_seen, seconds=trainer.seconds)

    def _save(self, sheet: Image.Image, file: Path) -> None:
        text = describe_run(self.folder, 0)  # of the images, whenever the run is resumed and they are drawn again
        with atomic_write(file) as draft:
            sheet.save(draft, pnginfo=png_text(text))

    def _text(self) -> dict[str, Any]:
        return describe_run(self.folder, self.trainer.images_seen)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Warnings of the drawing libraries, on a missing letter for example, say nothing about the run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
