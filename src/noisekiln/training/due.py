"""When something is due during training: at shares of the budget, every so many seconds, every so many images."""

from abc import ABC, abstractmethod
from collections.abc import Iterable


class Due(ABC):
    """Answers "is it due?" for a quantity that only grows.

    Args:
        start: The quantity when counting begins: where the run stands that is resumed.
    """

    def __init__(self, start: float = 0.0) -> None:
        self._last = start

    def due(self, now: float) -> bool:
        """Whether it is due; if so, counting begins anew from here.

        Args:
            now: The quantity; call this after every step.
        """
        if not self._is_due(self._last, now):
            return False
        self._last = now
        return True

    def start(self, now: float) -> None:
        """Count from here, as if it had just been due."""
        self._last = now

    @abstractmethod
    def _is_due(self, last: float, now: float) -> bool:
        """Whether it is due `now`, when counting began at `last`."""


class AtShares(Due):
    """Due once for each mark that is passed; one of several that are passed at once.

    Args:
        shares: The marks: shares of the budget, in (0, 1].
        start: Share of the budget that is already spent; marks up to here are not due any more.
    """

    def __init__(self, shares: Iterable[float], start: float = 0.0) -> None:
        super().__init__(start)
        self.shares = tuple(shares)

    @classmethod
    def equal(cls, count: int, start: float = 0.0) -> "AtShares":
        """Due `count` times at equal distances, the last time at the end of the budget; 0: never."""
        return cls([number / count for number in range(1, count + 1)], start)

    def _is_due(self, last: float, now: float) -> bool:
        return any(last < share <= now for share in self.shares)


class EverySeconds(Due):
    """Due when so many seconds have passed since it last was.

    Args:
        seconds: The interval, >= 0.
        start: Seconds of training when counting begins; ``-inf`` makes it due at the first call.
    """

    def __init__(self, seconds: float, start: float = 0.0) -> None:
        super().__init__(start)
        self.seconds = seconds

    def _is_due(self, last: float, now: float) -> bool:
        return now - last >= self.seconds


class EveryImages(Due):
    """Due after the first step at or beyond each multiple of a number of images.

    Args:
        images: The number, >= 1; None: never due.
        start: Images seen when counting begins.
    """

    def __init__(self, images: int | None, start: float = 0) -> None:
        super().__init__(start)
        self.images = images

    def _is_due(self, last: float, now: float) -> bool:
        return self.images is not None and now // self.images > last // self.images
