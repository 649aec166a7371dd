"""A model's estimate of the clean image and of the noise, and the one interface through which samplers see a model.

A sampler calls a `Denoise`: a function from a noisy image and its level to an `Estimate`. Guidance and inpainting
change the estimate: they wrap one `Denoise` in another. Samplers change how to step. Neither knows the other.
"""

from typing import NamedTuple, Protocol

from torch import Tensor

from noisekiln.levels import Level


class Estimate(NamedTuple):
    """The expected clean image and the expected noise in ``x_t``; ``x_t = alpha x + sigma eps`` holds for them too.

    Attributes:
        x: E[x | x_t], the shape of ``x_t``.
        eps: E[eps | x_t], the shape of ``x_t``.
    """

    x: Tensor
    eps: Tensor

    @classmethod
    def of_x(cls, x_t: Tensor, x: Tensor, t: Level) -> "Estimate":
        """The estimate whose image is x: the noise follows, ``eps = (x_t - alpha x) / sigma``.

        Args:
            x_t: Noisy images, (B, ...).
            x: Clean images, or an estimate of them, of the same shape; kept exactly as they are.
            t: The level of ``x_t``; sigma > 0.
        """
        return cls(x, (x_t - t.alpha * x) / t.sigma)

    def at(self, s: Level) -> Tensor:
        """The image with this content at another level, ``alpha_s x + sigma_s eps``.

        This is the whole of a first-order step: DDIM (Song et al. 2021, eq. 12 with eta = 0), EDM's Euler step and
        flow matching's Euler step, without a division, so that it holds at alpha = 0 and at sigma = 0.
        """
        return s.alpha * self.x + s.sigma * self.eps

    def advance(self, x_t: Tensor, t: Level, s: Level) -> Tensor:
        """``x_t`` moved from level t to s with this estimate all along: a step of ``dx = x d(alpha) + eps d(sigma)``.

        ``x_t + (alpha_s - alpha_t) x + (sigma_s - sigma_t) eps``. For an estimate of ``x_t`` it is `at` s; methods of
        second order, and inversion, move ``x_t`` by an estimate of another point of the step.

        Args:
            x_t: Noisy images, (B, ...).
            t: Level of x_t.
            s: Level of the result, less noisy or noisier.
        """
        return x_t + (s.alpha - t.alpha) * self.x + (s.sigma - t.sigma) * self.eps

    def toward(self, other: "Estimate", w: float | Tensor) -> "Estimate":
        """Blend: w = 0 is this estimate, 1 the other, above 1 extrapolates beyond it, which is guidance.

        Estimates of one ``x_t`` form an affine plane, so every blend still satisfies ``x_t = alpha x + sigma eps``.
        """
        return Estimate(self.x + w * (other.x - self.x), self.eps + w * (other.eps - self.eps))


class Denoise(Protocol):
    """A model with its condition bound: all that a sampler needs."""

    def __call__(self, x_t: Tensor, t: Level, *, to: Level | None = None) -> Estimate:
        """Estimate image and noise.

        Args:
            x_t: Noisy images, (B, C, H, W).
            t: Level of x_t.
            to: Level at the end of the step, for few-step students that read it; others ignore it.
        """


class DenoiseBoth(Protocol):
    """Two estimates of one noisy image from one call, for guidance: the better one, then a weaker one."""

    def __call__(self, x_t: Tensor, t: Level, *, to: Level | None = None) -> tuple[Estimate, Estimate]:
        """With the condition and without it, or of the whole network and of an early exit; arguments as `Denoise`."""
