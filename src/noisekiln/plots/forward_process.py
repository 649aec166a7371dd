"""The forward process in pictures: images on their way to noise under a schedule."""

import torch
from PIL import Image
from torch import Tensor

from noisekiln.components.spec import build
from noisekiln.files.pictures import ImageArray
from noisekiln.levels import CLEAN, renoise
from noisekiln.model.diffusion import Diffusion
from noisekiln.plots.sheet import Sheet, fit_into
from noisekiln.schedules.base import Schedule

TIMES = 9
SIDE, GAP, HEAD = 112, 6, 40  # pixels: an image, between images, the labels above
NOISE_SEED = 0


@torch.no_grad()
def noisy_images(model: Diffusion, pixels: Tensor, times: Tensor) -> tuple[ImageArray, list[float]]:
    """Images at several times of the model's schedule, scaled to unit variance so that none is too bright to be seen.

    Args:
        model: The model, of which only codec and schedule are used.
        pixels: (N, H, W, C) uint8.
        times: (T,) in [0, 1].

    Returns:
        (T, N, H, W, C) uint8, and the noise-to-signal ratio at each time.
    """
    schedule: Schedule = build(Schedule, model.sampling.schedule)
    x = model.codec.encode(pixels.to(model.device))
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(NOISE_SEED)).to(x)
    images, ratios = [], []
    for time in times:
        level = schedule(time)
        x_t = (renoise(x, CLEAN, level, noise) / level.norm).to(x.dtype)
        images.append(model.codec.decode(x_t, size=(pixels.shape[1], pixels.shape[2])).cpu())
        ratios.append(float(level.nsr))
    return torch.stack(images).numpy(), ratios


def draw_forward(model: Diffusion, pixels: Tensor) -> Image.Image:
    """A sheet: one row for each image, one column for each time.

    Args:
        model: The model.
        pixels: (N, H, W, C) uint8.
    """
    times = torch.linspace(0, 1, TIMES, dtype=torch.float64)
    images, ratios = noisy_images(model, pixels, times)
    step = SIDE + GAP
    subtitle = (
        f"x_t = alpha x + sigma eps along the schedule {model.sampling.schedule}, from time 0 (clean) to 1 (noise); "
        "shown at equal contrast"
    )
    sheet = Sheet(TIMES * step - GAP, HEAD + len(pixels) * step - GAP, "Images on their way to noise", subtitle)
    for column, (time, ratio) in enumerate(zip(times.tolist(), ratios, strict=True)):
        sheet.write_centred(f"time {time:.3g}", column * step, 0, SIDE)
        sheet.write_centred(f"sigma/alpha {_short_ratio(ratio)}", column * step, 18, SIDE, size=10, grey=True)
        for row in range(len(pixels)):
            shown = fit_into(images[column, row], SIDE, smooth=False)
            sheet.put(shown, column * step, HEAD + row * step, (SIDE, SIDE))
    return sheet.image


def _short_ratio(ratio: float) -> str:
    return f"{ratio:.2g}" if ratio < 10 else f"{ratio:.0f}" if ratio < 1e4 else "∞"
