"""An estimate with its standard error."""

import math
from typing import NamedTuple


class Estimated(NamedTuple):
    """A value estimated from a sample, and the standard deviation that it has over samples of this size."""

    value: float
    standard_error: float


def binomial_error(share: float, count: int) -> float:
    """Standard error of a share, never 0: ``sqrt(q (1 - q) / (n + 2))``, where ``q = (n p + 1/2) / (n + 1)``.

    This is the standard deviation of the share after `count` trials for Jeffreys' prior Beta(1/2, 1/2); the textbook's
    ``sqrt(p (1 - p) / n)`` would call a share of 0 certain.
    """
    centre = (count * share + 0.5) / (count + 1)
    return math.sqrt(centre * (1 - centre) / (count + 2))
