"""A process beside a run that sends its rows to a tracker: `jaxgpt track`. No step waits for it."""

import contextlib
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jaxgpt
from jaxgpt.console import say
from jaxgpt.errors import RetryableError

NICENESS = 10  # the run comes first
PATIENCE_S = 5  # for the last rows, when the run has ended
RETRY_S = 30  # after which one that may succeed later is started again


class TrackerProcess:
    """A context around a run's lock. The process ends by itself, when that is released and all rows are sent.

    Args:
      run: the run's folder.
      tracker: a name in TRACKERS, or "none".
    """

    def __init__(self, run: Path, tracker: str):
        self._run, self._tracker = run, tracker
        self._process: subprocess.Popen | None = None
        self._retry_at, self._reported = math.inf, False
        self._until_end, self._errors = contextlib.ExitStack(), None

    def __enter__(self) -> "TrackerProcess":
        return self

    def __exit__(self, *_: object) -> None:
        with self._until_end:
            if self._process:
                try:
                    self._process.wait(PATIENCE_S)
                    self._report_failure()
                except subprocess.TimeoutExpired:
                    say("note", f"rows are still being sent to {self._tracker}; that process ends by itself")

    def start(self) -> None:
        """Start it, when the run's folder is there and locked."""
        if self._tracker == "none":
            return
        paths = filter(None, [str(Path(jaxgpt.__file__).parents[1]), os.environ.get("PYTHONPATH")])
        try:
            if self._errors is None:
                self._errors = self._until_end.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
            self._process = subprocess.Popen(
                [sys.executable, "-m", "jaxgpt", "track", str(self._run.absolute()), "--to", self._tracker],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                start_new_session=True,  # Ctrl-C is for the run alone
            )
        except OSError as error:
            say("note", f"{self._tracker} gets no rows: {error.strerror}; jaxgpt track sends them")
            return
        if hasattr(os, "setpriority"):
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, self._process.pid, os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)

    def before_step(self, run: Any) -> None:
        pass

    def after_step(self, run: Any, metrics: dict[str, Any]) -> None:
        if self._process and self._process.poll() is not None:
            self._report_failure()
        if time.monotonic() >= self._retry_at:
            self._retry_at = math.inf
            self.start()

    def _report_failure(self) -> None:
        """Say why the process has failed, if it has and none has before; it may be started again."""
        code, self._process = self._process.returncode, None
        if code == RetryableError.exit_code:  # such as for a server that is away, or a process that still sends
            self._retry_at = time.monotonic() + RETRY_S
        if code and not self._reported:
            self._reported = True
            self._errors.seek(0)
            last = self._errors.read().decode(errors="replace").strip().splitlines()[-1:]
            reason = last[0].removeprefix("error: ") if last else f"it ended with code {code}"
            say("note", f"{self._tracker} gets no rows: {reason}; jaxgpt track sends what is missing")
