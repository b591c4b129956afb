"""Limits: of time, for what a hostile input may make hang, and of the size of files, as on a full disk."""

import contextlib
import resource
import signal
import sys
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


@contextlib.contextmanager
def no_file_may_grow(size: int = 10) -> Iterator[None]:
    """Beyond so many bytes."""
    before, writes = resource.getrlimit(resource.RLIMIT_FSIZE), sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # Python would keep the half of it that is written
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        sys.dont_write_bytecode = writes
