"""A contact sheet of the images that a run is trained on, with their classes or captions."""

from collections.abc import Sequence
from math import ceil

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from noisekiln.data import DataSet, Split
from noisekiln.errors import counted
from noisekiln.plots.lettering import font_for, lacks_font, wrap_text
from noisekiln.plots.sheet import Sheet, fit_into

SIDE, SIDE_WITH_CAPTION = 96, 160  # of an image, in pixels
COLUMNS, ROWS = 8, 6
COLUMNS_WITH_CAPTION, ROWS_WITH_CAPTION = 5, 4
CLASSES = 12  # rows of classes
LABEL = 150  # width of their names
NARROW = 720  # least width of a sheet, for its title
GAP, LINE, LINES = 8, 17, 3  # between images; of text; of a caption


def draw_data(data: DataSet, kind: str | None = None) -> Image.Image:
    """A sheet of some of the training images, as training sees them; pairs beside each other.

    Args:
        data: The images, cropped and resized.
        kind: Kind of the conditions that are trained: "class", "text", ..., "" for none. If None, captions, or classes
            without them.
    """
    title, part = f"{data.name}: what is trained on", data.train
    if part.captions is not None and kind not in ("class", ""):
        return _with_captions(part, part.captions, title, _describe_images(data))
    if part.labels is not None and data.class_names and kind not in ("text", ""):
        return _by_class(part, part.labels, data.class_names, title, _describe_images(data))
    cells = Cells(part, SIDE)
    rows = _spread(np.arange(len(part)), COLUMNS // cells.across * ROWS)
    columns = min(COLUMNS // cells.across, len(rows))
    width, height = columns * cells.step - GAP, ceil(len(rows) / columns) * (cells.height + GAP) - GAP
    sheet = Sheet(max(width, NARROW), height, title, _describe_images(data))
    for place, row in enumerate(rows):
        cells.put(sheet, int(row), place % columns * cells.step, place // columns * (cells.height + GAP))
    return sheet.image


class Cells:
    """The places of images on a sheet; an image of a pair has the other one on its left.

    Args:
        part: The images.
        side: Longer side of a place for one image.

    Attributes:
        across: Images in a cell: 2 for pairs.
        width: Width of a cell, in pixels.
        height: Its height.
        step: From one cell to the next.
    """

    def __init__(self, part: Split, side: int) -> None:
        self.part, self.side = part, side
        self.across = 1 if part.partners is None else 2
        self._box = fit_into(part.pixels[0], side).size
        self.width, self.height = self.across * self._box[0], self._box[1]
        self.step = self.width + GAP

    def put(self, sheet: Sheet, row: int, left: int, top: int) -> None:
        """Put an image, or a pair, into the cell at this place."""
        partners = self.part.partners
        shown = [self.part.pixels[row]] if partners is None else [partners[row], self.part.pixels[row]]
        for number, pixels in enumerate(shown):
            sheet.put(fit_into(pixels, self.side), left + number * self._box[0], top, self._box)


def _by_class(part: Split, labels: NDArray[np.int64], names: Sequence[str], title: str, subtitle: str) -> Image.Image:
    """One row for each class."""
    counts = np.bincount(labels, minlength=len(names))
    present = [label for label in range(len(names)) if counts[label]]
    shown, hidden = present[:CLASSES], len(present) - CLASSES
    subtitle += f" (the first {CLASSES} are shown)" if hidden > 0 else ""
    cells = Cells(part, SIDE)
    columns, tall = COLUMNS // cells.across, max(cells.height, 4 * LINE) + GAP
    sheet = Sheet(max(LABEL + columns * cells.step - GAP, NARROW), len(shown) * tall - GAP, title, subtitle)
    for place, label in enumerate(shown):
        top = place * tall
        lines = wrap_text(names[label], font_for(names[label], 13), LABEL - GAP, 3) or [""]
        for number, line in enumerate(lines):
            sheet.write(line, 0, top + number * LINE, LABEL - GAP, size=13)
        sheet.write(counted(int(counts[label]), "image"), 0, top + 2 + len(lines) * LINE, LABEL, size=11, grey=True)
        for column, row in enumerate(_spread(np.flatnonzero(labels == label), columns)):
            cells.put(sheet, int(row), LABEL + column * cells.step, top)
    return sheet.image


def _with_captions(part: Split, captions: Sequence[str], title: str, subtitle: str) -> Image.Image:
    """Each image with its caption below."""
    cells = Cells(part, SIDE_WITH_CAPTION)
    width = max(cells.width, SIDE_WITH_CAPTION)  # of a caption
    columns, step, tall = COLUMNS_WITH_CAPTION // cells.across, width + 2 * GAP, cells.height + LINES * LINE + 2 * GAP
    rows = _spread(np.arange(len(part)), columns * ROWS_WITH_CAPTION)
    columns = min(columns, len(rows))
    if any(lacks_font(captions[row]) for row in rows):
        subtitle += "; this machine has no font for some of the captions"
    sheet = Sheet(max(columns * step - 2 * GAP, NARROW), ceil(len(rows) / columns) * tall, title, subtitle)
    for place, row in enumerate(rows):
        left, top, caption = place % columns * step, place // columns * tall, captions[row].partition("\n")[0]
        cells.put(sheet, int(row), left, top)
        lines = wrap_text(caption, font_for(caption, 12), width, LINES) or ["(no caption)"]
        for number, line in enumerate(lines):
            sheet.write(line, left, top + cells.height + 5 + number * LINE, width, grey=not caption)
    return sheet.image


def _spread(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most so many of the rows, at equal distances."""
    places = np.linspace(0, len(rows) - 1, min(most, len(rows)))
    return rows[places.round().astype(np.int64)]


def _describe_images(data: DataSet) -> str:
    height, width = data.size
    kind = {1: "grey", 3: "colour"}.get(data.channels, f"{data.channels} channels")
    parts = [f"{counted(len(data.train), 'image')} of {height}x{width} pixels, {kind}"]
    if data.train.partners is not None:
        parts.append("in pairs: from the left one to the right one")
    if data.class_names:
        parts.append(counted(len(data.class_names), "class", "classes"))
    if data.held_out:
        parts.append(f"{len(data.held_out):,} more are held out")
    return "; ".join(parts)
