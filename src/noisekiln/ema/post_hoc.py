"""Post-hoc EMA: averages of any length, computed after training from snapshots (Karras et al. 2024, section 3.2).

An average is the integral of the weights times its profile ``p(tau) = (g + 1) tau^g / t^(g + 1)``, 0 <= tau <= t. So
a combination of snapshots whose profiles add up to nearly the target's is nearly the target average.
"""

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noisekiln.ema.power import gamma_from_length
from noisekiln.ema.snapshots import Snapshot, read_tensors

Numbers = NDArray[np.float64]


class Combination(NamedTuple):
    """An average as a weighted sum of other averages.

    Attributes:
        weights: Weight of each average; their sum is 1.
        residual: Norm of the error of the combined profile, as a share of the target profile's norm: 0 is exact.
    """

    weights: list[float]
    residual: float


def fit_combination(copies: Sequence[tuple[int, float]], length: float, images_seen: int) -> Combination:
    """The least-squares combination of averages that approximates another length, with weights that sum to 1.

    Minimises ``w A w - 2 w b`` with ``A_ij = <p_i, p_j>`` and ``b_i = <p_i, p>`` (Karras et al. 2024, appendix C). The
    condition ``sum w = 1``, by its Lagrange multiplier, leaves weights that never changed as they are.

    Args:
        copies: (images seen, length) of each available average, all different.
        length: Length of the target average, 0.01 to 0.25.
        images_seen: Images seen at the end of the target average, at or after the last copy.

    Raises:
        ValueError: If there are no copies, or the length is impossible.
    """
    if not copies:
        raise ValueError("The list of copies is empty, but an average is combined from copies. Give 1 or more.")
    # As shares of training, so that the numbers below are near 1.
    times = np.array([seen / images_seen for seen, _ in copies])
    gammas = np.array([gamma_from_length(each) for _, each in copies])
    target, now = np.array(gamma_from_length(length)), np.ones(())
    gram = profile_inner_product(gammas[:, None], times[:, None], gammas, times)
    rhs = profile_inner_product(gammas, times, target, now)
    unconstrained, direction = np.linalg.solve(gram, np.stack([rhs, np.ones_like(rhs)], axis=1)).T
    weights = unconstrained + direction * (1 - unconstrained.sum()) / direction.sum()
    square = float(profile_inner_product(target, now, target, now))
    error = square - 2 * weights @ rhs + weights @ gram @ weights
    return Combination([float(weight) for weight in weights], sqrt(max(0.0, error) / square))


def profile_inner_product(gamma: Numbers, time: Numbers, other_gamma: Numbers, other_time: Numbers) -> Numbers:
    """The integral of the product of two profiles, each given by its power and its end.

    ``(g + 1)(h + 1)/(g + h + 1) / max(t, u) * (min(t, u)/max(t, u))^k``; k is the power of the one that ends later.
    """
    first, last = np.minimum(time, other_time), np.maximum(time, other_time)
    power = np.where(time < other_time, other_gamma, gamma)
    product: Numbers = (gamma + 1) * (other_gamma + 1) / (gamma + other_gamma + 1) / last * (first / last) ** power
    return product


def reconstruct(snapshots: Sequence[Snapshot], length: float) -> tuple[dict[str, Tensor], Combination]:
    """The average of a length at the newest snapshot: float32 tensors by parameter name, and their combination.

    It sums in float64 and reads one snapshot at a time.

    Raises:
        ValueError: If there are no snapshots, the length is impossible, snapshots hold different tensors, or one is
            damaged.
    """
    copies = [(shot.images_seen, each) for shot in snapshots for each in shot.lengths]
    made = fit_combination(copies, length, max((shot.images_seen for shot in snapshots), default=0))
    remaining = iter(made.weights)
    total: dict[str, Tensor] = {}
    for shot in snapshots:
        of_tracks = {str(track): next(remaining) for track in range(len(shot.lengths))}
        for key, tensor in read_tensors(shot).items():
            track, name = key.split(".", 1)
            if name not in total:
                total[name] = torch.zeros_like(tensor, dtype=torch.float64)
            total[name].add_(tensor, alpha=of_tracks[track])
    return {name: tensor.float() for name, tensor in total.items()}, made
