"""Training speed in images per second, and the remaining time."""

from collections import deque

from noisekiln.training.budget import Budget

WINDOW = 10.0  # seconds over which speed is averaged


class Throughput:
    """Images per second over the last ten seconds, and the remaining time at this speed.

    Args:
        budget: Training budget.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._moments: deque[tuple[float, int]] = deque()
        self._seconds, self._images = 0.0, 0  # of all steps but the first

    def add(self, seconds: float, images_seen: int) -> None:
        """Add the state of training; to be called in order of time.

        Args:
            seconds: Seconds of training so far.
            images_seen: Images seen so far.
        """
        if self._moments:
            before, seen = self._moments[-1]
            self._seconds, self._images = self._seconds + seconds - before, self._images + images_seen - seen
        self._moments.append((seconds, images_seen))
        while len(self._moments) > 2 and self._moments[1][0] <= seconds - WINDOW:
            self._moments.popleft()

    def leave_out(self, seconds: float) -> None:
        """Leave out the seconds after the last step in which something else was done that takes long."""
        self._moments = deque((moment + seconds, seen) for moment, seen in self._moments)

    @property
    def images_per_second(self) -> float | None:
        """Speed over the last ten seconds; None before the second step."""
        if len(self._moments) < 2:
            return None
        (start_time, before), (now, seen) = self._moments[0], self._moments[-1]
        return (seen - before) / (now - start_time) if now > start_time else None

    @property
    def mean(self) -> float | None:
        """Images per second over all steps, without what was left out; None before the second step."""
        return self._images / self._seconds if self._seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the budget is used up; None while the speed is unknown."""
        if not self._moments:
            return None
        seconds, seen = self._moments[-1]
        left = []
        if self._budget.minutes is not None:
            left.append(60 * self._budget.minutes - seconds)
        if self._budget.images is not None and self.images_per_second:
            left.append((self._budget.images - seen) / self.images_per_second)
        return max(0.0, min(left)) if left else None
