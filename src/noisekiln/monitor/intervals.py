"""Intervals of a run: how often it logs, evaluates, draws grids and saves."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Intervals:
    """How often a run does what it does besides training; none of it changes the weights.

    Args:
        log_seconds: Seconds between lines of the logs.
        checkpoint_seconds: Seconds between checkpoints.
        grids_at: Shares of the budget at which grids are drawn and saved with a checkpoint; one more comes at the end.
        held_out_at: Shares of the budget at which held-out images are evaluated; one more evaluation comes at the end.
        images_per_point: Images of the budget for each noisy image of an evaluation. Eight evaluations run the network
            2 * 6 * 8 times a point, and a run takes 0.3 to 0.5 of what training on an image does (LOG.md): at 2500,
            they take some 2 % of the training.
    """

    log_seconds: float = 1.0
    checkpoint_seconds: float = 60.0
    grids_at: tuple[float, ...] = (0.05, 0.15, 0.35, 0.6, 0.8)
    held_out_at: tuple[float, ...] = (0.05, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9)
    images_per_point: int = 2500
