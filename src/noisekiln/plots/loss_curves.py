"""The curves of a run over the images seen: loss, held-out loss, learning rate."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from noisekiln.plots.figure import COLOURS, FAINT, INK, LEFT, add_panels, new_figure, plotting

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SMOOTHED = 40  # the mean reaches one part of so many of the curve to both sides
FEW = 8  # values that are not smoothed
FAR = 3.0  # a loss that falls by more is drawn on a logarithmic scale
MOST_POINTS = 4000  # more would be drawn onto the same pixels


class Curve(NamedTuple):
    """Values of one name over the images seen."""

    images: NDArray[np.float64]
    values: NDArray[np.float64]


def curve_of(lines: Sequence[Mapping[str, Any]], name: str) -> Curve:
    """The finite values of one name in the lines of a log."""
    pairs = [(line["images_seen"], line[name]) for line in lines if _is_number(line.get(name))]
    numbers = np.array(pairs[:: len(pairs) // MOST_POINTS + 1], dtype=np.float64).reshape(-1, 2)
    return Curve(numbers[:, 0], numbers[:, 1])


def draw_run(lines: Sequence[Mapping[str, Any]], name: str) -> "Figure | None":
    """A figure of the lines of `metrics.jsonl`; None if there is no loss in them yet.

    Args:
        lines: The lines, each with `images_seen`.
        name: Name of the run, for the title.
    """
    lines = [line for line in lines if _is_number(line.get("images_seen"))]
    loss, rate = curve_of(lines, "loss"), curve_of(lines, "lr")
    held_out, frozen = curve_of(lines, "held_out"), curve_of(lines, "train_frozen")
    if not len(loss.images):
        return None
    with plotting():
        tall = 720 if len(held_out.images) else 520
        figure = new_figure(900, tall)
        shares = (3.0, 2.0, 1.2) if len(held_out.images) else (3.0, 1.2)
        panels = add_panels(figure, shares, top=76, bottom=58)
        smooth = smoothed(loss.values)
        _draw_loss(panels[0], loss, smooth, curve_of(_skipped(lines), "skipped").images)
        if len(held_out.images):
            _draw_held_out(panels[1], held_out, frozen)
        marker = "o" if len(rate.images) <= FEW else None
        panels[-1].plot(
            rate.images,
            rate.values,
            color=COLOURS[3],
            linewidth=1.6,
            label="learning rate",
            marker=marker,
            markersize=3,
        )
        panels[-1].set(xlabel="images seen", ylim=(0, max([*rate.values, 1e-9]) * 1.5))
        panels[-1].legend(frameon=False, loc="upper right", fontsize=9)
        _format_axes(panels, float(loss.images[-1]))
        seen = max(
            line["images_seen"] for line in lines
        )  # the last step has no loss where a second holds several steps
        numbers = f"after {seen:,.0f} images: loss {smooth[-1]:.4g}"
        numbers += f", held-out loss {held_out.values[-1]:.4g}" if len(held_out.images) else ""
        figure.text(LEFT / 900, 1 - 26 / tall, _short(name), fontsize=14, weight="bold", color=INK, va="center")
        figure.text(LEFT / 900, 1 - 52 / tall, numbers, fontsize=10, color=INK, va="center")
    return figure


def smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean around each value, over a part of the curve; over fewer values at its ends."""
    reach = max(1, len(values) // SMOOTHED) if len(values) > FEW else 0
    sums = np.concatenate([[0.0], values.cumsum()])
    place = np.arange(len(values))
    first, last = np.maximum(place - reach, 0), np.minimum(place + reach + 1, len(values))
    means: NDArray[np.float64] = (sums[last] - sums[first]) / (last - first)
    return means


def _draw_loss(panel: "Axes", loss: Curve, smooth: NDArray[np.float64], skipped: NDArray[np.float64]) -> None:
    panel.plot(loss.images, loss.values, color=FAINT, linewidth=1, label="loss of a batch")
    marker = "o" if len(smooth) <= FEW else None  # a single value has no line
    panel.plot(loss.images, smooth, color=COLOURS[0], linewidth=2, marker=marker, markersize=4, label="running mean")
    if len(skipped):
        at = np.full(len(skipped), 0.02)
        panel.plot(
            skipped,
            at,
            "|",
            color=COLOURS[1],
            markersize=10,
            transform=panel.get_xaxis_transform(),
            label="step skipped",
        )
    if smooth.max() > FAR * smooth.min() > 0:
        panel.set_yscale("log")
        typical = np.percentile(loss.values[loss.values > 0], (1, 99))
        panel.set_ylim(min(smooth.min(), typical[0]) * 0.9, max(smooth.max(), typical[1]) * 1.1)
    panel.set_ylabel("training loss")
    panel.legend(frameon=False, loc="upper right", fontsize=9)


def _draw_held_out(panel: "Axes", held_out: Curve, frozen: Curve) -> None:
    panel.plot(*held_out, "o-", color=COLOURS[1], linewidth=1.8, markersize=4, label="held-out images")
    panel.plot(*frozen, "o--", color=COLOURS[2], linewidth=1.4, markersize=3, label="training images")
    panel.set_ylabel("error at fixed noise")
    panel.legend(frameon=False, loc="upper right", fontsize=9)


def _format_axes(panels: Sequence["Axes"], last: float) -> None:
    """Few ticks, with few digits."""
    from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullLocator

    panels[0].set_xlim(0, last * 1.01 or 1)
    panels[-1].xaxis.set_major_formatter(EngFormatter(sep=""))
    for panel in panels:
        panel.yaxis.set_major_locator(MaxNLocator(4 if panel is not panels[-1] else 2))
        if panel.get_yscale() == "log":
            panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:.4g}"))
        panel.yaxis.set_minor_locator(NullLocator())


def _skipped(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{"images_seen": line["images_seen"], "skipped": 1} for line in lines if "skipped_step" in line]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _short(name: str, most: int = 60) -> str:
    """A name that fits into a title; a dollar sign would begin a formula."""
    name = name if len(name) <= most else f"{name[: most - 1]}…"
    return name.replace("$", r"\$")
