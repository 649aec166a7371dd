"""Base class of loss weights."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from noisekiln.levels import Level
from noisekiln.predictions import Prediction


class LossWeight(nn.Module, ABC):
    """Function from the squared errors of the network's output to the numbers whose mean is minimised.

    A Module, because a weight may have parameters; constructor arguments are attributes of the same names.
    """

    @abstractmethod
    def forward(self, error: Tensor, t: Level, prediction: Prediction) -> Tensor:
        """The weighted errors, (B,).

        Args:
            error: Mean squared error of each image's output y, (B,).
            t: Level of each image, two (B,) tensors.
            prediction: Type of prediction; `Prediction.loss_scale` converts errors of x to errors of y.
        """
