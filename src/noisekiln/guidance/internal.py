"""Internal guidance."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from noisekiln.estimate import Denoise, DenoiseBoth, Estimate
from noisekiln.guidance.base import Guidance
from noisekiln.levels import Level


@dataclass(frozen=True)
class Internal(Guidance):
    """``early + scale (whole - early)``: the whole network against its own early exit (Internal Guidance, CVPR 2026).

    One run of the network gives both, so that it costs nothing, and it needs no condition. The network has to be
    trained with an early exit: ``backbone=unet(early_exit=True)``.

    Args:
        scale: 1 is no guidance; above 1 leads away from what the weaker half of the network believes.
        low: Noise-to-signal ratio below which guidance is off.
        high: Ratio above which it is off.
    """

    weaker: ClassVar[Literal["no condition", "early exit"]] = "early exit"

    scale: float = 1.7
    low: float = 0.0
    high: float = float("inf")

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high:
            raise ValueError(
                f"Guidance from {self.low:g} to {self.high:g} is never on. Give low, then high, of 0 or more."
            )
        if not 0 <= self.scale < float("inf"):
            raise ValueError(
                f"A guidance scale of {self.scale:g} is not possible. Use 1 (no guidance) or more, such as 1.7."
            )

    def estimate(  # noqa: D102 (the base class says it)
        self, denoise: Denoise, both: DenoiseBoth, x_t: Tensor, t: Level, *, to: Level | None = None
    ) -> Estimate:
        if self.scale == 1 or not self.low <= float(t.nsr) <= self.high:
            return denoise(x_t, t, to=to)
        whole, early = both(x_t, t, to=to)
        return early.toward(whole, self.scale)
