"""What a run saves, copied from what goes on changing."""

import copy
from pathlib import Path

from torch import Tensor

from noisekiln.adapter import FILE, Adapter, merge
from noisekiln.diffusion import Diffusion
from noisekiln.recipes.assemble import Batch, Trained
from noisekiln.recipes.settings import Settings
from noisekiln.training import checkpoints
from noisekiln.training.checkpoints import SaveFailed
from noisekiln.training.trainer import Trainer


class Snapshot:
    """A copy of a trainer's state and of its averaged model, to be written while training goes on.

    Args:
        trainer: Of a `Trained`.
        settings: Of the run.
        base: The model that it started from, if any.
    """

    def __init__(self, trainer: Trainer[Batch], settings: Settings, base: Diffusion | None) -> None:
        averaged = trainer.ema.module
        assert isinstance(averaged, Trained)
        tensors, self.numbers = trainer.state()
        self.tensors: dict[str, Tensor] = {name: t.detach().to("cpu", copy=True) for name, t in tensors.items()}
        self.model = copy.deepcopy(averaged.diffusion)
        self.images_seen, self.settings, self.base = trainer.images_seen, settings, base

    def write(self, folder: Path) -> None:
        """Write it into a run's folder.

        The checkpoint comes last: what a run that dies in between has not written, it writes when it goes on.

        Raises:
            SaveFailed: If there is no room; what was saved before is intact.
        """
        try:
            self._write_model(folder)
        except OSError as error:
            raise SaveFailed(
                f"The model after {self.images_seen:,} images could not be written to {folder}: "
                f"{error.strerror or error}. What was saved before is intact. "
                "Free some room or look after the disk, then give the same command again to go on."
            ) from error
        checkpoints.save(
            folder / "checkpoints",
            self.images_seen,
            self.tensors,
            self.numbers,
            keep=self.settings.keep,
            keep_every=self.settings.keep_every,
        )

    def _write_model(self, folder: Path) -> None:
        model, rank = self.model, self.settings.lora
        if self.base is not None and rank is not None:
            adapter = Adapter.of(model, self.base, rank, str(self.settings.start))
            adapter.save(folder / FILE)
            plain = copy.deepcopy(self.base)
            plain.size, plain.sampling = model.size, model.sampling
            model = merge(plain, adapter)
        model.save(folder / "model")
