"""The sigmoid schedule."""

from dataclasses import dataclass

import torch
from torch import Tensor

from noisekiln.levels import Level
from noisekiln.schedules.base import Schedule


@dataclass(frozen=True)
class Sigmoid(Schedule):
    """``alpha_bar = (s(end) - s(a)) / (s(end) - s(start))``, ``a = (start + (end - start) time) / tau`` (Jabri 2022).

    `s` is the logistic function of ``start / tau`` and so on; "Scalable Adaptive Computation for Iterative Generation",
    arXiv 2212.11972, figure 8. As a curve it needs no clipped betas; alpha is exactly 0 at time 1, as in `Cosine`.

    Args:
        start: Where on the logistic function time 0 lies.
        end: Where time 1 lies.
        tau: Temperature: larger is nearer to a straight line.
    """

    start: float = -3.0
    end: float = 3.0
    tau: float = 1.0

    def __post_init__(self) -> None:
        if not (self.start < self.end and self.tau > 0):
            raise ValueError(f"{self}: the curve would not fall. Give a start below the end, and a tau above 0.")

    def __call__(self, time: Tensor) -> Level:  # noqa: D102 (the base class says it)
        # s(p) - s(q) = sinh((p - q)/2) / (2 cosh(p/2) cosh(q/2)), as a product, which keeps its digits at both ends.
        time = time.double()
        start, end = (time.new_tensor(each / self.tau) for each in (self.start, self.end))
        at, length = start + (end - start) * time, (end - start) / 2
        scale = torch.cosh(at / 2) * torch.sinh(length)
        left = torch.sinh(length * (1 - time)) * torch.cosh(start / 2) / scale
        added = torch.sinh(length * time) * torch.cosh(end / 2) / scale
        return Level(left.clamp(0, 1).sqrt(), added.clamp(0, 1).sqrt())
