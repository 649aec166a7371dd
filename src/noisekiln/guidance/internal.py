"""Internal guidance."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from noisekiln.guidance.base import ScaledGuidance


@dataclass(frozen=True)
class Internal(ScaledGuidance):
    """``early + scale (whole - early)``: the whole network against its early exit (Internal Guidance, CVPR 2026).

    One run of the network gives both, so that it costs nothing, and it needs no condition. The network has to be
    trained with an early exit: ``backbone=unet(early_exit=True)``.

    Args:
        scale: 1 is no guidance; above 1 leads away from what the weaker half of the network believes.
        low: Noise-to-signal ratio below which guidance is off.
        high: Ratio above which it is off.
    """

    weaker: ClassVar[Literal["no condition", "early exit"]] = "early exit"
    advice: ClassVar[str] = "is not possible. Use 1 (no guidance) or more, such as 1.7."

    scale: float = 1.7
