"""The curves of several runs in one figure, over the images seen and over the time of training."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from noisekiln.errors import counted
from noisekiln.plots.curve import FEW, Curve, Lines, curve_of, is_far, mean_curve
from noisekiln.plots.figure import COLOURS, INK, LEFT, add_panels, format_axes, new_figure, plain_text, plotting

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, COLUMN, MIDDLE = 1500, 550, 84  # pixels: of the figure, of a column of panels, between the columns
TOP, BOTTOM, SHARE = 62, 58, 84
DASHES = ("-", "--", ":", "-.")  # for more runs than colours
NAME = 130  # pixels of a name in the legend
IN_LEGEND = 32  # runs
MUCH_LONGER = 12.0  # times that a run is longer than another one
MOST_SHOWN = 1e4  # ends of a logarithmic axis: one is at most so many times the other
AXES = ("images_seen", "seconds")


class ComparedCurve(NamedTuple):
    """A row of the figure: values of one name.

    Attributes:
        name: Name of the values in the log.
        title: Title of the vertical axis.
        share: Share of the height.
        smooth: Whether the running mean is drawn; otherwise all values, with markers.
    """

    name: str
    title: str
    share: float
    smooth: bool


ROWS = (
    ComparedCurve("loss", "training loss (running mean)", 3.0, True),
    ComparedCurve("held_out", "held-out loss", 3.0, False),
    ComparedCurve("kid", "KID", 2.0, False),
    ComparedCurve("mind", "MIND", 2.0, False),
)


def draw_comparison(runs: Sequence[tuple[str, Lines]]) -> "Figure | None":
    """A figure of the logs of several runs, each in one colour; None if there is nothing in them to draw.

    Args:
        runs: The name of each run, and its lines.
    """
    rows = [row for row in ROWS if any(len(curve_of(lines, row.name).x) for _, lines in runs)]
    if not rows:
        return None
    shares = tuple(row.share for row in rows)
    tall = round(max(TOP + BOTTOM + sum(shares) * SHARE + 30 * (len(shares) - 1), 110 + 22 * min(len(runs), IN_LEGEND)))
    with plotting():
        figure = new_figure(WIDTH, tall)
        second = LEFT + COLUMN + MIDDLE
        for over, left in zip(AXES, (LEFT, second), strict=True):
            panels = add_panels(figure, shares, top=TOP, bottom=BOTTOM, left=left, right=WIDTH - left - COLUMN)
            _draw_column(panels, rows, runs, over, titled=left == LEFT)
        _draw_legend(figure, [name for name, _ in runs], second + COLUMN + 24, tall)
        title = f"{counted(len(runs), 'run')} side by side"
        figure.text(LEFT / WIDTH, 1 - 30 / tall, title, fontsize=14, weight="bold", color=INK, va="center")
    return figure


def _draw_column(
    panels: Sequence["Axes"],
    rows: Sequence[ComparedCurve],
    runs: Sequence[tuple[str, Lines]],
    over: str,
    *,
    titled: bool,
) -> None:
    unit, label = (1.0, "images seen") if over == "images_seen" else _unit_of_time(runs)
    for panel, row in zip(panels, rows, strict=True):
        heights = []
        for number, (_, lines) in enumerate(runs):
            curve = curve_of(lines, row.name, over)
            curve = mean_curve(curve) if row.smooth else curve
            if len(curve.x):
                panel.plot(curve.x / unit, curve.values, **_style(number), **_markers(curve, row))
                heights.append(curve.values)
        if heights and is_far(np.concatenate(heights)):
            panel.set_yscale("log")
        if titled:
            panel.set_ylabel(row.title)
    panels[-1].set_xlabel(label)
    _limit(panels, rows, runs, over, unit)
    if over == "seconds":  # no "10m" for a hundredth
        panels[-1].xaxis.set_major_formatter(lambda value, place: f"{value:,g}")


def _limit(
    panels: Sequence["Axes"],
    rows: Sequence[ComparedCurve],
    runs: Sequence[tuple[str, Lines]],
    over: str,
    unit: float,
) -> None:
    """The horizontal axis: logarithmic where one run is much longer than another, which would be a line at its edge."""
    curves = [curve_of(lines, row.name, over).x / unit for _, lines in runs for row in rows]
    found = [x for x in curves if len(x)]
    ends = [float(x.max()) for x in found]
    positive = [float(x[x > 0].min()) for x in found if (x > 0).any()]
    longest = max(ends, default=0.0)
    if longest > MUCH_LONGER * min(ends, default=0.0) and positive:
        for panel in panels:
            panel.set_xscale("log")
        format_axes(panels, longest, max(min(positive), longest / MOST_SHOWN))
    else:
        format_axes(panels, longest)


def _unit_of_time(runs: Sequence[tuple[str, Lines]]) -> tuple[float, str]:
    """Seconds in the unit of the axis, and its label: by the longest run, or the shortest on a logarithmic axis."""
    times = [curve_of(lines, "seconds").values for _, lines in runs]
    ends = [float(values.max()) for values in times if len(values)] or [0.0]
    length = min(ends) if max(ends) > MUCH_LONGER * min(ends) else max(ends)
    if length < 300:
        return 1.0, "seconds of training"
    return (60.0, "minutes of training") if length < 300 * 60 else (3600.0, "hours of training")


def _style(number: int) -> dict[str, Any]:
    dashes = DASHES[number // len(COLOURS) % len(DASHES)]
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": dashes, "linewidth": 1.8}


def _markers(curve: Curve, row: ComparedCurve) -> dict[str, Any]:
    return {"marker": "o", "markersize": 4} if not row.smooth or len(curve.x) <= FEW else {}


def _draw_legend(figure: "Figure", names: Sequence[str], left: float, tall: float) -> None:
    from matplotlib.lines import Line2D

    shown = [plain_text(name, 10, NAME) for name in names[:IN_LEGEND]]
    handles = [Line2D([], [], **_style(number)) for number in range(len(shown))]
    if len(names) > IN_LEGEND:
        handles.append(Line2D([], [], linestyle="none"))
        shown.append(f"and {len(names) - IN_LEGEND:,} more")
    figure.legend(
        handles,
        shown,
        loc="upper left",
        bbox_to_anchor=(left / WIDTH, 1 - (TOP - 8) / tall),
        frameon=False,
        fontsize=10,
        borderaxespad=0.0,
    )
