"""A trial of all that takes memory, before training begins."""

from noisekiln.machine import memory
from noisekiln.runs.failures import Failures
from noisekiln.runs.grids import Grids
from noisekiln.training.compiling import NetworkCompiler
from noisekiln.training.trainer import Trainer


def try_out(trainer: Trainer, compiler: NetworkCompiler, grids: Grids, failures: Failures) -> None:
    """Find what fits into memory, better now than in an hour; where only trying shows it, by trying a grid and a step.

    Nothing is written, and no weight is changed. All processes call it.

    Args:
        trainer: Trainer of a `Learner`; its micro-batch is lowered to what fits.
        compiler: Compiles the network; if that fails, it is run eagerly.
        grids: Draws grids of samples.
        failures: What is said of failures.
    """
    trainer.choose_micro_batch()
    by_trying = memory.raises_on_oom(trainer.placement.device)
    if by_trying:
        grids.sheet(steps=1)
    with failures.explaining_lack_of_memory():
        if compiler.active and trainer.placement.sharded:
            with failures.explaining_failed_compilation():
                trainer.trial_step()
        elif compiler.active:
            compiler.with_fallback(trainer.trial_step)
        elif by_trying or trainer.ranks.world_size > 1:  # after its first backward pass DDP sums in another order
            trainer.trial_step()
