"""Sheets of images with titles and labels, pixel by pixel."""

from PIL import Image, ImageDraw

from noisekiln.files.pictures import ImageArray, to_pil
from noisekiln.plots.figure import INK
from noisekiln.plots.lettering import GREY, fit_text, font_for

MARGIN, TITLE = 18, 66  # pixels: around a sheet, and of its title


def fit_into(pixels: ImageArray, side: int, *, smooth: bool = True) -> Image.Image:
    """An image in colour, enlarged by a whole factor or reduced so that its longer side has at most `side` pixels.

    Args:
        pixels: (H, W, C) uint8.
        side: The side.
        smooth: Whether pixels are averaged when it is reduced; noise would become weaker.
    """
    image = to_pil(pixels)
    if image.mode not in ("L", "RGB"):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image, longer = image.convert("RGB"), max(image.size)
    factor = side // longer if longer <= side else side / longer
    if factor == 1:
        return image
    size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    smoothly = smooth and factor < 1
    return image.resize(size, Image.Resampling.LANCZOS if smoothly else Image.Resampling.NEAREST)


class Sheet:
    """A white sheet with a title, onto which images and labels are put.

    Args:
        width: Width of what is below the title, in pixels.
        height: Its height.
        title: First line.
        subtitle: Second line, smaller.

    Attributes:
        image: The sheet so far.
    """

    def __init__(self, width: int, height: int, title: str, subtitle: str) -> None:
        self.image = Image.new("RGB", (width + 2 * MARGIN, height + TITLE + 2 * MARGIN), "white")
        self._draw = ImageDraw.Draw(self.image)
        self._write(title, (MARGIN, MARGIN), 18, INK, bold=True, width=width)
        self._write(subtitle, (MARGIN, MARGIN + 28), 13, GREY, width=width)

    def put(self, image: Image.Image, left: int, top: int, box: tuple[int, int]) -> None:
        """Put an image into the middle of a box of (width, height) pixels, `left` and `top` counted from the title."""
        at = left + (box[0] - image.width) // 2, top + (box[1] - image.height) // 2
        self.image.paste(image, (MARGIN + at[0], MARGIN + TITLE + at[1]))

    def write(self, text: str, left: int, top: int, width: float, *, size: int = 12, grey: bool = False) -> None:
        """Write a line, cut where it would be wider than `width` pixels."""
        self._write(text, (MARGIN + left, MARGIN + TITLE + top), size, GREY if grey else INK, width=width)

    def write_centred(
        self, text: str, left: int, top: int, width: float, *, size: int = 12, grey: bool = False
    ) -> None:
        """Write a line in the middle of `width` pixels."""
        indent = max(0.0, (width - font_for(text, size).getlength(text)) / 2)
        self.write(text, round(left + indent), top, width, size=size, grey=grey)

    def _write(
        self, text: str, at: tuple[int, int], size: int, colour: str, *, width: float, bold: bool = False
    ) -> None:
        font = font_for(text, size, bold=bold)
        self._draw.text(at, fit_text(text, font, width), fill=colour, font=font)
