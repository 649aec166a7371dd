"""Signals that stop a command between two steps, never within one."""

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

Handler = Callable[[int, FrameType | None], Any] | int

NAMES = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")
# Seconds in which several signals count as one: a scheduler signals all processes, and torchrun repeats it.
REPEAT = 1.0


def stop_signals() -> list[signal.Signals]:
    """The signals of this system that stop a command; Windows has fewer."""
    return [number for number in signal.Signals if number.name in NAMES]


def exit_code(number: int) -> int:
    """Exit code of a command that a signal has stopped: 130 after Ctrl-C, 143 after any other; 0 for no signal."""
    return 0 if number == 0 else 130 if number == signal.SIGINT else 143


class Interrupt:
    """A context in which Ctrl-C, SIGTERM, SIGUSR1 and SIGHUP only set a flag; a second Ctrl-C stops at once.

    Cluster schedulers send SIGTERM or SIGUSR1 before they reclaim a machine. SIGHUP is sent when a terminal is closed;
    under `nohup` it is ignored as before.

    Attributes:
        signal: Number of the first signal received; 0 for none.
    """

    signal: int = 0

    def __enter__(self) -> "Interrupt":
        in_main = threading.current_thread() is threading.main_thread()  # the only one that Python runs handlers in
        numbers = stop_signals() if in_main else []
        numbers = [each for each in numbers if each.name != "SIGHUP" or signal.getsignal(each) is not signal.SIG_IGN]
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
        if not self.signal:
            self.signal, self._since = number, time.monotonic()
        # A scheduler repeats signals quickly; only a user waits before a second Ctrl-C.
        elif number == signal.SIGINT and time.monotonic() - self._since > REPEAT:
            signal.signal(number, self._before[number])
            signal.raise_signal(number)
