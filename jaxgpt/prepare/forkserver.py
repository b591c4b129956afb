"""The process that workers are forked from. It is started first, and loads what they need while the command does."""

import contextlib
import functools
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import multiprocessing.util
import shutil
import signal
import sys
from collections.abc import Iterator

from jaxgpt import signals


@contextlib.contextmanager
def run_forkserver() -> Iterator[None]:
    """A context in which it runs, or has been started; a signal that ends the command deletes its socket."""
    # The process that multiprocessing starts to clean up semaphores complains of those of a parent that was ended.
    sys.warnoptions.append("ignore:resource_tracker")
    multiprocessing.forkserver.set_forkserver_preload(["jaxgpt.prepare.preload"])
    with signals.before_exit(functools.partial(shutil.rmtree, multiprocessing.util.get_temp_dir())):
        with contextlib.suppress(OSError):  # where it can't run, the first worker reports it
            _start()
        yield


def _start() -> None:
    """Start it. It inherits that Ctrl-C, which is for the command alone, does not interrupt its imports."""
    multiprocessing.resource_tracker.ensure_running()  # which would unblock the signal
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
