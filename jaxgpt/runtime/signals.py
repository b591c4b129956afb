"""Signals that end a run: noted, and acted on where no work is lost."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def stop_signals(in_progress: str = "step") -> Iterator[list[int]]:
    """Within this context, SIGINT (Ctrl-C) and SIGTERM do no more than enter the list that it gives.

    A loop looks there where it can stop without losing work. A second signal ends the process at once.
    """
    received: list[int] = []
    message = f"\nstopping after the {in_progress} in progress; once more quits at once\n".encode()

    def receive(signum: int, frame: object) -> None:
        received.append(signum)
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)
        os.write(stderr, message)  # print is not allowed in a handler

    try:
        stderr = sys.stderr.fileno()
    except OSError:  # it is no file
        stderr = 2
    old_handlers = {signum: signal.signal(signum, receive) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for signum, handler in old_handlers.items():
            signal.signal(signum, handler)
