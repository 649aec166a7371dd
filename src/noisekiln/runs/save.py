"""What a run saves, copied from what goes on changing."""

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from noisekiln.errors import SaveFailed
from noisekiln.machine.memory import is_out_of_memory
from noisekiln.model.adapter import FILE, Adapter, merge
from noisekiln.model.diffusion import Diffusion
from noisekiln.monitor.plain_copies import PlainCopies
from noisekiln.plan.settings import Settings
from noisekiln.training import checkpoints
from noisekiln.training.trainer import Trainer


class SaveJob:
    """A copy of a trainer's state and of its averaged model, to be written while training goes on.

    Every process makes one; the first writes the model, and each its part of a sharded state.

    Args:
        trainer: Of a `Learner`.
        copies: What its averaged model is taken from.
        settings: Of the run.
        base: The model that it started from, if any.
    """

    def __init__(self, trainer: Trainer, copies: PlainCopies, settings: Settings, base: Diffusion | None) -> None:
        tensors, self.numbers = trainer.state_dict()
        averaged = copies.averaged().diffusion
        self.ranks, self.images_seen, self.settings, self.base = trainer.ranks, trainer.images_seen, settings, base
        self.parts = self.ranks.world_size if copies.sharded else 1
        if self.ranks.rank < self.parts:
            self.tensors = _copied(tensors)
        if self.ranks.is_main:
            self.model = copy.deepcopy(averaged).cpu()

    def write(self, folder: Path) -> None:
        """Write it into a run's folder.

        The checkpoint comes last: what a run that dies in between has not written, it writes when it goes on.

        Raises:
            SaveFailed: If there is no room; what was saved before is intact.
        """
        try:
            if self.ranks.is_main:
                self._write_model(folder)
            if self.ranks.rank < self.parts:
                self._write_checkpoint(folder)
        except OSError as error:
            raise SaveFailed(
                f"The model after {self.images_seen:,} images could not be written to {folder}: "
                f"{error.strerror or error}. What was saved before is intact. "
                "Free some room or look after the disk, then give the same command again to go on."
            ) from error
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise SaveFailed(
                f"What there is after {self.images_seen:,} images could not be written to {folder}, as memory ran out. "
                "What was saved before is intact. Give the same command again, with --micro: fewer images at once."
            ) from error

    def _write_checkpoint(self, folder: Path) -> None:
        checkpoints.save(
            folder / "checkpoints",
            self.images_seen,
            self.tensors,
            self.numbers,
            keep=self.settings.keep_checkpoints,
            keep_every=self.settings.keep_every,
            part=self.ranks.rank,
            parts=self.parts,
            timeout=self.settings.timeout,
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


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies in the main memory; from a graphics card all at once, into pages that do not move."""
    copies = {}
    for name, tensor in tensors.items():
        copies[name] = torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda)
        copies[name].copy_(tensor.detach(), non_blocking=True)
    if any(tensor.is_cuda for tensor in tensors.values()):
        torch.cuda.synchronize()
    return copies
