"""Grids of samples of several models side by side, with labels."""

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

from PIL import Image

from noisekiln.files.pictures import ImageArray
from noisekiln.plots.lettering import font_for, wrap_text
from noisekiln.plots.sheet import Sheet, fit_into

CELLS, LEAST_CELL, MOST_CELL = 400, 48, 128  # pixels: all cells of a row, and the longer side of one
MOST_PIXELS = 256  # longer side of a cell for images that are as large, where few grids leave the space
SIDE_BY_SIDE = 4  # grids, at least, that are to fit beside each other
GAP, BETWEEN = 4, 32  # pixels between images, and between grids
HEADING, LINE, LINES = 66, 13, 4  # pixels of a grid's title and its two lines; of a label; lines of a label
NARROW, NARROW_SHEET = 232, 560  # least width of a grid and of the sheet, for their titles
WIDE = 1800  # width beyond which the next grid begins a new row


class LabelledGrid(NamedTuple):
    """Images of one model.

    Attributes:
        title: Name of the model.
        lines: Up to two lines below it.
        images: The images, (N, H, W, C) uint8.
        labels: Label of each image; none if they have no conditions.
    """

    title: str
    lines: Sequence[str]
    images: ImageArray
    labels: Sequence[str] = ()


def draw_grids(grids: Sequence[LabelledGrid], title: str, subtitle: str) -> Image.Image:
    """All grids side by side, in rows that are not too wide.

    Args:
        grids: At least one grid.
        title: Title of the sheet.
        subtitle: Line below it.
    """
    beside = min(len(grids), SIDE_BY_SIDE)
    cells = [GridCells(grid, (WIDE + BETWEEN) // beside - BETWEEN) for grid in grids]
    wide = max(cell.width for cell in cells)
    across = max(1, min(len(cells), (WIDE + BETWEEN) // (wide + BETWEEN)))
    across = ceil(len(cells) / ceil(len(cells) / across))  # rows of equal length
    rows = [cells[first : first + across] for first in range(0, len(cells), across)]
    heights = [max(cell.height for cell in row) + BETWEEN for row in rows]
    sheet = Sheet(max(across * (wide + BETWEEN) - BETWEEN, NARROW_SHEET), sum(heights) - BETWEEN, title, subtitle)
    for number, row in enumerate(rows):
        for place, cell in enumerate(row):
            cell.draw(sheet, place * (wide + BETWEEN), sum(heights[:number]), wide)
    return sheet.image


class GridCells:
    """The places of the images of one grid.

    Args:
        grid: The grid.
        space: Width that it may have, in pixels.

    Attributes:
        width: Width of the grid, in pixels.
        height: Its height, with its title.
    """

    def __init__(self, grid: LabelledGrid, space: int) -> None:
        self.grid = grid
        self.columns = ceil(len(grid.images) ** 0.5)
        own = min(max(grid.images.shape[1:3]), MOST_PIXELS, space // self.columns - GAP)
        self.side = max(own, min(MOST_CELL, max(LEAST_CELL, CELLS // self.columns - GAP)))
        self.box = fit_into(grid.images[0], self.side).size
        self.step = max(self.box[0], self.side if grid.labels else 0) + GAP
        self.labels = [wrap_text(label, font_for(label, 10), self.step - GAP, LINES) for label in grid.labels]
        self.lines = max(map(len, self.labels), default=0)
        self.row = self.box[1] + GAP + (self.lines * LINE + GAP if self.lines else 0)
        self.width = max(self.columns * self.step - GAP, NARROW)
        self.height = HEADING + ceil(len(grid.images) / self.columns) * self.row

    def draw(self, sheet: Sheet, left: int, top: int, width: int) -> None:
        """Draw title, images and labels at a place of `width` pixels."""
        sheet.write(self.grid.title, left, top, width, size=15)
        for number, line in enumerate(self.grid.lines):
            sheet.write(line, left, top + 22 + 17 * number, width, grey=True)
        for place, pixels in enumerate(self.grid.images):
            x, y = left + place % self.columns * self.step, top + HEADING + place // self.columns * self.row
            sheet.put(fit_into(pixels, self.side), x, y, (self.step - GAP, self.box[1]))
            for number, line in enumerate(self.labels[place] if self.labels else ()):
                sheet.write_centred(line, x, y + self.box[1] + GAP + number * LINE, self.step - GAP, size=10)
