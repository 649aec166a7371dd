"""Curves of a run's log: the values of one name over the images seen, and their running mean."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Lines = Sequence[Mapping[str, Any]]
"""Lines of `metrics.jsonl`."""

SMOOTHED = 40  # the mean reaches one part of so many of the curve to both sides
FEW = 8  # values that are not smoothed
FAR = 3.0  # values that differ by more are drawn on a logarithmic scale
MOST_POINTS = 4000  # more would be drawn onto the same pixels
LARGEST = 1e30  # numbers beyond it are no measurement, and sums of them could overflow


class Curve(NamedTuple):
    """Values of one name, by default over the images seen.

    Attributes:
        x: Where, (N,).
        values: The values, (N,), all finite.
    """

    x: NDArray[np.float64]
    values: NDArray[np.float64]


def curve_of(lines: Lines, name: str, over: str = "images_seen") -> Curve:
    """The finite values of one name in the lines of a log.

    Args:
        lines: The lines.
        name: Name of the values.
        over: Name of the horizontal axis; lines without it are left out.
    """
    pairs = [(line[over], line[name]) for line in lines if is_number(line.get(name)) and is_number(line.get(over))]
    numbers = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return Curve(numbers[:, 0], numbers[:, 1])


def smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean around each value, over a part of the curve; over fewer values at its ends."""
    reach = max(1, len(values) // SMOOTHED) if len(values) > FEW else 0
    sums = np.concatenate([[0.0], values.cumsum()])
    place = np.arange(len(values))
    first, last = np.maximum(place - reach, 0), np.minimum(place + reach + 1, len(values))
    means: NDArray[np.float64] = (sums[last] - sums[first]) / (last - first)
    return means


def mean_curve(curve: Curve) -> Curve:
    """The running mean of a curve, from all of its values, at no more places than can be seen."""
    return thinned(Curve(curve.x, smoothed(curve.values)))


def thinned(curve: Curve) -> Curve:
    """Some of the values of a long curve, at equal distances, and its last one."""
    if len(curve.x) <= MOST_POINTS:
        return curve
    step = -(-len(curve.x) // (MOST_POINTS - 1))
    places = np.unique(np.append(np.arange(0, len(curve.x), step), len(curve.x) - 1))
    return Curve(curve.x[places], curve.values[places])


def is_far(values: NDArray[np.float64]) -> bool:
    """Whether values are better seen on a logarithmic scale."""
    return bool(len(values) and values.max() > FAR * values.min() > 0)


def is_number(value: object) -> bool:
    """Whether a value of a log is a finite number that can be drawn."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST < value < LARGEST
