"""Min-SNR-gamma weighting."""

from torch import Tensor

from noisekiln.levels import Level
from noisekiln.loss_weights.base import LossWeight
from noisekiln.predictions import Prediction


class MinSnr(LossWeight):
    """``min(SNR, gamma)`` on the squared error of x, for every type of prediction (Hang et al. 2023, section 3.4).

    Args:
        gamma: SNR above which the weight rises no more; 5 in the paper.
    """

    def __init__(self, gamma: float = 5.0) -> None:
        super().__init__()
        if gamma <= 0:
            raise ValueError(f"min_snr(gamma={gamma}): every weight would be 0. Give a gamma above 0.")
        self.gamma = gamma

    def forward(self, error: Tensor, t: Level, prediction: Prediction) -> Tensor:  # noqa: D102
        snr = ((t.alpha / t.sigma) ** 2).clamp(1e-12, self.gamma)  # at alpha = 0 an eps-prediction counts 1, not 0/0
        return snr / prediction.loss_scale(t).clamp(min=1e-12) * error
