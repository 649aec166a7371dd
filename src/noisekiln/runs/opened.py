"""What a run finds in its folder when it is opened."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from noisekiln.codecs.base import Codec
from noisekiln.data import DataSet
from noisekiln.model.diffusion import Diffusion
from noisekiln.plan.settings import Settings
from noisekiln.training.checkpoints import Checkpoint
from noisekiln.training.trainer import Trainer


@dataclass(frozen=True)
class Opened:
    """Contents of a run's folder when it was opened.

    Attributes:
        settings: Resolved settings, with those of the run's last start where none were requested.
        data: The images.
        base: Model to fine-tune, if any.
        teacher: Model that the objective distils, if any.
        codec: The codec with weights that an earlier start made, if any.
        checkpoint: Newest checkpoint that is intact, or None.
        images_seen_of_checkpoints: Images seen by each checkpoint.
        micro_batch_size: Requested micro-batch, or the smaller one recorded after a sharded run ran out of memory.
        has_model: Whether the folder holds a model.
        conversions: How the images were converted for the model, one line each.
        damage: Other damaged files, and what is done without them, one line each.
    """

    settings: Settings
    data: DataSet
    base: Diffusion | None
    teacher: Diffusion | None
    codec: Codec | None
    checkpoint: Checkpoint | None
    images_seen_of_checkpoints: Sequence[int]
    micro_batch_size: int | None
    has_model: bool
    conversions: tuple[str, ...] = ()
    damage: tuple[str, ...] = ()

    @property
    def images_seen(self) -> int:
        """Images seen by the checkpoint that the run resumes from; 0 for a new run."""
        return int(self.checkpoint.state["images_seen"]) if self.checkpoint else 0

    def load_into(self, trainer: Trainer) -> "Opened":
        """Load the checkpoint, if there is one; the same without its tensors, whose memory is freed.

        Raises:
            ValueError: If it does not fit.
        """
        if self.checkpoint is None:
            return self
        try:
            trainer.load_state_dict(self.checkpoint.shards, self.checkpoint.state)
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError(
                f"The newest checkpoint of the run does not fit it ({error}): it was changed. "
                "Restore one from a backup, or give another `out` for a new run."
            ) from error
        return replace(self, checkpoint=self.checkpoint._replace(shards=[]))

    @property
    def warnings(self) -> list[str]:
        """Problems of the folder that do not prevent the run from starting, one line each."""
        lines = [*(self.checkpoint.skipped if self.checkpoint else ()), *self.damage, *self.conversions]
        if self.checkpoint is None and self.has_model:
            lines.append(
                "there is no checkpoint to resume from: training starts from scratch and overwrites the existing model"
            )
        return lines
