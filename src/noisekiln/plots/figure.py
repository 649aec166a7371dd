"""Figures of matplotlib, without its global state: no window, no backend, no style of the user's own."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noisekiln.files.atomic import atomic_write
from noisekiln.files.png_text import png_text
from noisekiln.plots.lettering import fit_text, font_for
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


def add_panels(
    figure: "Figure", shares: tuple[float, ...], *, top: float, bottom: float, left: float = LEFT, right: float = 24.0
) -> list["Axes"]:
    """Axes one below the other, with one horizontal axis; each as tall as its share of the space.

    Args:
        figure: The figure.
        shares: Share of each.
        top: Pixels above the first one, for a title.
        bottom: Pixels below the last one.
        left: Pixels on their left, for labels.
        right: Pixels on their right.
    """
    width, height = figure.get_size_inches() * DPI
    gap = 30.0
    space = height - top - bottom - gap * (len(shares) - 1)
    axes: list[Axes] = []
    upper = height - top
    for share in shares:
        tall = space * share / sum(shares)
        place = (left / width, (upper - tall) / height, 1 - (left + right) / width, tall / height)
        axes.append(figure.add_axes(place, sharex=axes[0] if axes else None))
        upper -= tall + gap
    for each in axes:
        each.grid(True, color="#e6e6e6", linewidth=0.8)
        each.set_axisbelow(True)
        each.yaxis.set_label_coords(-66 / (width - left - right), 0.5)  # in one column
    for each in axes[:-1]:
        each.tick_params(labelbottom=False)
    return axes


def legend_beside(panel: "Axes") -> None:
    """The legend of a panel on its right, where it hides no curve; a title that it has stays."""
    before = panel.get_legend()
    title = before.get_title().get_text() if before else None
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.015, 1.04), "borderaxespad": 0.0}
    legend = panel.legend(**place, frameon=False, fontsize=9, title=title, title_fontsize=9, alignment="left")
    legend.set_in_layout(False)


def format_axes(panels: Sequence["Axes"], last: float, first: float = 0.0) -> None:
    """Few ticks, with few digits.

    Args:
        panels: Axes one below the other, with one horizontal axis.
        last: Its end.
        first: Its beginning.
    """
    from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullLocator

    panels[0].set_xlim(first, last * 1.01 or 1)
    panels[-1].xaxis.set_major_formatter(EngFormatter(sep=""))
    for panel in panels:
        panel.yaxis.set_major_locator(MaxNLocator(max(3, int(panel.bbox.height // 45))))
        if panel.get_yscale() == "log":
            panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:.4g}"))
        panel.yaxis.set_minor_locator(NullLocator())


def plain_text(text: str, points: int, width: float, *, bold: bool = False) -> str:
    """A name that fits into a width in pixels, for a title or a legend; a dollar sign would begin a formula."""
    font = font_for(text, round(points * DPI / 72), bold=bold)
    return fit_text(text, font, width).replace("$", r"\$")


def save_figure(figure: "Figure", file: Path, text: Mapping[str, Any]) -> None:
    """Write a figure as PNG or SVG, by the ending of the file, with text on how it was made.

    Raises:
        OSError: If it cannot be written.
    """
    with plotting(), atomic_write(file) as draft, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a sign that the font lacks, which is drawn as a box
        if file.suffix.lower() == ".svg":
            figure.savefig(draft, format="svg", metadata={"Date": None, "Creator": f"noisekiln {VERSION}"})
        else:
            figure.savefig(draft, format="png", pil_kwargs={"pnginfo": png_text(text)})
