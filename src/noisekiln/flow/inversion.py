"""Inversion of DDIM: from an image to the noise that generates it."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from torch import Tensor

from noisekiln.estimate import Denoise
from noisekiln.levels import Level


def invert(denoise: Denoise, levels: Sequence[Level], x: Tensor, iterations: int = 3) -> Iterator[Tensor]:
    """Step from clean to noisy, yielding at each level the x_t from which `ddim` leads to x.

    Every step solves ``x_t = x_s + (alpha_t - alpha_s) x^(x_t) + (sigma_t - sigma_s) eps^(x_t)`` for x_t by fixed-point
    iteration (Pan et al. 2023, AIDI, eq. 7); one iteration is DDIM inversion (Song et al. 2021, section 4.3). Each
    iteration reduces the error by the relative length of a step.

    Args:
        denoise: The model, with the condition that describes x; guidance makes the inversion less exact.
        levels: Levels from noisy to clean, as `noisekiln.samplers.base.grid` makes them.
        x: Images at the last level, (B, C, H, W).
        iterations: Evaluations of the denoiser per step, >= 1.
    """
    estimate = None
    for s, t in pairwise(reversed(levels)):
        x_t = x if estimate is None else estimate.advance(x, s, t)
        for _ in range(iterations):
            estimate = denoise(x_t, t)
            x_t = estimate.advance(x, s, t)
        x = x_t
        yield x
