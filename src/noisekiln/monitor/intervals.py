"""Intervals of a run: how often it logs, evaluates, draws grids and saves."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Intervals:
    """How often a run logs, evaluates, draws grids and saves; none of it changes the weights.

    Args:
        log_seconds: Seconds between lines of the logs.
        checkpoint_seconds: Seconds between checkpoints.
        grids_at: Shares of the budget at which grids are drawn and saved with a checkpoint; one more comes at the end.
        held_out_at: Shares of the budget at which held-out images are evaluated; one more evaluation comes at the end.
        images_per_noisy_image: Images of the budget per noisy image of an evaluation. Eight evaluations run the network
            2 * 6 * 8 times per noisy image, and one run takes 0.3 to 0.5 times as long as training on an image
            (LOG.md): at 2500, they take about 2 % of the training time.
    """

    log_seconds: float = 1.0
    checkpoint_seconds: float = 60.0
    grids_at: tuple[float, ...] = (0.05, 0.15, 0.35, 0.6, 0.8)
    held_out_at: tuple[float, ...] = (0.05, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9)
    images_per_noisy_image: int = 2500
