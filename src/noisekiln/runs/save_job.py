"""Save of a run: copies of its state and its averaged model, written while training continues."""

import copy
from pathlib import Path

from noisekiln.errors import SaveFailed
from noisekiln.machine.memory import is_out_of_memory
from noisekiln.machine.transfer import copy_module_to_host, copy_to_host
from noisekiln.model.adapter import FILE, Adapter, merge
from noisekiln.model.diffusion import Diffusion
from noisekiln.monitor.plain_copies import PlainCopies
from noisekiln.plan.settings import Settings
from noisekiln.plan.source_models import start_name
from noisekiln.runs.best_model import BestScore
from noisekiln.training import checkpoints
from noisekiln.training.trainer import Trainer


class SaveJob:
    """A copy of a trainer's state and of its averaged model.

    Every process makes one: the first writes the model, and each writes its shard of a sharded state.

    Args:
        trainer: Trainer of a `Learner`.
        copies: Copies of the current and the averaged weights.
        settings: Resolved settings.
        base: Model that is fine-tuned, if any.
        best: Score of the averaged weights, if they are the best so far.
    """

    def __init__(
        self,
        trainer: Trainer,
        copies: PlainCopies,
        settings: Settings,
        base: Diffusion | None,
        best: BestScore | None = None,
    ) -> None:
        tensors, self.state = trainer.state_dict()
        averaged = copies.averaged().diffusion
        self.ranks = trainer.ranks
        self.images_seen = trainer.images_seen
        self.settings = settings
        self.base, self.best = base, best
        self.num_shards = self.ranks.world_size if copies.sharded else 1
        if self.ranks.rank < self.num_shards:
            self.tensors = copy_to_host(tensors)
        if self.ranks.is_main:
            self.model = copy_module_to_host(averaged, {averaged.codec: copies.codec_in_main_memory})

    def write(self, folder: Path) -> None:
        """Write the copy into the folder of a run.

        The checkpoint is written last: if the run dies in between, it writes the model again when it is resumed.

        Raises:
            SaveFailed: If the copy cannot be written; what was saved before is intact.
        """
        try:
            if self.ranks.is_main:
                self._write_model(folder)
            if self.ranks.rank < self.num_shards:
                self._write_checkpoint(folder)
        except OSError as error:
            what = f"The model after {self.images_seen:,} images could not be written to {folder}"
            raise SaveFailed.of(what, error) from error
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise SaveFailed(
                f"The state after {self.images_seen:,} images could not be written to {folder}: memory ran out. "
                "What was saved before is intact. Run the same call or command again with a smaller `micro_batch_size`."
            ) from error

    def _write_checkpoint(self, folder: Path) -> None:
        checkpoints.save(
            folder / "checkpoints",
            self.images_seen,
            self.tensors,
            self.state,
            keep=self.settings.keep_checkpoints,
            keep_every=self.settings.keep_every,
            shard=self.ranks.rank,
            num_shards=self.num_shards,
            timeout=self.settings.timeout,
        )

    def _write_model(self, folder: Path) -> None:
        """Write the model; an adapter is written separately, and merged into the model."""
        model, rank = self.model, self.settings.lora
        if self.base is not None and rank is not None:
            adapter = Adapter.extract(model, self.base, rank, start_name(self.settings))
            adapter.save(folder / FILE)
            merged = copy.deepcopy(self.base)
            merged.size, merged.sampling = model.size, model.sampling
            model = merge(merged, adapter)
        model.save(folder / "model")
        if self.best is not None:
            self.best.write(folder, model)
