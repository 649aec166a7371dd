"""Stopping when asked, between two steps and never within one."""

import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

Handler = Callable[[int, FrameType | None], Any] | int | None


class Interrupt:
    """While it is open, Ctrl-C and SIGTERM only set a flag; a second one of them stops at once.

    Attributes:
        signal: Number of the signal that came, or None.
    """

    signal: int | None = None

    def __enter__(self) -> "Interrupt":
        self._before: dict[int, Handler] = {
            number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        signal.signal(number, self._before[number] or signal.SIG_DFL)
