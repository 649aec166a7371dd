"""Levels from a share of the noise to clean, for images that are only partly noised."""

import math

import torch

from noisekiln.components.setting import check_argument
from noisekiln.levels import Level, level
from noisekiln.predictions import Prediction
from noisekiln.samplers.base import grid
from noisekiln.schedules.base import Schedule

LAST_TIMES = (1.0, 0.999, 0.99, 0.9)  # where sampling may begin, best first
SMALLEST_DETERMINANT = 1e-6  # relative to the level's norm: below, the image is lost in float32's rounding of x_t


def levels_from(strength: float, schedule: Schedule, steps: int, prediction: Prediction) -> list[Level]:
    """The levels to visit, measured in the angle of a level: a strength of 0.5 begins at nsr 1.

    Args:
        strength: Share of the noise, in (0, 1].
        schedule: Schedule of the levels.
        steps: Steps from pure noise to clean; fewer in proportion for a smaller strength.
        prediction: Type of the network's output. If it does not determine the image at pure noise, as eps at alpha = 0,
            sampling begins a little below.

    Raises:
        ValueError: If the strength is not in (0, 1].
    """
    check_argument("strength", strength, float)
    if not 0 < strength <= 1:
        raise ValueError(
            f"`strength={strength:g}` is not possible: it is the share of noise to start with. "
            "Give more than 0 (keeps all) and at most 1 (keeps nothing)."
        )
    last = next((time for time in LAST_TIMES if _is_determined(schedule, time, prediction)), LAST_TIMES[-1])
    turn = strength * math.pi / 2
    begin = last if strength == 1 else min(last, float(schedule.time(level(math.cos(turn), math.sin(turn)))))
    return grid(schedule, math.ceil(steps * strength), begin)


def _is_determined(schedule: Schedule, time: float, prediction: Prediction) -> bool:
    """Whether the network's output determines the image at this time; a schedule may end a rounding error beside 0."""
    at = schedule(torch.tensor(time, dtype=torch.float64))
    return bool(prediction.determinant(at).abs() > SMALLEST_DETERMINANT * at.norm)
