"""Training budget, and the learning rate as a function of the share of it that is used."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Budget:
    """A limit in minutes, in images, or both: training ends when the first is used up.

    Args:
        minutes: Minutes of training, including those before an interruption.
        images: Images seen, including repetitions.
        reserved: Seconds of the minutes for what follows the last step: an evaluation, a grid, a save.
    """

    minutes: float | None = None
    images: int | None = None
    reserved: float = 0.0

    def __post_init__(self) -> None:
        if self.minutes is None and self.images is None:
            raise ValueError(
                "Neither `minutes` nor `images` is set, and training without an end never cools down. Give one of them."
            )
        for name, amount in (("minutes", self.minutes), ("images", self.images)):
            if amount is not None and not amount > 0:
                raise ValueError(f"`{name}={amount}` trains nothing. Give a number above 0.")

    def reserving(self, seconds: float) -> "Budget":
        """The same budget, with this time for what follows the last step: at most a third of its minutes."""
        return self if self.minutes is None else replace(self, reserved=min(seconds, 20 * self.minutes))

    def share(self, seconds: float, images: float) -> float:
        """The share of the budget that is used: 0 at the start, 1 or more at the end.

        Args:
            seconds: Seconds of training.
            images: Images seen.
        """
        of_time = seconds / (60 * self.minutes - self.reserved) if self.minutes else 0.0
        of_images = images / self.images if self.images else 0.0
        return max(of_time, of_images)


@dataclass(frozen=True)
class LearningRate:
    """The learning rate over the share of the budget: a short linear warm-up, a plateau, a linear cool-down to zero.

    It depends on the share and not on a number of steps, so a run of three minutes
    cools down as completely as one of three days.

    Args:
        peak: Rate of the plateau.
        warmup: Share of the budget over which it rises.
        cooldown: Share of the budget over which it falls.
    """

    peak: float
    warmup: float = 0.02
    cooldown: float = 0.5

    def __call__(self, share: float) -> float:
        """The rate at this share of the budget."""
        rise = share / self.warmup if share < self.warmup else 1.0
        fall = (1 - share) / self.cooldown if share > 1 - self.cooldown else 1.0
        return self.peak * max(0.0, min(rise, fall, 1.0))
