"""Arithmetic work of training, and the peak speed of the machine for comparison."""

from typing import NamedTuple

import torch
from torch import nn

from noisekiln.distributed.ranks import Ranks
from noisekiln.machine.flops import count_flops
from noisekiln.machine.speed import EXPECTED_SHARE, peak_flops_per_second
from noisekiln.training.batches import BatchSource


class Workload(NamedTuple):
    """Arithmetic work of training and peak speed, measured once.

    Attributes:
        flops_per_image: Floating-point operations of training on one image, forward and backward; None if they
            cannot be counted.
        peak: FLOP/s of the fastest matrix product on the devices of all processes together; None without memory for it.
    """

    flops_per_image: float | None
    peak: float | None

    def expected_speed(self) -> float | None:
        """Images per second that a CPU will train, before a step was taken; None if it is not known."""
        if self.flops_per_image is None or self.peak is None:
            return None
        return EXPECTED_SHARE * self.peak / self.flops_per_image

    def at(self, images_per_second: float) -> dict[str, float]:
        """FLOP/s and share of the peak at a speed, by name, as far as they are known."""
        if self.flops_per_image is None:
            return {}
        flops = images_per_second * self.flops_per_image
        return {"flops_per_second": flops} | ({"share_of_peak": flops / self.peak} if self.peak else {})


def measure_workload(
    learner: nn.Module, batches: BatchSource, device: str, dtype: torch.dtype, ranks: Ranks
) -> Workload:
    """Count the operations of one forward and backward pass, and time matrix products for 0.3 s.

    Args:
        learner: A copy of the trained module, which is left with gradients.
        batches: Function that makes the rows; the first two are used.
        device: Device of the learner.
        dtype: Type in which the network computes.
        ranks: Processes that train together.
    """
    peak = peak_flops_per_second(device, dtype)
    return Workload(flops_per_image(learner, batches), None if peak is None else peak * ranks.world_size)


def flops_per_image(learner: nn.Module, batches: BatchSource) -> float | None:
    """Floating-point operations of training on one image, forward and backward; None if they cannot be counted.

    Args:
        learner: A copy, which is left with gradients.
        batches: Function that makes the rows; the first two are used.
    """
    rows = batches(0, 2, torch.Generator().manual_seed(0))
    counted = count_flops(lambda: learner(*rows).value)
    return None if counted is None else counted / 2
