"""Due times during training: at shares of the budget, at intervals of seconds or of images."""

from abc import ABC, abstractmethod
from collections.abc import Iterable


class Due(ABC):
    """Decides when an action is due, from a quantity that only grows.

    Args:
        start: Initial quantity: 0, or the value at which a run is resumed.
    """

    def __init__(self, start: float = 0.0) -> None:
        self._last = start

    def due(self, now: float) -> bool:
        """Whether the action is due; if so, counting restarts here. To be called after every step.

        Args:
            now: Current quantity.
        """
        if not self._is_due(self._last, now):
            return False
        self._last = now
        return True

    def restart(self, now: float) -> None:
        """Restart counting here, as if the action had just been due."""
        self._last = now

    @abstractmethod
    def _is_due(self, last: float, now: float) -> bool:
        """Whether the action is due at `now`, if counting started at `last`."""


class AtShares(Due):
    """Due when a mark is passed; only once if one step passes several marks.

    Args:
        shares: Marks: shares of the budget, in (0, 1].
        start: Share of the budget that is already used; earlier marks are no longer due.
    """

    def __init__(self, shares: Iterable[float], start: float = 0.0) -> None:
        super().__init__(start)
        self.shares = tuple(shares)

    @classmethod
    def equal(cls, count: int, start: float = 0.0) -> "AtShares":
        """Due `count` times at equal intervals, the last time at the end of the budget; 0: never."""
        return cls([number / count for number in range(1, count + 1)], start)

    def _is_due(self, last: float, now: float) -> bool:
        return any(last < share <= now for share in self.shares)


class EverySeconds(Due):
    """Due when `seconds` have passed since the last time.

    Args:
        seconds: Interval, >= 0.
        start: Seconds of training when counting starts; ``-inf`` makes it due at the first call.
    """

    def __init__(self, seconds: float, start: float = 0.0) -> None:
        super().__init__(start)
        self.seconds = seconds

    def _is_due(self, last: float, now: float) -> bool:
        return now - last >= self.seconds


class EveryImages(Due):
    """Due after the first step at or beyond each multiple of `images`.

    Args:
        images: Interval in images, >= 1; None: never due.
        start: Images seen when counting starts.
    """

    def __init__(self, images: int | None, start: float = 0) -> None:
        super().__init__(start)
        self.images = images

    def _is_due(self, last: float, now: float) -> bool:
        return self.images is not None and now // self.images > last // self.images
