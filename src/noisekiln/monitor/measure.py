"""Measurement of the time and memory that a run needs, by a few real training steps."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from noisekiln.codecs.base import Codec
from noisekiln.components.spec import build
from noisekiln.data import DataSet
from noisekiln.distributed.ranks import Ranks
from noisekiln.machine.speed import current_memory, peak_memory, reset_peak_memory
from noisekiln.model.diffusion import Diffusion
from noisekiln.monitor.workload import measure_workload
from noisekiln.plan.build import make_learner, make_trainer
from noisekiln.plan.codec_training import make_codec_learner, make_codec_trainer
from noisekiln.plan.learner import Learner
from noisekiln.plan.settings import Settings
from noisekiln.training.compiling import NetworkCompiler
from noisekiln.training.trainer import Trainer

ENCODED = 1024  # images that a costly codec encodes
BUDGET = 1000  # steps, never reached; with more, the rate would start so near 0 that denormal numbers slow it down


class Measurement(NamedTuple):
    """Speed, memory and disk space of a run.

    Attributes:
        images_per_second: Speed of training alone, without grids, checkpoints and held-out losses.
        steps: Steps over which it was measured.
        flops_per_image: Floating-point operations of training on one image, forward and backward; None if they cannot
            be counted.
        share_of_peak: Share of the speed of the machine's fastest matrix product; None if it is not known.
        memory: Peak of the bytes that training uses, without the program and the data; None if they are not counted.
        micro_batch_size: Images in memory at once, in each process.
        checkpoint: Bytes of a checkpoint on disk.
    """

    images_per_second: float
    steps: int
    flops_per_image: float | None
    share_of_peak: float | None
    memory: float | None
    micro_batch_size: int
    checkpoint: int


def measure(
    settings: Settings,
    data: DataSet,
    base: Diffusion | None = None,
    *,
    teacher: Diffusion | None = None,
    codec: Codec | None = None,
    ranks: Ranks | None = None,
    seconds: float = 2.0,
) -> Measurement:
    """Take some steps with a separate trainer; nothing is written, and no other trainer is changed.

    Args:
        settings: Resolved settings.
        data: The images.
        base: Model to fine-tune, if any.
        teacher: Model that the objective distils, if any.
        codec: Codec that the run has already made, if any.
        ranks: Processes that will train together; all call this.
        seconds: Least duration of the measurement.
    """
    ranks, data = ranks or Ranks(), _few(data, settings)
    return _take_steps(
        lambda budget: make_trainer(budget, data, base, teacher=teacher, codec=codec, ranks=ranks),
        lambda: make_learner(settings, data, base, teacher, codec),
        settings,
        seconds,
    )


def _few(data: DataSet, settings: Settings) -> DataSet:
    """The images, or for a costly codec, which encodes all of them first, the first `ENCODED`."""
    codec: Codec = build(Codec, settings.codec or "pixels")
    if not codec.costly or len(data.train) <= ENCODED:
        return data
    return replace(data, train=data.train.take(np.arange(ENCODED)))


def measure_codec(
    settings: Settings, data: DataSet, *, ranks: Ranks | None = None, seconds: float = 2.0
) -> Measurement:
    """The same for the training of a codec.

    Args:
        settings: Settings from `resolve_codec_settings`.
        data: The images.
        ranks: Processes that will train together; all call this.
        seconds: Least duration of the measurement.
    """
    return _take_steps(
        lambda budget: make_codec_trainer(budget, data, ranks or Ranks()),
        lambda: make_codec_learner(settings, data),
        settings,
        seconds,
    )


def _take_steps(
    make: Callable[[Settings], Trainer], fresh: Callable[[], nn.Module], settings: Settings, seconds: float
) -> Measurement:
    """Take some steps with the trainer that `make` returns for a budget.

    Args:
        make: Function that makes the trainer.
        fresh: Function that makes its module once more.
        settings: Resolved settings.
        seconds: Least duration of the measurement.
    """
    device = settings.device
    reset_peak_memory(device)
    before = current_memory(device)
    assert settings.batch_size is not None
    trainer = make(settings.replace(minutes=None, epochs=None, images=BUDGET * settings.batch_size))
    ranks = trainer.ranks
    speed, steps = _time_steps(trainer, settings, seconds)
    peak = peak_memory(device)
    workload = measure_workload(fresh(), trainer.batches, device, trainer.precision.dtype, ranks)
    with torch.no_grad():
        size = sum(tensor.nbytes for tensor in trainer.state_dict()[0].values())
    return Measurement(
        images_per_second=speed,
        steps=steps,
        flops_per_image=workload.flops_per_image,
        share_of_peak=workload.at(speed).get("share_of_peak"),
        memory=peak - before if peak is not None and before is not None else None,
        micro_batch_size=trainer.micro_batch_size,
        checkpoint=round(ranks.all_reduce_sum([size if ranks.is_main or settings.shard else 0])[0]),
    )


def _time_steps(trainer: Trainer, settings: Settings, at_least: float) -> tuple[float, int]:
    """Images per second, and the number of steps over which they were counted."""
    trainer.choose_micro_batch()
    if isinstance(trainer.module, Learner):  # the other modules are not compiled
        network = trainer.module.diffusion.denoiser.backbone
        compiler = NetworkCompiler(network, settings.device, trainer.ranks)
        compiler.use(settings.compile, static_graph=network.static_graph)
        if compiler.active:
            compiler.with_fallback(trainer.trial_step)
    run = trainer.run()
    next(run)  # the first step is slow: memory is allocated, kernels are chosen
    start_time = next(run).seconds  # at its end; all processes agree on seconds, and so take as many steps
    steps, seconds = 0, 0.0
    for steps, report in enumerate(run, 1):
        seconds = report.seconds - start_time
        if seconds >= at_least or steps == BUDGET - 3:
            break
    return steps * trainer.batch_size / seconds, steps
