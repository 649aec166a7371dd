"""Prediction types: what the network's output means, a pair of coefficients, ``y = a x + b eps``.

From ``x_t = alpha x + sigma eps`` and ``y = a x + b eps`` follow ``x`` and ``eps`` by solving a 2x2 system with the
determinant ``det = alpha b - sigma a``. A new type of prediction is one more line below.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from noisekiln.estimate import Estimate
from noisekiln.levels import Level


@dataclass(frozen=True)
class Prediction:
    """A linear combination of image and noise that a network is trained to output.

    Attributes:
        name: Name in settings and saved models: "x0", "eps", "v", "flow".
        coefficients: Level -> (a, b) of ``y = a x + b eps``.
    """

    name: str
    coefficients: Callable[[Level], tuple[Tensor, Tensor]]

    def __reduce_ex__(self, protocol: Any) -> str | tuple[Any, ...]:
        """Pickled by its name, if it is in `PREDICTIONS`: pickle knows no functions without a name of their own."""
        return (_called, (self.name,)) if PREDICTIONS.get(self.name) is self else super().__reduce_ex__(protocol)

    def determinant(self, t: Level) -> Tensor:
        """``alpha b - sigma a``: zero where image and noise cannot be told apart from the output."""
        a, b = self.coefficients(t)
        return t.alpha * b - t.sigma * a

    def target(self, x: Tensor, eps: Tensor, t: Level) -> Tensor:
        """The output of a perfect network, ``a x + b eps``; the shape of x."""
        a, b = self.coefficients(t)
        return a * x + b * eps

    def estimate(self, x_t: Tensor, y: Tensor, t: Level) -> Estimate:
        """Image and noise from the network's output: ``x = (b x_t - sigma y)/det``, ``eps = (alpha y - a x_t)/det``."""
        a, b = self.coefficients(t)
        det = t.alpha * b - t.sigma * a
        return Estimate((b * x_t - t.sigma * y) / det, (t.alpha * y - a * x_t) / det)

    def loss_scale(self, t: Level) -> Tensor:
        """``(det / sigma)^2``: how a squared error of x becomes one of y, ``|y - y^|^2 = (det/sigma)^2 |x - x^|^2``."""
        return (self.determinant(t) / t.sigma) ** 2


def _called(name: str) -> Prediction:
    return PREDICTIONS[name]


def _one(t: Level) -> Tensor:
    return torch.ones_like(t.alpha)


X0 = Prediction("x0", lambda t: (_one(t), 0 * t.alpha))
EPS = Prediction("eps", lambda t: (0 * t.alpha, _one(t)))
V = Prediction("v", lambda t: (-t.sigma / t.norm, t.alpha / t.norm))
FLOW = Prediction("flow", lambda t: (-_one(t), _one(t)))

PREDICTIONS = {each.name: each for each in tuple(globals().values()) if isinstance(each, Prediction)}
"""By name. `V` is exact at both ends and, on unit-variance images, EDM's preconditioning (up to the output's sign)."""
