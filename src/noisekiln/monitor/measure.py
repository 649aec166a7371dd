"""What a run will need, by a few real steps that leave no trace."""

from typing import NamedTuple

import torch

from noisekiln.data import DataSet
from noisekiln.distributed.ranks import Ranks
from noisekiln.machine.speed import current_memory, peak_flops_per_second, peak_memory, reset_peak_memory
from noisekiln.model.diffusion import Diffusion
from noisekiln.monitor.reports import flops_per_image
from noisekiln.plan.build import assemble, make_learner
from noisekiln.plan.learner import Learner
from noisekiln.plan.settings import Settings
from noisekiln.training.compiling import NetworkCompiler

FEWEST, LONGEST = 3, 2.0  # steps that are timed, and seconds to go on for where steps are short
BUDGET = 1000  # steps, never reached; of a longer one the rate would begin so near 0 that numbers get slow to add


class Measurement(NamedTuple):
    """What was measured.

    Attributes:
        images_per_second: Of training alone; grids, checkpoints and held-out losses come on top.
        steps: Over which.
        flops: Floating-point operations of training on one image, forward and backward; None if they cannot be counted.
        share_of_peak: Of the machine's fastest matrix product; None if they cannot be counted.
        memory: Bytes that training takes at its most, besides the program and the data; None where nobody counts.
        micro: Images that were in memory at once, in each process.
        checkpoint: Bytes of a checkpoint on the disk; a run keeps two.
    """

    images_per_second: float
    steps: int
    flops: float | None
    share_of_peak: float | None
    memory: float | None
    micro: int
    checkpoint: int


def probe(settings: Settings, data: DataSet, base: Diffusion | None = None, ranks: Ranks | None = None) -> Measurement:
    """Take some steps with a trainer of its own; nothing is written, and no other trainer is touched.

    Args:
        settings: Resolved ones.
        data: The images.
        base: The model to start from, if any.
        ranks: The processes that will train together; each calls this.
    """
    device, ranks = settings.device, ranks or Ranks()
    reset_peak_memory(device)
    before = current_memory(device)
    assert settings.batch_size is not None
    trainer = assemble(settings.but(minutes=None, images=BUDGET * settings.batch_size), data, base, ranks=ranks)
    assert isinstance(trainer.module, Learner)
    network = trainer.module.diffusion.denoiser.backbone
    trainer.choose_micro_batch()
    compiler = NetworkCompiler(network, device, ranks)
    if settings.compile == "yes":
        compiler.compile()
    if compiler.active:
        compiler.with_fallback(trainer.trial_step)
    run = trainer.run()
    next(run)  # the first step is slow: memory is taken, kernels are chosen
    begun = next(run).seconds  # at its end; all processes agree on seconds, and so take as many steps
    for steps, report in enumerate(run, 1):
        seconds = report.seconds - begun
        if (steps >= FEWEST and seconds >= LONGEST) or steps == BUDGET - 3:
            break
    speed = steps * trainer.batch_size / seconds
    most = peak_memory(device)
    flops = flops_per_image(make_learner(settings, data, base), trainer.batches)
    peak = peak_flops_per_second(device, trainer.precision.dtype)
    with torch.no_grad():
        size = sum(tensor.nbytes for tensor in trainer.state_dict()[0].values())
    return Measurement(
        images_per_second=speed,
        steps=steps,
        flops=flops,
        share_of_peak=speed * flops / peak / ranks.world_size if flops and peak else None,
        memory=most - before if most is not None and before is not None else None,
        micro=trainer.micro_batch_size,
        checkpoint=round(ranks.all_reduce_sum([size if ranks.is_main or settings.shard else 0])[0]),
    )
