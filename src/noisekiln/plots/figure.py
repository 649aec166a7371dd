"""Figures of matplotlib, without its global state: no window, no backend, no style of the user's own."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noisekiln.files.atomic import atomic_write
from noisekiln.files.png_text import png_text
from noisekiln.version import VERSION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 100
LEFT = 96  # pixels on the left of figures, for labels
INK, FAINT = "#222222", "#b9c3cf"
COLOURS = ("#1f6fb4", "#d9541e", "#2a9d5c", "#8c56b3", "#b8860b", "#17809a", "#c2457a", "#555555")
STYLE: dict[Any, Any] = {
    "text.usetex": False,
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.edgecolor": "#888888",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "noisekiln",  # the same file each time
}


@contextmanager
def plotting() -> Iterator[None]:
    """In this context, figures look the same on every machine. matplotlib is imported here, not earlier."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        yield


def new_figure(width: int, height: int) -> "Figure":
    """An empty figure of a size in pixels."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")


def add_panels(figure: "Figure", shares: tuple[float, ...], *, top: float, bottom: float) -> list["Axes"]:
    """Axes one below the other, with one horizontal axis; each as tall as its share of the space.

    Args:
        figure: The figure.
        shares: Share of each.
        top: Pixels above the first one, for a title.
        bottom: Pixels below the last one.
    """
    width, height = figure.get_size_inches() * DPI
    gap, right = 30.0, 24.0
    space = height - top - bottom - gap * (len(shares) - 1)
    axes: list[Axes] = []
    upper = height - top
    for share in shares:
        tall = space * share / sum(shares)
        place = (LEFT / width, (upper - tall) / height, 1 - (LEFT + right) / width, tall / height)
        axes.append(figure.add_axes(place, sharex=axes[0] if axes else None))
        upper -= tall + gap
    for each in axes:
        each.grid(True, color="#e6e6e6", linewidth=0.8)
        each.set_axisbelow(True)
        each.yaxis.set_label_coords(-66 / (width - LEFT - right), 0.5)  # in one column
    for each in axes[:-1]:
        each.tick_params(labelbottom=False)
    return axes


def save_figure(figure: "Figure", file: Path, text: Mapping[str, Any]) -> None:
    """Write a figure as PNG or SVG, by the ending of the file, with text on how it was made.

    Raises:
        OSError: If it cannot be written.
    """
    with plotting(), atomic_write(file) as draft:
        if file.suffix.lower() == ".svg":
            figure.savefig(draft, format="svg", metadata={"Date": None, "Creator": f"noisekiln {VERSION}"})
        else:
            figure.savefig(draft, format="png", pil_kwargs={"pnginfo": png_text(text)})
