"""What a codec is."""

from abc import ABC, abstractmethod

from torch import Tensor


class Codec(ABC):
    """Images <-> x. Standardising happens here and nowhere else: inside, x has mean 0 and variance 1."""

    @property
    @abstractmethod
    def channels(self) -> int:
        """Channels of x."""

    @abstractmethod
    def encode(self, pixels: Tensor) -> Tensor:
        """Images (B, H, W, C) uint8 -> x (B, C', H', W') float32, of mean 0 and variance 1 over a data set."""

    @abstractmethod
    def picture(self, x: Tensor) -> Tensor:
        """X -> images (B, C, H, W), floats of about [0, 1]; differentiable, neither rounded nor clipped."""

    @property
    @abstractmethod
    def scale(self) -> float:
        """How far a picture moves, as a root mean square, when x moves by 1."""

    @property
    @abstractmethod
    def limits(self) -> tuple[Tensor, Tensor]:
        """Least and greatest x that decodes without being clipped, both broadcasting to (C', H', W')."""

    @abstractmethod
    def decode(self, x: Tensor) -> Tensor:
        """X -> images (B, H, W, C) uint8; values out of range are clipped."""
