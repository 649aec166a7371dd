"""Lock that allows only one process at a time to use a folder."""

import errno
import json
import os
import socket
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

FILE = ".lock"
HELD_BY_ANOTHER = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)


class Lock:
    """While it is held, no other process can hold the lock of the same folder.

    It is the operating system's lock on the file `.lock`, so it ends when the process that holds it
    ends, for any reason. The file stays, but does not lock by itself; it names the process that held the lock last.

    Args:
        folder: Folder to lock; created when the lock is acquired.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._handle: int | None = None

    def check(self) -> None:
        """Raise ValueError if another process holds the lock; nothing is changed."""
        if (self.folder / FILE).exists():
            os.close(self._open_locked())

    def __enter__(self) -> "Lock":
        """Acquire it.

        Raises:
            ValueError: If another process holds it, with its number, machine and time.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        handle = self._open_locked()
        if os.fstat(handle).st_nlink > 1:  # the file has another name elsewhere, where it stays as it is
            (self.folder / FILE).unlink()
            os.close(handle)
            handle = self._open_locked()
        holder = {"process": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        os.ftruncate(handle, 0)
        os.write(handle, json.dumps(holder).encode())
        self._handle = handle
        return self

    def _open_locked(self) -> int:
        """The open file, locked until it is closed."""
        handle = _open_plain(self.folder / FILE)
        try:
            _acquire(handle)
        except OSError as error:
            if error.errno in HELD_BY_ANOTHER:
                holder = _describe_holder(os.read(handle, 1000))
                os.close(handle)
                raise ValueError(
                    f"{self.folder} is in use by {holder}. Two processes would overwrite each other's files. "
                    "Wait for the other or stop it, or give another `out` for a new run."
                ) from None
            # Some network file systems have no locks: training must be possible there too.
        return handle

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle is not None:
            os.close(self._handle)  # which releases it
            self._handle = None


@contextmanager
def locked_in_place(folder: Path) -> Iterator[None]:
    """While the context is open, no other process can open one for the same folder; no file is written for it.

    Windows, and some network disks, cannot lock a folder: there nothing is locked.

    Raises:
        ValueError: If another process has it open.
    """
    if sys.platform == "win32":
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            _acquire(handle)
        except OSError as error:
            if error.errno in HELD_BY_ANOTHER:
                raise ValueError(
                    f"{folder} is in use by another process, which writes its images there. "
                    "Wait for it, or give another `out`."
                ) from None
        yield
    finally:
        os.close(handle)


def _open_plain(file: Path) -> int:
    """A file opened for reading and writing, and created if it does not exist; a link is not followed.

    Raises:
        ValueError: If it is a link, a pipe or a device.
    """
    flags = os.O_RDWR | os.O_CREAT
    if sys.platform != "win32":
        flags |= os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        handle = os.open(file, flags, 0o644)
        if stat.S_ISREG(os.fstat(handle).st_mode):
            return handle
        os.close(handle)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO):
            raise
    raise ValueError(f"{file} is a link, a pipe or a device, and noisekiln writes there only a plain file. Remove it.")


def _acquire(handle: int) -> None:
    """Lock an open file or raise OSError, without waiting."""
    if sys.platform == "win32":
        import msvcrt

        os.lseek(handle, 1 << 20, os.SEEK_SET)  # beyond the text: locked bytes cannot be read by other processes
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(handle, 0, os.SEEK_SET)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _describe_holder(text: bytes) -> str:
    try:
        holder = json.loads(text)
        return f"process {holder['process']} on {holder['host']} since {holder['since']}"
    except (ValueError, KeyError, TypeError):  # it has only just acquired the lock
        return "another process"
