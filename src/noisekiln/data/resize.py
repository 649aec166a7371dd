"""Fitting of an image to a size, by scaling and cropping the centre."""

from PIL import Image

PIXEL_ART = 64  # pixels: an image this small that grows by a whole factor keeps its hard edges


def resize_and_crop(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The centre of an image in the shape of `size` (height, width), scaled to it.

    Down with antialiasing (Lanczos, after a box reduction when it is far); up by whole factors from 64 pixels or less
    by repeating pixels; up otherwise with a cubic.
    """
    height, width = size
    if image.size == (width, height):
        return image
    scale = max(width / image.width, height / image.height)
    # The part of the image that stays, in its own pixels: never more than there are, as rounding could give.
    across, down = min(width / scale, image.width), min(height / scale, image.height)
    left, top = (image.width - across) / 2, (image.height - down) / 2
    box = (left, top, left + across, top + down)
    return image.resize((width, height), _filter(image, scale), box, reducing_gap=3.0 if scale < 1 else None)


def _filter(image: Image.Image, scale: float) -> Image.Resampling:
    """The filter for a scaling of every length by `scale`."""
    if scale <= 1:
        return Image.Resampling.LANCZOS
    if max(image.size) <= PIXEL_ART and scale == int(scale):
        return Image.Resampling.NEAREST
    return Image.Resampling.BICUBIC
