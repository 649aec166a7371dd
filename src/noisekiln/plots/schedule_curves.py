"""The curves of schedules: alpha, sigma and log-SNR over time."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from noisekiln.plots.figure import COLOURS, INK, LEFT, add_panels, new_figure, plotting
from noisekiln.schedules.base import Schedule

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS = 501
SNR_LIMIT = 14.0  # log-SNR is infinite at ends that are clean or pure noise


def draw_schedules(schedules: Mapping[str, Schedule]) -> "Figure":
    """A figure of schedules: alpha and sigma of ``x_t = alpha x + sigma eps``, and ``log(alpha^2 / sigma^2)``.

    Args:
        schedules: Schedules by name.
    """
    time = torch.linspace(0, 1, POINTS, dtype=torch.float64)
    with plotting():
        figure = new_figure(900, 900)
        alpha, sigma, snr = add_panels(figure, (1.0, 1.2, 1.4), top=84, bottom=58)
        for number, (name, schedule) in enumerate(schedules.items()):
            level = schedule(time)
            log_snr = 2 * (level.alpha.log() - level.sigma.log())
            style: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "linewidth": 1.8, "label": name}
            style |= {"linestyle": ("-", "--", ":", "-.")[number // len(COLOURS) % 4]}
            alpha.plot(time.numpy(), level.alpha.numpy(), **style)
            sigma.plot(time.numpy(), level.sigma.clamp(min=1e-12).numpy(), **style)
            snr.plot(time.numpy(), log_snr.clamp(-3 * SNR_LIMIT, 3 * SNR_LIMIT).numpy(), **style)
        alpha.set(ylabel="alpha", xlim=(0, 1), ylim=(-0.03, 1.06))
        sigma.set(ylabel="sigma (log scale)", yscale="log", ylim=(2e-3, 300))
        snr.set(ylabel="log-SNR (nats)", ylim=(-SNR_LIMIT, SNR_LIMIT), xlabel="time: 0 is the clean image, 1 is noise")
        snr.axhline(0, color="#999999", linewidth=0.8)
        snr.text(0.985, 0.4, "0: as much noise as image", fontsize=9, color="#666666", ha="right")
        figure.text(LEFT / 900, 1 - 28 / 900, "Noise schedules", fontsize=14, weight="bold", color=INK, va="center")
        figure.text(
            LEFT / 900,
            1 - 52 / 900,
            "x_t = alpha x + sigma eps;  log-SNR = log(alpha² / sigma²)",
            fontsize=10,
            va="center",
        )
        figure.legend(
            *alpha.get_legend_handles_labels(), loc="upper right", bbox_to_anchor=(0.974, 0.992), frameon=False, ncols=2
        )
    return figure
