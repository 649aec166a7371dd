"""One dial for the size of the network."""

from typing import NamedTuple


class Size(NamedTuple):
    """A U-Net's shape for images of 28 to 32 pixels; larger images get more levels below."""

    widths: tuple[int, ...]
    blocks: tuple[int, ...]
    condition: int


SIZES = {
    "xs": Size((32, 64), (1, 2), 64),
    "s": Size((64, 96), (1, 2), 128),
    "m": Size((64, 128), (2, 4), 128),
    "l": Size((96, 192), (3, 6), 256),
    "xl": Size((192, 384), (4, 8), 512),
}


def fitting_size(minutes: float | None, device: str) -> str:
    """The size for a budget: on a CPU by the measurements in LOG.md; on a graphics card not measured yet."""
    if device == "cpu":
        return "s" if minutes is None or minutes <= 10 else "m"
    return "l"


def unet_of_size(name: str, image: tuple[int, int]) -> str:
    """The spec of the U-Net of this size for images of (height, width) pixels.

    Images below 12 pixels are taken pixel by pixel, others in squares of 2; levels are added until the lowest has at
    most 12 pixels a side.
    """
    size = SIZES[name]
    side = max(image)
    patch = 1 if side < 12 else 2
    widths, blocks = list(size.widths), list(size.blocks)
    while side / patch / 2 ** (len(widths) - 1) > 12:
        widths.append(widths[-1] if len(widths) > 2 else 2 * widths[-1])
        blocks.insert(1, blocks[0])
    return f"unet(widths={tuple(widths)}, blocks={tuple(blocks)}, patch={patch}, condition={size.condition})"
