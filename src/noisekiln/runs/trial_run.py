"""Trial of everything that needs memory, before training starts."""

import time

from noisekiln.machine import memory
from noisekiln.plan.training_batches import TrainingBatches
from noisekiln.runs.failures import Failures
from noisekiln.runs.grids import Grids
from noisekiln.runs.reserved_time import agreed_seconds
from noisekiln.training.compiling import NetworkCompiler
from noisekiln.training.trainer import Trainer


def check_memory_and_compilation(trainer: Trainer, compiler: NetworkCompiler, grids: Grids, failures: Failures) -> None:
    """Find the micro-batch that fits into memory; on devices where only a trial shows it, try a grid and a step.

    An error is better now than in an hour. Nothing is written, and no weight is changed. All processes call this.

    Args:
        trainer: Trainer of a `Learner`; its micro-batch is lowered to what fits.
        compiler: Compiler of the network; if it fails, the network is run eagerly.
        grids: Grids of samples.
        failures: Error messages of the run.
    """
    _encode_images(trainer)
    trainer.choose_micro_batch()
    by_trial = memory.raises_on_oom(trainer.placement.device)
    if by_trial:
        grids.sheet(steps=1)
    with failures.explaining_lack_of_memory():
        if compiler.active and trainer.placement.sharded:
            with failures.explaining_failed_compilation():
                trainer.trial_step()
        elif compiler.active:
            compiler.with_fallback(trainer.trial_step)
        elif by_trial or trainer.ranks.world_size > 1:  # DDP sums in another order after its first backward pass
            trainer.trial_step()


def _encode_images(trainer: Trainer) -> None:
    """Encode all images by a costly codec, in the minutes of a new run: it takes long for many large ones."""
    started = time.perf_counter()
    if isinstance(trainer.batches, TrainingBatches) and trainer.batches.encoded is not None:
        seconds = agreed_seconds(trainer, time.perf_counter() - started)
        trainer.seconds += 0 if trainer.images_seen else seconds
