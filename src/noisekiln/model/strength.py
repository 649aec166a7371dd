"""Levels from a share of the noise to clean, for images that are only partly noised."""

import math

import torch

from noisekiln.components.setting import check_argument
from noisekiln.levels import Level, level
from noisekiln.predictions import Prediction
from noisekiln.samplers.base import grid
from noisekiln.schedules.base import Schedule


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
    end = schedule(torch.ones((), dtype=torch.float64))
    last = 1.0 if bool(prediction.determinant(end) != 0) else 0.999
    turn = strength * math.pi / 2
    begin = last if strength == 1 else min(last, float(schedule.time(level(math.cos(turn), math.sin(turn)))))
    return grid(schedule, math.ceil(steps * strength), begin)
