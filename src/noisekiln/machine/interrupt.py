"""Stopping when asked, between two steps and never within one."""

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

Handler = Callable[[int, FrameType | None], Any] | int


NAMES = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")
ONE = 1.0  # seconds in which several are one: a cluster signals the processes, and torchrun signals them again


class Interrupt:
    """While it is open, Ctrl-C, SIGTERM, SIGUSR1 and SIGHUP only set a flag; a second Ctrl-C stops at once.

    SIGTERM and SIGUSR1 are what schedulers of clusters send ahead of taking a machine back, SIGHUP comes when a
    terminal is closed; under `nohup` it goes on meaning nothing.

    Attributes:
        signal: Number of the signal that came, or None.
    """

    signal: int | None = None

    def __enter__(self) -> "Interrupt":
        in_main = threading.current_thread() is threading.main_thread()  # Python delivers signals there alone
        numbers = [number for number in signal.Signals if number.name in NAMES] if in_main else []  # Windows has fewer
        numbers = [n for n in numbers if n.name != "SIGHUP" or signal.getsignal(n) is not signal.SIG_IGN]
        self._before: dict[int, Handler] = {
            number: signal.signal(number, self._note) or signal.SIG_DFL for number in numbers
        }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal, self._since = number, time.monotonic()
        elif number == signal.SIGINT and time.monotonic() - self._since > ONE:  # only people are impatient
            signal.signal(number, self._before[number])
            signal.raise_signal(number)
