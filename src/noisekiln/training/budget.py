"""How long to train, and what follows from how much of it has gone by."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """A limit in minutes, in images, or both: whichever comes first.

    Args:
        minutes: Of training, what went before an interruption included.
        images: Images seen, repeats included.
    """

    minutes: float | None = None
    images: int | None = None

    def __post_init__(self) -> None:
        if self.minutes is None and self.images is None:
            raise ValueError("Training without an end never cools down. Give a budget of minutes or of images.")
        for name, amount in (("minutes", self.minutes), ("images", self.images)):
            if amount is not None and not amount > 0:
                raise ValueError(f"A budget of {amount} {name} trains nothing. Give more than 0.")

    def share(self, seconds: float, images: int) -> float:
        """How much of the budget is gone: 0 at the start, 1 or more at the end."""
        of_time = seconds / (60 * self.minutes) if self.minutes else 0.0
        of_images = images / self.images if self.images else 0.0
        return max(of_time, of_images)


@dataclass(frozen=True)
class LearningRate:
    """The learning rate over the elapsed share: a short rise, a plateau, a straight line to zero.

    Because it follows the share of the budget and not a count of steps, a run of three minutes ends as well cooled
    down as one of three days.

    Args:
        peak: The rate of the plateau.
        warm: Share of the budget over which it rises.
        cool: Share of the budget over which it falls.
    """

    peak: float
    warm: float = 0.02
    cool: float = 0.5

    def __call__(self, share: float) -> float:
        """The rate when `share` of the budget is gone."""
        rise = share / self.warm if share < self.warm else 1.0
        fall = (1 - share) / self.cool if share > 1 - self.cool else 1.0
        return self.peak * max(0.0, min(rise, fall, 1.0))
