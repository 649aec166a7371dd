"""The curves of a run over the images seen: loss, also by noise level and held-out; scores, gradient, learning rate."""

import re
from collections.abc import Callable, Sequence
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from noisekiln.plots.curve import FEW, Curve, Lines, curve_of, is_far, is_number, mean_curve, thinned
from noisekiln.plots.figure import (
    COLOURS,
    FAINT,
    INK,
    LEFT,
    add_panels,
    format_axes,
    legend_beside,
    new_figure,
    plain_text,
    plotting,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, LEGEND = 1060, 216  # pixels: of a figure, and of the legends on its right
TOP, BOTTOM, SHARE = 76, 58, 76  # above the panels, below them; height of a panel for each unit of its share
LEVEL = re.compile(r"loss/nsr_([\d.]+)-([\d.]+|inf)")  # of `monitor/reports.py`
MOST_LEVELS = 10  # curves, and lines of their legend
SCORES = {"kid": "KID", "mind": "MIND"}


class Panel(NamedTuple):
    """A part of the figure.

    Attributes:
        share: Its share of the height.
        draw: Draws it onto axes.
    """

    share: float
    draw: Callable[["Axes"], None]


def draw_run(lines: Lines, name: str, *, complete: bool = False) -> "Figure | None":
    """A figure of the lines of `metrics.jsonl`; None if there is nothing in them to draw.

    Args:
        lines: The lines, each with `images_seen`.
        name: Name of the run, for the title.
        complete: Whether to draw also the loss by noise level, the scores and the norm of the gradient.
    """
    lines = [line for line in lines if is_number(line.get("images_seen"))]
    makers = COMPLETE if complete else BRIEF
    found = [panel for panel in (make(lines) for make in makers) if panel is not None]
    if not found or not (complete or len(curve_of(lines, "loss").x)):
        return None
    shares = tuple(panel.share for panel in found)
    tall = round(TOP + BOTTOM + sum(shares) * SHARE + 30 * (len(shares) - 1))
    with plotting():
        figure = new_figure(WIDTH, tall)
        axes = add_panels(figure, shares, top=TOP, bottom=BOTTOM, right=LEGEND)
        for panel, each in zip(found, axes, strict=True):
            panel.draw(each)
            legend_beside(each)
        axes[-1].set_xlabel("images seen")
        seen = max(line["images_seen"] for line in lines)
        format_axes(axes, float(seen))
        title = plain_text(name, 14, WIDTH - 2 * LEFT, bold=True)
        figure.text(LEFT / WIDTH, 1 - 26 / tall, title, fontsize=14, weight="bold", color=INK, va="center")
        figure.text(LEFT / WIDTH, 1 - 52 / tall, _last_numbers(lines, seen), fontsize=10, color=INK, va="center")
    return figure


def _last_numbers(lines: Lines, seen: float) -> str:
    """How far the run is, and its last values; the last step has no loss where a second holds several steps."""
    seconds = curve_of(lines, "seconds").values
    parts = {"loss": mean_curve(curve_of(lines, "loss")).values, "held-out loss": curve_of(lines, "held_out").values}
    parts |= {title: curve_of(lines, name).values for name, title in SCORES.items()}
    numbers = [f"{title} {values[-1]:.4g}" for title, values in parts.items() if len(values)]
    time = f" in {in_words(seconds.max())}" if len(seconds) and seconds.max() >= 1 else ""
    return f"after {seen:,.0f} images{time}" + (f": {', '.join(numbers)}" if numbers else "")


def in_words(seconds: float) -> str:
    """A duration: "48 s", "12 min", "3.4 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.3g} min" if seconds < 100 * 60 else f"{seconds / 3600:.3g} h"


def _loss_panel(lines: Lines) -> Panel | None:
    loss = curve_of(lines, "loss")
    skipped = [line["images_seen"] for line in lines if "skipped_step" in line]

    def draw(panel: "Axes") -> None:
        _draw_with_mean(panel, loss, COLOURS[0], "loss of a batch")
        if skipped:
            at = np.full(len(skipped), 0.02)
            across = panel.get_xaxis_transform()
            panel.plot(skipped, at, "|", color=COLOURS[1], markersize=10, transform=across, label="step skipped")
        panel.set_ylabel("training loss")

    return Panel(3.0, draw) if len(loss.x) else None


def _level_panel(lines: Lines) -> Panel | None:
    """The loss of each range of noise-to-signal ratios, from little noise (dark) to much (light)."""
    names = {name: found for line in lines for name in line if (found := LEVEL.fullmatch(name))}
    ranges = sorted((float(found[1]), float(found[2]), name) for name, found in names.items())[:MOST_LEVELS]
    curves = [(low, high, curve) for low, high, name in ranges if len((curve := mean_curve(curve_of(lines, name))).x)]

    def draw(panel: "Axes") -> None:
        from matplotlib import colormaps

        for number, (low, high, curve) in enumerate(curves):
            colour = colormaps["viridis"](0.92 * number / max(1, len(curves) - 1))
            label = f"{low:g} to {high:g}" if high < inf else f"over {low:g}"
            panel.plot(*curve, color=colour, linewidth=1.6, marker=_marker(curve), markersize=3, label=label)
        if is_far(np.concatenate([curve.values for _, _, curve in curves])):
            panel.set_yscale("log")
        panel.set_ylabel("loss by noise level")
        panel.legend(title="noise-to-signal ratio", title_fontsize=9)

    return Panel(3.0, draw) if curves else None


def _held_out_panel(lines: Lines) -> Panel | None:
    held_out, frozen = curve_of(lines, "held_out"), curve_of(lines, "train_frozen")

    def draw(panel: "Axes") -> None:
        panel.plot(*held_out, "o-", color=COLOURS[1], linewidth=1.8, markersize=4, label="held-out images")
        panel.plot(*frozen, "o--", color=COLOURS[2], linewidth=1.4, markersize=3, label="training images")
        if is_far(np.concatenate([held_out.values, frozen.values])):
            panel.set_yscale("log")
        panel.set_ylabel("error at fixed noise")

    return Panel(2.0, draw) if len(held_out.x) else None


def _kid_panel(lines: Lines) -> Panel | None:
    scored = [line for line in lines if is_number(line.get("kid"))]
    curve, errors = curve_of(scored, "kid"), [line.get("kid_error") for line in scored]
    bars = [abs(float(error)) if isinstance(error, int | float) and is_number(error) else 0.0 for error in errors]

    def draw(panel: "Axes") -> None:
        style: dict[str, Any] = {"color": COLOURS[3], "linewidth": 1.6, "markersize": 4, "capsize": 3}
        panel.errorbar(*curve, yerr=bars, fmt="o-", label=f"KID{_counts_in_words(scored)}", **style)
        panel.set_ylabel("KID")

    return Panel(1.5, draw) if scored else None


def _mind_panel(lines: Lines) -> Panel | None:
    scored = [line for line in lines if is_number(line.get("mind"))]
    curve = curve_of(scored, "mind")

    def draw(panel: "Axes") -> None:
        panel.plot(*curve, "o-", color=COLOURS[5], linewidth=1.6, markersize=4, label=f"MIND{_counts_in_words(scored)}")
        best = int(curve.values.argmin())
        panel.plot(
            curve.x[best], curve.values[best], "*", color=COLOURS[4], markersize=12, clip_on=False, label="lowest"
        )
        panel.set_ylabel("MIND")

    return Panel(1.5, draw) if scored else None


def _counts_in_words(scored: Lines) -> str:
    """The number of images of a score, where all of its values have the same."""
    counts = curve_of(scored, "score_images").values
    return f" of {counts[0]:,.0f} images" if len(counts) == len(scored) and len(set(counts)) == 1 else ""


def _gradient_panel(lines: Lines) -> Panel | None:
    norm = curve_of(lines, "grad_norm")

    def draw(panel: "Axes") -> None:
        _draw_with_mean(panel, norm, COLOURS[4], "of a batch, not clipped")
        panel.set_ylabel("gradient norm")

    return Panel(1.5, draw) if len(norm.x) else None


def _rate_panel(lines: Lines) -> Panel | None:
    rate = curve_of(lines, "lr")

    def draw(panel: "Axes") -> None:
        shown = thinned(rate)
        panel.plot(*shown, color=COLOURS[7], linewidth=1.6, marker=_marker(shown), markersize=3, label="learning rate")
        panel.set(ylabel="learning rate", ylim=(0, max([*rate.values, 1e-9]) * 1.15))

    return Panel(1.2, draw) if len(rate.x) else None


PanelMakers = Sequence[Callable[[Lines], Panel | None]]
BRIEF: PanelMakers = (_loss_panel, _held_out_panel, _rate_panel)
COMPLETE: PanelMakers = (
    *(_loss_panel, _level_panel, _held_out_panel, _kid_panel, _mind_panel),
    *(_gradient_panel, _rate_panel),
)


def _draw_with_mean(panel: "Axes", curve: Curve, colour: str, label: str) -> None:
    """All values, faint, below their running mean; logarithmic where the mean falls far."""
    mean = mean_curve(curve)
    panel.plot(*thinned(curve), color=FAINT, linewidth=1, label=label)
    panel.plot(*mean, color=colour, linewidth=2, marker=_marker(mean), markersize=4, label="running mean")
    if is_far(mean.values):
        panel.set_yscale("log")
    typical = np.percentile(curve.values, (1, 99))  # single values far away would press all others together
    low, high = min(mean.values.min(), typical[0]), max(mean.values.max(), typical[1])
    if panel.get_yscale() == "log":
        typical = np.percentile(curve.values[curve.values > 0], (1, 99))
        panel.set_ylim(min(mean.values.min(), typical[0]) * 0.9, high * 1.1)
    elif high > low:
        panel.set_ylim(low - 0.08 * (high - low), high + 0.08 * (high - low))


def _marker(curve: Curve) -> str | None:
    """A marker for few values: a single one has no line."""
    return "o" if len(curve.x) <= FEW else None
