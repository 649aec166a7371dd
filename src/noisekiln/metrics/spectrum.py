"""Slope of power spectra: how fast the power of images falls with frequency."""

import numpy as np
import torch
from torch import Tensor

FEWEST_RINGS = 3  # frequencies to which a line is fitted


def spectrum_slope(x: Tensor, highest: float = 0.5) -> float:
    """Exponent of the power spectrum, a power law of frequency: about -2 to -3 for photographs, 0 for white noise.

    Power is averaged over images, channels and directions, in rings one cycle per image wide; the line is fitted to
    logarithms by least squares. The mean of each image is left out.

    Args:
        x: Images or latents, (N, C, H, W).
        highest: Highest frequency in cycles per pixel, up to 0.5.

    Returns:
        The slope; nan if there are fewer than 3 rings, or one without power.
    """
    side = max(x.shape[2:])
    power = torch.fft.fft2(x.double() - x.double().mean((2, 3), keepdim=True)).abs().square().mean((0, 1)).cpu().numpy()
    cycles = side * np.hypot(*np.meshgrid(*(np.fft.fftfreq(each) for each in x.shape[2:]), indexing="ij"))
    rings = [np.rint(cycles) == number for number in range(1, int(highest * side + 1e-9) + 1)]
    if len(rings) < FEWEST_RINGS or not all(ring.any() and power[ring].mean() > 0 for ring in rings):
        return float("nan")
    frequencies, powers = ([float(values[ring].mean()) for ring in rings] for values in (cycles, power))
    return float(np.polynomial.polynomial.polyfit(np.log(frequencies), np.log(powers), 1)[1])
