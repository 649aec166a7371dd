"""A thread that writes while training continues."""

from collections.abc import Callable
from threading import Thread
from types import TracebackType

from noisekiln.errors import LostRank

GRACE = 10.0  # seconds for work to end once another process is lost, for whose part it may be waiting


class Background:
    """While it is open, does one piece of work at a time in a thread, in order.

    The next piece waits for the one before to end, so that what a piece holds on to is in memory once. An error in the
    thread is raised in the caller's: at the next call, and at the end. The end waits for the work, but only `GRACE`
    seconds if it comes because another process is lost.

    Attributes:
        open: Whether it accepts work.
    """

    def __init__(self) -> None:
        self.open = False
        self._thread: Thread | None = None
        self._error: BaseException | None = None

    def submit(self, work: Callable[[], object]) -> None:
        """Wait for the work before, begin this, and return."""
        assert self.open
        self.wait()
        # A daemon: a second Ctrl-C ends the process at once, and does not wait for it.
        self._thread = Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise the error of the work so far, if there was one, without waiting."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def wait(self, seconds: float | None = None) -> None:
        """Wait until all work is done, or this many seconds; raise its error, if there was one."""
        # Also for the thread itself: Python that exits while a daemon still frees tensors may abort (exit code 134).
        if self._thread is not None:
            self._thread.join(seconds)
        self.check()

    def _run(self, work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:
            self._error = error

    def __enter__(self) -> "Background":
        self.open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.open = False
        try:
            self.wait(GRACE if isinstance(error, LostRank) else None)
        except Exception as late:
            if error is None or isinstance(error, GeneratorExit):
                raise
            error.add_note(f"In the background, too: {late}")  # the first error is the cause
