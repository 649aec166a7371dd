"""Noise levels, and the one function that adds noise.

A noisy image is ``x_t = alpha x + sigma eps``: some share of a clean image ``x`` and some of unit Gaussian noise
``eps``. A `Level` is that pair of coefficients. All of noisekiln works with levels: schedules are curves of them, draws
choose them for training, grids list them for sampling.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

NoiseSource = Callable[[Tensor], Tensor]
"""Callable that draws unit Gaussian noise of the shape, dtype and device of its argument."""


class Level(NamedTuple):
    """The coefficients of image and noise: ``x_t = alpha x + sigma eps``.

    Attributes:
        alpha: Share of the clean image, in [0, 1].
        sigma: Standard deviation of the noise, >= 0; never zero together with alpha.

    When sampling both are 0-d float64 tensors on the CPU; when training they have the shape (B, 1, ..., 1). Either way
    they broadcast against images as they are.
    """

    alpha: Tensor
    sigma: Tensor

    @property
    def norm(self) -> Tensor:
        """Standard deviation of ``x_t`` for unit-variance images, ``sqrt(alpha^2 + sigma^2)``."""
        return torch.hypot(self.alpha, self.sigma)

    @property
    def nsr(self) -> Tensor:
        """Noise-to-signal ratio ``sigma / alpha``: EDM's sigma; infinite for pure noise."""
        return self.sigma / self.alpha

    @property
    def angle(self) -> Tensor:
        """``atan2(sigma, alpha)``: 0 is clean, pi/2 pure noise; finite at both ends."""
        return torch.atan2(self.sigma, self.alpha)


def level(alpha: float, sigma: float) -> Level:
    """The `Level` of two numbers, as samplers use it (0-d float64 tensors)."""
    return Level(torch.tensor(alpha, dtype=torch.float64), torch.tensor(sigma, dtype=torch.float64))


CLEAN = level(1.0, 0.0)
PURE_NOISE = level(0.0, 1.0)


def noise_from(generator: torch.Generator | None) -> NoiseSource:
    """Noise for a whole batch from one generator, as training draws it; made on the generator's device.

    None stands for torch's own generator of the device that the noise is for.
    """
    if generator is None:
        return torch.randn_like
    return lambda like: torch.randn(like.shape, generator=generator, device=generator.device).to(like)


def renoise(x: Tensor, at: Level, to: Level, noise: Tensor) -> Tensor:
    """Bring an image from one level to a noisier one, as the noising process does.

    ``x_u = (alpha_u / alpha_t) x_t + sqrt(sigma_u^2 - (alpha_u sigma_t / alpha_t)^2) noise``

    From `CLEAN` this is the closed form q(x_t | x_0) (Ho et al. 2020, eq. 4); between neighbouring steps of a beta
    table it is one step of the chain, q(x_t | x_{t-1}) (eq. 2). Training, image-to-image, EDM's churn, RePaint's
    jumps and multistep consistency sampling all use it.

    Args:
        x: Images at the level `at`, (B, ...).
        at: Level of x.
        to: The level of the result: a noise-to-signal ratio at least as large.
        noise: Unit Gaussian noise of x's shape.

    Raises:
        ValueError: If `to` is less noisy than `at`; not checked for levels on a GPU, as the check would wait for it.
    """
    kept = torch.where(to.alpha == 0, to.alpha, to.alpha / at.alpha)  # pure noise keeps nothing of any image
    fresh = to.sigma**2 - (kept * at.sigma) ** 2
    if fresh.device.type == "cpu" and bool((fresh < -1e-6 * to.sigma**2).any()):
        raise ValueError(
            f"renoise goes from noise-to-signal ratio {at.nsr.max():.4g} to {to.nsr.max():.4g}. "
            "Adding noise cannot lower the ratio. Exchange the two levels, or use a sampler to remove noise."
        )
    return kept * x + fresh.clamp(min=0).sqrt() * noise
