"""A network with conditions, guided."""

from noisekiln.conditions import Cond
from noisekiln.denoisers import Denoiser
from noisekiln.estimate import Denoise
from noisekiln.guidance.base import Guidance


def guided(
    denoiser: Denoiser, guidance: Guidance, cond: Cond, unconditional: Cond | None, precision: str = "fp32"
) -> Denoise:
    """The denoiser with its condition fixed, and guided away from the weaker estimate that the guidance asks for.

    Args:
        denoiser: The network.
        guidance: The method.
        cond: The condition of each image.
        unconditional: What guidance leads away from; None where there is no condition to guide towards.
        precision: Precision of the network.

    Raises:
        ValueError: If the guidance needs an early exit, and the network has none.
    """
    denoise = denoiser.bind(cond, precision)
    if guidance.weaker == "early exit":
        return guidance(denoise, denoiser.bind_exits(cond, precision))
    if unconditional is None:
        return denoise
    return guidance(denoise, denoiser.bind_both(cond, unconditional, precision))
