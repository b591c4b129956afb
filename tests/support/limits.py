"""A limit of time for what a hostile input may make hang."""

import contextlib
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def limit_time(seconds: int) -> Iterator[None]:
    def hangs(*_: object) -> None:
        raise AssertionError(f"no answer within {seconds} seconds")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
