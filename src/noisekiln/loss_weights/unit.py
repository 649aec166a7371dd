"""Equal weight of all levels."""

from torch import Tensor

from noisekiln.levels import Level
from noisekiln.loss_weights.base import LossWeight
from noisekiln.predictions import Prediction


class Unit(LossWeight):
    """The plain mean squared error of the output.

    With an eps-prediction this is DDPM's L_simple (Ho et al. 2020, eq. 14), with v EDM's weighting (Karras et al.
    2022, table 1), with flow the flow matching loss.
    """

    def forward(self, error: Tensor, t: Level, prediction: Prediction) -> Tensor:  # noqa: D102
        return error
