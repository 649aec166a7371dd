"""Base class of inverse methods, the covariance from the network's Jacobian, and the linear solver."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from noisekiln.estimate import Denoise, Estimate
from noisekiln.levels import Level
from noisekiln.operators.base import LinearMap, Observation
from noisekiln.samplers.base import Sampler

CHECK_EVERY = 4  # iterations between tests of convergence on a GPU, each of which waits for it


class Inverse(ABC):
    """Turns E[x | x_t] into E[x | x_t, y], exactly or approximately: no training, any sampler, any guidance.

    Most are one Gaussian update, ``x^ + V A^T (A V A^T + std^2)^-1 (y - A x^)``, and differ in V, their approximation
    of the covariance of x given x_t.
    """

    backward: ClassVar[bool]  # whether it differentiates the network, at two to four times the cost

    @abstractmethod
    def estimate(
        self, denoise: Denoise, observation: Observation, x_t: Tensor, t: Level, *, to: Level | None = None
    ) -> Estimate:
        """The estimate of an image that agrees with the observation.

        Args:
            denoise: The model of images, bound and guided.
            observation: Observed image and its operator.
            x_t: Noisy images, (B, C, H, W).
            t: Level of x_t.
            to: The level that the step will land on.
        """

    def __call__(self, denoise: Denoise, observation: Observation) -> Denoise:
        """The model of images that agree with the observation; arguments as for `estimate`."""
        return Conditioned(self, denoise, observation)

    def adapt_sampler(self, sampler: Sampler, observation: Observation) -> Sampler:
        """The sampler to use; methods that must reduce injected noise return a wrapped one. May be overridden."""
        return sampler


def clipped(denoise: Denoise, limits: tuple[Tensor, Tensor] | None) -> Denoise:
    """The model with its images kept between a codec's `limits`, so that no correction diverges; unchanged for None."""
    return denoise if limits is None else Clipped(denoise, limits)


@dataclass(frozen=True, eq=False)
class Conditioned:
    """A model of images that agree with an observation: a `Denoise`.

    Args:
        inverse: The method.
        denoise: The model of all images.
        observation: Observed image and its operator.
    """

    inverse: Inverse
    denoise: Denoise
    observation: Observation

    def __call__(self, x_t: Tensor, t: Level, *, to: Level | None = None) -> Estimate:
        """The estimate that agrees with the observation."""
        return self.inverse.estimate(self.denoise, self.observation, x_t, t, to=to)

    def __repr__(self) -> str:
        """The method, the shape of the observation and the model."""
        return f"Conditioned({self.inverse}, y={tuple(self.observation.y.shape)}, {self.denoise})"


@dataclass(frozen=True, eq=False)
class Clipped:
    """A model with its images kept between limits: a `Denoise`.

    Args:
        denoise: The model.
        limits: Lowest and highest x, broadcasting to the images.
    """

    denoise: Denoise
    limits: tuple[Tensor, Tensor]

    def __call__(self, x_t: Tensor, t: Level, *, to: Level | None = None) -> Estimate:
        """The estimate with its image clipped."""
        low, high = (limit.to(x_t) for limit in self.limits)
        return Estimate.of_x(x_t, self.denoise(x_t, t, to=to).x.clamp(low, high), t)

    def __repr__(self) -> str:
        """The model."""
        return f"Clipped({self.denoise})"


def estimate_with_covariance(denoise: Denoise, x_t: Tensor, t: Level, to: Level | None) -> tuple[Tensor, LinearMap]:
    """x^ and ``v -> V v`` with ``V = (sigma^2 / alpha) J``, the covariance of x given x_t (Tweedie's second identity).

    J is the derivative of x^ by x_t, symmetric for an exact denoiser. Each call of the map is one backward pass, except
    at alpha = 0: there x_t holds nothing of x, and V is that of unit-variance data, the identity.

    Args:
        denoise: The model of images, differentiable.
        x_t: Noisy images, (B, C, H, W).
        t: Level of x_t.
        to: The level that the step will land on.
    """
    with torch.enable_grad():
        x_in = x_t.detach().requires_grad_()
        x = denoise(x_in, t, to=to).x

    def covariance(v: Tensor) -> Tensor:
        if t.alpha == 0:
            return v
        (product,) = torch.autograd.grad(x, x_in, v, retain_graph=True)
        return float(t.sigma**2 / t.alpha) * product

    return x.detach(), covariance


def conjugate_gradients(apply: LinearMap, b: Tensor, iterations: int, tolerance: float = 1e-6) -> tuple[Tensor, Tensor]:
    """``apply^-1 b`` and the residual, by conjugate gradients, image by image.

    The map is symmetric and positive. Exact after as many iterations as it has distinct eigenvalues; singular
    directions that b does not point to do no harm. An image stays as it is once its residual is `tolerance` of b, or
    where the map turns out not to be positive, as a network's Jacobian may.

    Args:
        apply: The map, (B, ...) -> (B, ...).
        b: Right-hand side, (B, ...).
        iterations: Largest number of iterations.
        tolerance: Relative size of the residual at which an image is done.

    Returns:
        x and ``b - apply(x)``.
    """
    x, residual = torch.zeros_like(b), b
    direction, square = residual, dot(b, b)
    enough = tolerance**2 * square
    going = torch.ones_like(square, dtype=torch.bool)  # an image that has converged does not change again
    every = 1 if b.device.type == "cpu" else CHECK_EVERY  # once all have stopped, an iteration changes nothing
    for i in range(iterations):
        image = apply(direction)
        curvature = dot(direction, image)
        going = going & (square > enough) & (curvature > 0)
        if i % every == 0 and not bool(going.any()):
            break
        step = torch.where(going, square / torch.where(going, curvature, 1), 0)
        x = x + step * direction
        residual = residual - step * image
        before, square = square, torch.where(going, dot(residual, residual), square)
        direction = residual + torch.where(going, square / before, 0) * direction
    return x, residual


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner products, image by image: (B, 1, ..., 1)."""
    return (a * b).flatten(1).sum(1).view(-1, *[1] * (a.ndim - 1))
