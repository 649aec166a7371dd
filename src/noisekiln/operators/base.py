"""Base class of operators, observations in the units of x, and convolution with one kernel."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

LinearMap = Callable[[Tensor], Tensor]


class Operator(ABC):
    """``observation = A(image) + std z``: a model of how an image was degraded.

    A frozen dataclass of settings. Images are (B, C, H, W), floats of about [0, 1], with any number of channels. An
    operator only has to be differentiable: adjoint and derivative follow from that.
    """

    @property
    def std(self) -> float:
        """Standard deviation of the noise in an observation, in units of [0, 1]. May be overridden."""
        return 0.0

    @abstractmethod
    def __call__(self, images: Tensor) -> Tensor:
        """The observation of images, without noise.

        Raises:
            ValueError: For images of a size that it cannot act on.
        """

    def to(self, device: torch.device) -> Self:
        """The same operator with its tensors, if it has any, on a device. May be overridden."""
        return self

    def adjoint(self, observation: Tensor, images: Tensor) -> Tensor:
        """``A^T observation``, the shape of `images`; for a non-linear A that of its derivative at `images`."""
        pulled: Tensor = torch.func.vjp(self, images)[1](observation)[0]
        return pulled


class Observation(NamedTuple):
    """An observed image in the units of x: ``y = A(x) + std z`` for an x of unit variance.

    Attributes:
        y: The observed image, (B, ...), or (1, ...) for a whole batch of its variants.
        operator: A on x, differentiable: an `Operator` behind a codec.
        std: Standard deviation of the noise in y.
    """

    y: Tensor
    operator: Callable[[Tensor], Tensor]
    std: float = 0.0

    def linearize(self, x: Tensor) -> tuple[Tensor, LinearMap, LinearMap]:
        """At x: the residual ``y - A(x)``, the derivative ``v -> A' v``, and its transpose ``u -> A'^T u``."""
        x = x.detach()
        observed, transpose = torch.func.vjp(self.operator, x)[:2]

        def jvp(v: Tensor) -> Tensor:
            with sdpa_kernel(SDPBackend.MATH):  # the other kernels of attention, as in a codec, have no such derivative
                along: Tensor = torch.func.jvp(self.operator, (x,), (v,))[1]
            return along

        def vjp(u: Tensor) -> Tensor:
            across: Tensor = transpose(u)[0]
            return across

        return self.y - observed, jvp, vjp


def convolve(images: Tensor, kernel: Tensor) -> Tensor:
    """Convolve every channel of (B, C, H, W) with a kernel of odd sides, (h, w); borders are mirrored."""
    height, width = images.shape[-2:]
    rows = _mirrored(height, kernel.shape[0] // 2, images.device)
    columns = _mirrored(width, kernel.shape[1] // 2, images.device)
    padded = images[..., rows, :][..., columns].flatten(0, 1)[:, None]
    return F.conv2d(padded, kernel[None, None]).view(images.shape)


def _mirrored(count: int, margin: int, device: torch.device) -> Tensor:
    """Indices -margin ... count + margin - 1, reflected into the image about its border pixels as often as needed."""
    period = max(2 * count - 2, 1)
    index = torch.arange(-margin, count + margin, device=device).abs() % period
    return torch.where(index < count, index, period - index)
