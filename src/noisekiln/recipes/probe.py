"""What a run will need, by a few real steps that leave no trace."""

import copy
import time
from typing import NamedTuple

from noisekiln.data import DataSet
from noisekiln.diffusion import Diffusion
from noisekiln.recipes.assemble import Trained, assemble
from noisekiln.recipes.reports import flops_per_image
from noisekiln.recipes.settings import Settings
from noisekiln.training.machine import forget_peak_memory, measured_peak, memory_in_use, peak_memory

FEWEST, LONGEST = 3, 2.0  # steps that are timed, and seconds to go on for where steps are short
BUDGET = 1000  # steps, never reached; of a longer one the rate would begin so near 0 that numbers get slow to add


class Probe(NamedTuple):
    """What was measured.

    Attributes:
        images_per_second: Of training alone; grids, checkpoints and held-out losses come on top.
        steps: Over which.
        flops: Floating-point operations of training on one image, forward and backward; None if they cannot be counted.
        share_of_peak: Of the machine's fastest matrix product; None if they cannot be counted.
        memory: Bytes that training takes at its most, besides the program and the data; None where nobody counts.
        checkpoint: Bytes of a checkpoint on the disk; a run keeps two.
    """

    images_per_second: float
    steps: int
    flops: float | None
    share_of_peak: float | None
    memory: float | None
    checkpoint: int


def probe(settings: Settings, data: DataSet, base: Diffusion | None = None) -> Probe:
    """Take some steps with a trainer of its own; nothing is written, and no other trainer is touched.

    Args:
        settings: Resolved ones.
        data: The images.
        base: The model to start from, if any.
    """
    device = settings.device
    forget_peak_memory(device)
    before = memory_in_use(device)
    assert settings.batch is not None
    trainer = assemble(settings.but(minutes=None, images=BUDGET * settings.batch), data, base)
    run = trainer.run()
    next(run)  # the first step is slow: memory is taken, kernels are chosen
    begun, steps = time.perf_counter(), 0
    while steps < FEWEST or (time.perf_counter() - begun < LONGEST and steps < BUDGET - 2):
        next(run)
        steps += 1
    speed = steps * trainer.batch / (time.perf_counter() - begun)
    most = peak_memory(device)
    trained = copy.deepcopy(trainer.module)
    assert isinstance(trained, Trained)
    flops = flops_per_image(trained, trainer.rows.batches)
    return Probe(
        images_per_second=speed,
        steps=steps,
        flops=flops,
        share_of_peak=speed * flops / measured_peak(device, trainer.precision.kind) if flops else None,
        memory=most - before if most is not None and before is not None else None,
        checkpoint=sum(tensor.nbytes for tensor in trainer.state()[0].values()),
    )
