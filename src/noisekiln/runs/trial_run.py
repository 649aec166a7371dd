"""Before training starts: all images are encoded, and everything that needs memory is tried."""

import time
from collections.abc import Generator, Iterator

import torch

from noisekiln.machine import memory
from noisekiln.machine.interrupt import Interrupt
from noisekiln.plan.training_batches import TrainingBatches
from noisekiln.runs.events import Encoding
from noisekiln.runs.failures import Failures
from noisekiln.runs.grids import Grids
from noisekiln.runs.reserved_time import agreed_seconds
from noisekiln.training.compiling import NetworkCompiler
from noisekiln.training.trainer import Trainer


def prepare_training(
    trainer: Trainer, compiler: NetworkCompiler, grids: Grids, failures: Failures, interrupt: Interrupt
) -> Generator[Encoding, None, bool]:
    """Encode the images, if the codec is costly, and find the micro-batch that fits into memory.

    On devices where only a trial shows what fits, a grid and a step are tried: an error is better now than in an hour.
    Nothing is written, and no weight is changed. All processes call this.

    Args:
        trainer: Trainer of a `Learner`; its micro-batch is lowered to what fits.
        compiler: Compiler of the network; if it fails, the network is run eagerly.
        grids: Grids of samples.
        failures: Error messages of the run.
        interrupt: Signals, after which images are encoded no further.

    Returns:
        Whether training can start; `trainer.stopped_by` says which signal came before.
    """
    yield from _encode_images(trainer, interrupt)
    if trainer.stopped_by:
        return False
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
    return True


def _encode_images(trainer: Trainer, interrupt: Interrupt) -> Iterator[Encoding]:
    """Encode all images by a costly codec, in the minutes of a new run: it takes long for many large ones.

    After a signal, in any process, all of them stop: `trainer.stopped_by` is its number, otherwise 0.
    """
    started, ranks, done = time.perf_counter(), trainer.ranks, 0
    trainer.stopped_by = 0
    assert isinstance(trainer.batches, TrainingBatches)
    for done, total in trainer.batches.encoding(ranks):
        yield Encoding(done, total)
        signals = ranks.all_gather(torch.tensor([[interrupt.signal]]), ranks.world_size)
        trainer.stopped_by = int(signals.max())
        if trainer.stopped_by:
            return
    if done and not trainer.images_seen:
        trainer.seconds += agreed_seconds(trainer, time.perf_counter() - started)
