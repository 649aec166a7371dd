"""Background thread that writes while training continues."""

from collections.abc import Callable
from threading import Thread
from types import TracebackType

from noisekiln.errors import LostRank

GRACE = 10.0  # seconds for a task to end once another process is lost: the task may be waiting for it


class BackgroundWriter:
    """Runs one task at a time in a thread, in order, while the context is open.

    A new task starts only after the previous one has ended, so that the data of only one task are in memory. An error
    in the thread is raised in the caller's thread: at the next call, or at the end. The end waits for the running task,
    but only `GRACE` seconds if another process is lost.

    Attributes:
        open: Whether it accepts tasks.
    """

    def __init__(self) -> None:
        self.open = False
        self._thread: Thread | None = None
        self._error: BaseException | None = None

    def submit(self, task: Callable[[], object]) -> None:
        """Wait for the previous task, start this one, and return."""
        assert self.open
        self.wait()
        # A daemon: a second Ctrl-C ends the process at once, and does not wait for it.
        self._thread = Thread(target=self._run, args=(task,), daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise the error of a task, if there was one, without waiting."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def wait(self, seconds: float | None = None) -> None:
        """Wait until all tasks are done, or for `seconds`; raise the error of a task, if there was one."""
        # Also for the thread itself: Python that exits while a daemon still frees tensors may abort (exit code 134).
        if self._thread is not None:
            self._thread.join(seconds)
        self.check()

    def _run(self, task: Callable[[], object]) -> None:
        try:
            task()
        except BaseException as error:
            self._error = error

    def __enter__(self) -> "BackgroundWriter":
        self.open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.open = False
        try:
            self.wait(GRACE if isinstance(error, LostRank) else None)
        except Exception as late:  # an error of a task, which may be any; errors that end the process pass
            if error is None or isinstance(error, GeneratorExit):
                raise
            error.add_note(f"Also in the background: {late}")  # the first error is the cause
