"""A reward's own process: whatever a function there does, each answer gets a number in time, or the run one error."""

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxgpt.console import plural
from jaxgpt.environments.rewards import Reward, RewardFunction, open_reward
from jaxgpt.errors import DataError, UsageError

try:
    import fcntl
    from select import poll
except ImportError:  # Windows
    fcntl = None

LIMIT_S, START_LIMIT_S = 10.0, 120.0  # of an answer; of loading the file, which may import what is slow to
CHILD = "import sys; sys.path.insert(0, sys.argv[1]); from jaxgpt.environments.reward_process import serve; serve()"
ROOT = Path(__file__).parents[2]


class Answer(NamedTuple):
    """What a reward is computed of.

    Attributes:
      where: the prompt's file and line, for errors.
      prompt, answer: texts.
      record: the prompt's.
    """

    where: str
    prompt: str
    answer: str
    record: dict[str, Any]


class RewardProcess:
    """Computes a reward in a process that ends with this one, however that happens, or when this is let go of.

    Ctrl-C does not reach it, and other signals by which this process may stop after a step do not end it.

    Args:
      reward: what it computes.
      limit_s, start_limit_s: the most seconds of an answer, and of loading the function.

    Raises:
      DataError: the function can't be loaded.
    """

    def __init__(self, reward: Reward, limit_s: float = LIMIT_S, start_limit_s: float = START_LIMIT_S):
        if fcntl is None:
            raise UsageError(f"--reward {reward.spec}: rewards need Linux or macOS; on Windows, use its Linux (WSL)")
        self._reward, self._limit_s = reward, limit_s
        reader, writer = os.pipe()  # nothing is written: it ends with this process
        self._process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(ROOT), str(reader), reward.spec],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[reader],
            start_new_session=True,
        )
        os.close(reader)
        self.close = weakref.finalize(self, _end, self._process, writer)
        self._poll = poll()
        self._poll.register(self._process.stdout)
        self._lines, self._partial = [], b""
        self._receive(f"--reward {reward.spec}:", start_limit_s, "when its file was loaded")

    def rewards(self, answers: Sequence[Answer]) -> list[float]:
        """The reward of each answer, in order.

        Raises:
          DataError: the function failed on one, by an exception, no finite number, a crash, or taking too long.
        """
        request = json.dumps([(each.prompt, each.answer, each.record) for each in answers]).encode() + b"\n"
        threading.Thread(target=_send, args=(self._process.stdin, request), daemon=True).start()
        subject = f"the reward {self._reward.spec}"
        return [
            self._receive(
                f"{each.where}: {subject}", self._limit_s, f"on an answer of {plural(len(each.answer), 'character')}"
            )
            for each in answers
        ]

    def _receive(self, subject: str, limit_s: float, when: str) -> float | None:
        """The next reply. DataError: it is an error, or there is none in time."""
        deadline = time.monotonic() + limit_s
        while not self._lines:
            if not self._poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                self._fail(f"{subject} took more than {limit_s:g} s {when}; make it faster, or have it give up")
            received = os.read(self._process.stdout.fileno(), 1 << 16)
            if not received:
                self._fail(f"{subject} ended its process {when} ({self._exit()}); correct it")
            *lines, self._partial = (self._partial + received).split(b"\n")
            self._lines += lines[::-1]
        reply = json.loads(self._lines.pop())
        if isinstance(reply, str):
            self._fail(f"{subject} {reply} {when}; correct it")
        return reply

    def _exit(self) -> str:
        """How the process ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(1)
            if code >= 0:
                return f"exit code {code}"
            name = signal.Signals(-code).name if -code in [*signal.Signals] else f"signal {-code}"
            return f"{name}, maybe out of memory" if code == -signal.SIGKILL else name
        return "it closed its output"

    def _fail(self, message: str) -> None:
        self.close()
        raise DataError(message)


def _send(stdin: Any, request: bytes) -> None:
    """Write to a process, which may be ended meanwhile; a thread of its own waits for one that does not read."""
    with contextlib.suppress(OSError, ValueError):  # ValueError: closed
        stdin.write(request)
        stdin.flush()


def _end(process: subprocess.Popen, lifeline: int) -> None:
    """End a process, and those that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    os.close(lifeline)
    process.stdout.close()
    with contextlib.suppress(OSError, ValueError):  # what was not read
        process.stdin.close()


# ---- In the process


def serve() -> None:
    """Answer requests, a JSON list of (prompt, answer, record) a line: for each a number a line, or a text of an error.

    sys.argv has the descriptor that ends with the parent process, and the spec of a reward.
    """
    _, _, lifeline, spec = sys.argv
    _end_with_parent(int(lifeline))
    _survive_signals()
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)  # what the function prints is no reply

    def reply(value: float | str | None) -> None:
        replies.write(json.dumps(value).encode() + b"\n")

    sys.argv[1:] = []
    try:
        function = open_reward(spec).load()
    except BaseException as error:
        reply(_describe(error, spec))
        return
    reply(None)
    for request in requests:
        for prompt, answer, record in json.loads(request):
            reply(_compute(function, spec, prompt, answer, record))


def _end_with_parent(lifeline: int) -> None:
    """Have the system end this process and those that it starts when the parent ends, even where no Python runs."""
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpid())  # the whole group
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    at_end = poll()
    at_end.register(lifeline)
    if at_end.poll(0):  # it ended before
        os._exit(1)


def _survive_signals() -> None:
    """Leave it to the parent when to stop, which takes a step to its end; processes of the function's stop at once."""
    stops = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def reset() -> None:
        for each in stops:
            signal.signal(each, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, stops)

    for each in stops:
        signal.signal(each, lambda signum, frame: None)  # SIG_IGN would be inherited by other programs
    os.register_at_fork(  # one that comes meanwhile waits
        before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, stops),
        after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, stops),
        after_in_child=reset,
    )


def _compute(function: RewardFunction, spec: str, prompt: str, answer: str, record: dict[str, Any]) -> float | str:
    """A finite number, or what is wrong."""
    try:
        value = function(prompt, answer, record)
    except BaseException as error:
        return _describe(error, spec, quoted=False)  # such as a ValueError: could not convert string to float: ...
    try:
        if math.isfinite(value):  # a TypeError for a text, which float takes
            return float(value)
        what = str(float(value))
    except BaseException:  # of any object's __float__
        what = f"a value of type {type(value).__name__}"
    return f"returned {what}, which is no finite number,"


def _describe(error: BaseException, spec: str, quoted: bool = True) -> str:
    """What was raised, with its message if that may be `quoted`, and the line of the user's file."""
    path = spec.rpartition(":")[0]
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    where = f" ({path}, line {lines[-1]})" if lines else ""
    text = ""
    if not quoted:
        return f"raised {type(error).__name__}{where}"
    with contextlib.suppress(Exception):  # of a __str__ of the user's
        text = " ".join(str(error).split())
    return f"raised {type(error).__name__}{f': {text:.300}' if text else ''}{where}"
