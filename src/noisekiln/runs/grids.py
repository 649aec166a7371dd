"""Grids of samples that a run draws while it trains."""

from pathlib import Path
from typing import Any

from noisekiln.data import DataSet
from noisekiln.files.atomic import remove_whatever
from noisekiln.files.pictures import ImageArray, save_image
from noisekiln.monitor.plain_copies import PlainCopies
from noisekiln.monitor.preview import PREVIEW, preview
from noisekiln.plan.settings import Settings
from noisekiln.training.trainer import Trainer


class Grids:
    """Samples of fixed seeds and conditions: with the current weights on the left, the averaged ones on the right.

    With a task: sources of held-out images, both of these samples, and the originals. The network computes in bf16 if
    training does; in fp32 for fp16, whose range only training watches.

    Args:
        folder: Folder of the images.
        trainer: Trainer of a `Learner`.
        copies: Copies of the current and the averaged weights.
        data: The images.
        settings: Resolved settings.
    """

    def __init__(self, folder: Path, trainer: Trainer, copies: PlainCopies, data: DataSet, settings: Settings) -> None:
        self.folder = folder
        self.trainer = trainer
        self.copies = copies
        self.data, self.unconditional = data, settings.cond == "none"
        self.precision = "bf16" if settings.precision == "bf16" else "fp32"

    def draw(self) -> Path:
        """Write a grid, named by the images seen. All processes call this; the first one writes."""
        sheet = self.sheet()
        file = self.folder / f"{self.trainer.images_seen:09d}.png"
        if self.trainer.ranks.is_main:
            about = {name: PREVIEW[name] for name in ("sampler", "steps", "schedule")}
            text = describe_run(self.folder.parent, self.trainer.images_seen) | about
            save_image(sheet, file, at_least=512, text=text)
        return file

    def sheet(self, **options: int) -> ImageArray:
        """A grid, (H, W, C) uint8; options are those of `Diffusion.generate`."""
        models = [learner.eval().diffusion for learner in (self.copies.current(), self.copies.averaged())]
        ranks, unconditional = self.trainer.ranks, self.unconditional
        sheet = preview(models, self.data, ranks, unconditional=unconditional, precision=self.precision, **options)
        self.trainer.module.train()
        return sheet


def delete_grids_after(folder: Path, images_seen: int) -> None:
    """Remove later grids, and the draft of a killed run, before training continues from a checkpoint."""
    for file in folder.glob("*.png"):
        if file.stem.isdecimal() and int(file.stem) > images_seen:
            file.unlink()
    for draft in folder.glob(".*.partial"):
        remove_whatever(draft)


def describe_run(folder: Path, images_seen: int) -> dict[str, Any]:
    """Text in the pictures of a run: the name of its folder, without those above it, and how far it was."""
    return {"command": "train", "model": folder.resolve().name, "images_seen": images_seen}
