"""Each process of a run has a number of its own: a second one with it is refused, and those that wait are told.

JAX would take the second for the first, started again: it ends the first, and a run that trains as well.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from jaxgpt.errors import RetryableError, UsageError
from jaxgpt.files import open_nofollow
from jaxgpt.locks import try_lock

POLL_S = 0.5
REMEDY = "start all of them again, each with its own --process-id"
_held = []  # locked files, open until this process ends


@contextlib.contextmanager
def claim(out: Path, id: int, leave: Callable[[RetryableError], None]) -> Iterator[None]:
    """Hold a number among the processes that write to `out`, from here to the end of this process.

    Args:
      leave: called from another thread, within the context, if any number is claimed twice: it ends this process.

    Raises:
      RetryableError: another process holds it.
    """
    marker, lock = out / ".process-id-twice", out / f".lock-{id}"
    try:
        out.mkdir(parents=True, exist_ok=True)
        _held.append(open_nofollow(lock, "a"))
    except OSError:  # reported later, where the folder is needed
        yield
        return
    before = _last_change(marker)
    with contextlib.suppress(UsageError):  # no locks there: reported later, where the folder's is needed
        if not try_lock(_held[-1]):
            _held.pop().close()
            marker.unlink(missing_ok=True)  # a link would be followed
            marker.touch()
            raise RetryableError(f"--process-id {id}: another process of this run has that number; {REMEDY}")
    left = threading.Event()

    def watch() -> None:
        while not left.wait(POLL_S):
            if _last_change(marker) != before:
                leave(RetryableError(f"two processes of this run have the same number; {REMEDY}"))
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        left.set()


def _last_change(file: Path) -> int | None:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return None
