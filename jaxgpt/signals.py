"""Signals: SIGINT (Ctrl-C), SIGTERM and SIGHUP end a command within a second, and a run after the step in progress."""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

HANGUP = getattr(signal, "SIGHUP", None)  # its terminal was closed; Windows has no such signal, and nohup ignores it
SIGNALS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"} | (
    {HANGUP: "the terminal was closed"} if HANGUP else {}
)
STOPPING = b"\nstopping after the step in progress; once more quits at once\n"
_before_exit: list[Callable[[], object]] = []


def exit_on_signals() -> None:
    """From now on a signal ends the process within a second, with one line on stderr and the exit code 128 + n.

    A handler of Python's runs when C++ code returns, which may compile for minutes, and an exception from one is lost
    or fatal in a callback of XLA's. So a thread ends the process, which the interpreter's C code wakes at once; the
    handler only halts the main thread.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    halted = threading.Event()

    def halt(signum: int, frame: object) -> None:
        halted.set()
        if not sys.is_finalizing():  # then there are no other threads
            time.sleep(60)  # the thread ends the process meanwhile
        _exit(signum)

    def wait_and_exit() -> None:
        while (signum := reader.recv(1)[0]) not in SIGNALS:
            pass
        halted.wait(0.5)
        _exit(signum)

    def reset() -> None:
        signal.set_wakeup_fd(-1)
        for each in SIGNALS:
            if signal.getsignal(each) == halt:
                signal.signal(each, signal.SIG_DFL)

    with _blocked_signals():  # one that comes before all of this is there waits
        threading.Thread(target=wait_and_exit, daemon=True).start()
        signal.set_wakeup_fd(writer.detach())
        if hasattr(os, "fork"):
            os.register_at_fork(after_in_child=reset)  # a child has no such thread
        for each in SIGNALS:
            if signal.getsignal(each) != signal.SIG_IGN:  # as a shell starts what is behind &
                signal.signal(each, halt)


@contextlib.contextmanager
def _blocked_signals() -> Iterator[None]:
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _exit(signum: int) -> None:
    stderr = _stderr()
    with contextlib.suppress(OSError):  # print may wait for a lock that the main thread holds
        os.write(stderr, b"\n" * os.isatty(stderr) + f"error: {SIGNALS[signum]}\n".encode())
    for call in reversed(_before_exit):
        with contextlib.suppress(Exception):
            call()
    os._exit(128 + signum)


@contextlib.contextmanager
def before_exit(call: Callable[[], object]) -> Iterator[None]:
    """Within this context, a signal that ends the process has this called first, by another thread.

    The innermost context's comes first. It must not take a lock, which the halted main thread may hold.
    """
    _before_exit.append(call)
    try:
        yield
    finally:
        _before_exit.remove(call)


@contextlib.contextmanager
def stop_signals(message: bytes = STOPPING, raises: bool = False) -> Iterator[list[int]]:
    """Within this context, a signal does no more than enter the list that it gives, and print the message on stderr.

    Where it `raises`, it raises KeyboardInterrupt(n) too, which ends a wait for what is typed.

    A loop looks there where it can stop without losing work. A second signal ends the process at once, but not SIGHUP:
    where a terminal is closed, both the shell and the system may send it.
    """
    received: list[int] = []
    stderr = _stderr()
    handled = [each for each in SIGNALS if each != HANGUP or signal.getsignal(each) != signal.SIG_IGN]

    def receive(signum: int, frame: object) -> None:
        received.append(signum)
        for each in handled:
            signal.signal(each, signal.SIG_IGN if each == HANGUP else signal.SIG_DFL)
        with contextlib.suppress(OSError):  # the terminal was closed
            os.write(stderr, message)  # print is not allowed in a handler
        if raises:
            raise KeyboardInterrupt(signum)

    old_handlers = {signum: signal.signal(signum, receive) for signum in handled}
    old_wakeup = signal.set_wakeup_fd(-1)
    try:
        yield received
    finally:
        signal.set_wakeup_fd(old_wakeup)
        for signum, handler in old_handlers.items():
            signal.signal(signum, handler)


def _stderr() -> int:
    try:
        return sys.stderr.fileno()
    except (OSError, ValueError, AttributeError):  # it is no file, or closed
        return 2
