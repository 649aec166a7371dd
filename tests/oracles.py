"""Perfect models: data whose denoiser, noising and probability flow are known in closed form, in float64."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from noisekiln.estimate import Denoise, Estimate
from noisekiln.levels import Level
from noisekiln.samplers.base import Sampler, sample


@dataclass(frozen=True)
class Mixture:
    """Independent pixels, each distributed as ``sum_k weight_k N(mean_k, std_k^2)``."""

    weights: tuple[float, ...]
    means: tuple[float, ...]
    stds: tuple[float, ...]

    @property
    def mean(self) -> float:
        return sum(w * m for w, m in zip(self.weights, self.means, strict=True))

    @property
    def variance(self) -> float:
        moments = zip(self.weights, self.means, self.stds, strict=True)
        return sum(w * (s**2 + m**2) for w, m, s in moments) - self.mean**2

    def __call__(self, x_t: Tensor, t: Level, *, to: Level | None = None) -> Estimate:
        """The exact ``E[x | x_t]`` and ``E[eps | x_t]``; nothing is divided by alpha or sigma."""
        if len(self.weights) == 1:  # the same, without the cost of choosing among one
            (mean,), (std,) = self.means, self.stds
            variance, off = t.alpha**2 * std**2 + t.sigma**2, x_t - t.alpha * mean
            return Estimate(mean + off * (t.alpha * std**2 / variance), off * (t.sigma / variance))
        weights, means, stds = (torch.tensor(part, dtype=x_t.dtype) for part in (self.weights, self.means, self.stds))
        variance = t.alpha**2 * stds**2 + t.sigma**2
        off = x_t[..., None] - t.alpha * means
        responsibility = (weights.log() - off**2 / (2 * variance) - variance.log() / 2).softmax(-1)
        x = (responsibility * (means + t.alpha * stds**2 * off / variance)).sum(-1)
        return Estimate(x, (responsibility * t.sigma * off / variance).sum(-1))

    def cdf(self, x_t: Tensor, t: Level) -> Tensor:
        parts = zip(self.weights, self.means, self.stds, strict=True)
        at = [(w, t.alpha * m, torch.hypot(t.alpha * s, t.sigma)) for w, m, s in parts]
        return sum((w * torch.special.ndtr((x_t - m) / s) for w, m, s in at), torch.zeros_like(x_t))

    def flow(self, x_t: Tensor, t: Level, s: Level) -> Tensor:
        """Where the probability flow carries x_t: in one dimension it keeps quantiles, ``F_s(x_s) = F_t(x_t)``."""
        rank = self.cdf(x_t, t)
        reach = (
            12.0
            * float(s.alpha + s.sigma)
            * max(1.0, *(abs(m) + d for m, d in zip(self.means, self.stds, strict=True)))
        )
        low, high = torch.full_like(x_t, -reach), torch.full_like(x_t, reach)
        for _ in range(80):
            middle = (low + high) / 2
            below = self.cdf(middle, s) < rank
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (low + high) / 2


GAUSSIAN = Mixture((1.0,), (1.3,), (0.7,))
MIXTURE = Mixture((0.3, 0.7), (-1.2, 0.8), (0.15, 0.4))
BOTH = {"gaussian": GAUSSIAN, "mixture": MIXTURE}


def no_noise(like: Tensor) -> Tensor:
    raise AssertionError("this sampler was to be deterministic")


def walk(denoise: Denoise, sampler: Sampler, levels: Sequence[Level], x: Tensor, noise=no_noise) -> Tensor:
    """The last images of a sampling run."""
    *_, last = sample(denoise, sampler, levels, x, noise)
    return last


@dataclass
class OneHotNoise:
    """Noise that is 1 for the batch's image number k + 1 at the k-th call and 0 otherwise.

    A sampler of Gaussian data is affine in all the noise that it uses: row 0 of the result is what it makes of none,
    and row k less row 0 is its gain for the k-th piece of noise. So means and variances come out exactly.
    """

    calls: int = 0

    def __call__(self, like: Tensor) -> Tensor:
        self.calls += 1
        noise = torch.zeros_like(like)
        noise[self.calls] = 1
        return noise


def moments(
    denoise: Denoise, sampler: Sampler, levels: Sequence[Level], mean: float, std: float
) -> tuple[float, float]:
    """Exact mean and deviation of what a sampler makes of x ~ N(mean, std^2) at the first level, for Gaussian data."""
    pieces = 2 + 2 * sampler.cost * len(levels)  # the start's own, and room for two pieces of noise an evaluation
    x = torch.full((pieces, 1, 1, 1), mean, dtype=torch.float64)
    x[-1] += std
    last = walk(denoise, sampler, levels, x, OneHotNoise()).flatten()
    return float(last[0]), sqrt(float((last[1:] - last[0]).square().sum()))


@dataclass(frozen=True)
class Gaussian:
    """Images whose pixels are jointly Gaussian: denoiser and posteriors by linear algebra.

    mean: (D,) and covariance: (D, D) of flattened images of the given shape (C, H, W).
    """

    mean: Tensor
    covariance: Tensor
    shape: tuple[int, int, int]

    def __call__(self, x_t: Tensor, t: Level, *, to: Level | None = None) -> Estimate:
        """``m + alpha S (alpha^2 S + sigma^2)^-1 (x_t - alpha m)``, and eps likewise."""
        one = torch.eye(len(self.mean), dtype=x_t.dtype)
        away = x_t.flatten(1) - t.alpha * self.mean
        whitened = torch.linalg.solve(t.alpha**2 * self.covariance + t.sigma**2 * one, away.T).T
        x = self.mean + t.alpha * whitened @ self.covariance
        return Estimate(x.view_as(x_t), (t.sigma * whitened).view_as(x_t))

    def conditioned_on(self, matrix: Tensor, y: Tensor, std: float) -> "Gaussian":
        """The posterior of an observation ``y = matrix x + std z``: again Gaussian."""
        gram = matrix @ self.covariance @ matrix.T + std**2 * torch.eye(len(matrix), dtype=y.dtype)
        gain = self.covariance @ matrix.T @ torch.linalg.pinv(gram, hermitian=True)
        return Gaussian(
            self.mean + gain @ (y - matrix @ self.mean), self.covariance - gain @ matrix @ self.covariance, self.shape
        )

    @classmethod
    def smooth(cls, shape: tuple[int, int, int], seed: int = 0) -> "Gaussian":
        """A random one with correlated pixels."""
        generator = torch.Generator().manual_seed(seed)
        d = shape[0] * shape[1] * shape[2]
        root = torch.randn(d, d, generator=generator, dtype=torch.float64) / d**0.5
        mean = torch.randn(d, generator=generator, dtype=torch.float64)
        return cls(mean, root @ root.T + 0.1 * torch.eye(d, dtype=torch.float64), shape)
