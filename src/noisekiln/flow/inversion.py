"""The way back: from an image to the noise that makes it."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from noisekiln.estimate import Denoise
from noisekiln.levels import Level


def invert(denoise: Denoise, levels: Sequence[Level], x: Tensor, iterations: int = 3) -> Tensor:
    """The x_t at the first level from which `ddim`, adapt_sampler the levels, leads to x.

    Every step solves ``x_t = x_s + (alpha_t - alpha_s) x^(x_t) + (sigma_t - sigma_s) eps^(x_t)`` for x_t by fixed-point
    iteration (Pan et al. 2023, AIDI, eq. 7), which one pass of DDIM inversion (Song et al. 2021, section 4.3) only
    begins. Its error shrinks by the relative length of a step each time.

    Args:
        denoise: The model, bound to what x shows; guidance makes the way back less exact.
        levels: From noisy to clean, as `noisekiln.samplers.base.grid` makes them.
        x: Images at the last level, (B, C, H, W).
        iterations: Evaluations of the denoiser a step, >= 1.
    """
    belief = None
    for s, t in pairwise(reversed(levels)):
        start, x_t = x, x if belief is None else x + (t.alpha - s.alpha) * belief.x + (t.sigma - s.sigma) * belief.eps
        for _ in range(iterations):
            belief = denoise(x_t, t)
            x_t = start + (t.alpha - s.alpha) * belief.x + (t.sigma - s.sigma) * belief.eps
        x = x_t
    return x
