"""A lock that keeps two processes out of one folder."""

import errno
import json
import os
import socket
import sys
import time
from pathlib import Path
from types import TracebackType

FILE = ".lock"
TAKEN = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)


class Lock:
    """While it is held, nobody else can hold that of the same folder.

    It is the operating system's lock on the file `.lock`, so it ends with the process that holds it, however that
    ends; the file stays, and by itself means nothing. It says who held it last.

    Args:
        folder: Made when the lock is taken.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._handle: int | None = None

    def look(self) -> None:
        """Raise ValueError if somebody else holds it; nothing is touched."""
        if (self.folder / FILE).exists():
            os.close(self._taken())

    def __enter__(self) -> "Lock":
        """Take it.

        Raises:
            ValueError: If somebody else holds it, with who that is.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        handle = self._taken()
        me = {"process": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        os.ftruncate(handle, 0)
        os.write(handle, json.dumps(me).encode())
        self._handle = handle
        return self

    def _taken(self) -> int:
        """The open file, locked; until it is closed."""
        handle = os.open(self.folder / FILE, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _take(handle)
        except OSError as error:
            if error.errno in TAKEN:
                told = _who(os.read(handle, 1000))
                os.close(handle)
                raise ValueError(
                    f"{self.folder} is in use by {told}. Two would spoil each other's files. "
                    "Wait for the other or stop it, or give another --out for a new run."
                ) from None
            # Some network file systems have no locks: a run must be possible there, too.
        return handle

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle is not None:
            os.close(self._handle)  # which lets go of it
            self._handle = None


def _take(handle: int) -> None:
    """Lock an open file or raise OSError, without waiting."""
    if sys.platform == "win32":
        import msvcrt

        os.lseek(handle, 1 << 20, os.SEEK_SET)  # behind the text: what is locked there cannot be read by others
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(handle, 0, os.SEEK_SET)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _who(text: bytes) -> str:
    try:
        told = json.loads(text)
        return f"process {told['process']} on {told['host']} since {told['since']}"
    except (ValueError, KeyError, TypeError):  # it has only just been taken
        return "another process"
