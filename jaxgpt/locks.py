"""A folder is one command's at a time, by a lock that the system releases with its process, however that ends."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from jaxgpt.errors import RetryableError, UsageError
from jaxgpt.files import is_same_file, open_nofollow, report_write_errors

try:
    import fcntl
except ImportError:  # Windows has no such locks: there, two commands in one folder are not noticed
    fcntl = None


def try_lock(file: IO, shared: bool = False) -> bool:
    """Lock an open file until it is closed, without waiting; whether no other process holds it.

    Args:
      file: open for writing, or for reading if the lock is shared: NFS grants no other lock on it.
      shared: whether others may hold such a lock too.

    Raises:
      UsageError: its file system has no locks.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        remedy = "mount its file system with locks (Lustre: -o flock), or choose a folder on another"
        raise UsageError(f"{file.name} can't be locked ({error.strerror}); {remedy}") from None
    return True


class Lock:
    """A folder's file .lock, held until `release`, or until the process ends, however it ends. It names its holder.

    Args:
      shared: for a command that only reads, as others may meanwhile: nothing is opened for writing.

    Raises:
      OSError: it can't be written.
      UsageError: it can't be locked.
      RetryableError: another process holds it.
    """

    def __init__(self, folder: Path, shared: bool = False):
        self._path = folder / ".lock"
        self._file = open_nofollow(self._path, "r" if shared else "a+", encoding="utf-8", errors="replace")
        with contextlib.ExitStack() as cleanup:
            cleanup.push(self._file)
            is_free = try_lock(self._file, shared)
            self._file.seek(0)
            self._before = self._file.read(), os.fstat(self._file.fileno())
            if not is_free:
                reader = not shared and try_lock(self._file, shared=True)
                holder = "it only reads" if reader else self._before[0].strip()
                raise RetryableError(
                    f"{folder}: in use by another command ({holder}); wait for it or use another folder"
                )
            cleanup.pop_all()
        if not shared:
            self._write(f"process {os.getpid()} on {socket.gethostname()}\n")

    def _write(self, text: str) -> None:
        self._file.truncate(0)
        self._file.write(text)
        self._file.flush()

    def is_at(self, folder: Path) -> bool:
        """Whether this is still the lock of the folder of that name."""
        return is_same_file(self._file.fileno(), folder / ".lock")

    def release(self, restore: bool = False) -> None:
        """Let go of it; `restore`: as if it had never been held."""
        if restore:
            text, status = self._before
            with contextlib.suppress(OSError):
                self._write(text)
                os.utime(self._path, ns=(status.st_atime_ns, status.st_mtime_ns))
        self._file.close()


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Make a folder, and hold its lock."""
    with report_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = Lock(folder)
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def hold_to_read(folder: Path) -> Iterator[None]:
    """Keep other commands from writing in a folder; nothing in it is opened for writing.

    Raises:
      UsageError: its lock can't be read.
      RetryableError: another process holds it.
    """
    with report_write_errors(folder):
        lock = Lock(folder, shared=True) if os.path.lexists(folder / ".lock") else None
    try:
        yield
    finally:
        if lock:
            lock.release()


def is_held(folder: Path) -> bool:
    """Whether another process writes in a folder; where there are no locks, none seems to.

    To ask is to hold its lock for a moment, if no other does.
    """
    with contextlib.suppress(FileNotFoundError), open_nofollow(folder / ".lock", "r") as file:
        return not try_lock(file, shared=True)
    return False
