"""Processes of a command that outlive it in no way: each holds a lock while it lives."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxgpt.errors import RetryableError
from jaxgpt.locks import try_lock

POLL_SECONDS = 0.5


# Runs a command, and sends it one SIGTERM when stdin ends: its other end is held by a process that may be killed.
WATCH = """
import subprocess, sys, threading
command = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, close_fds=False)
threading.Thread(target=lambda: (sys.stdin.read(), command.terminate()), daemon=True).start()
sys.exit(command.wait())
"""


def run_command(words: Sequence[str], cwd: Path, output: Path, lock: Path) -> None:
    """Run a command to its end. It is sent SIGTERM when this process ends, however that happens.

    Args:
      cwd: where it runs.
      output: a file that gets what it prints.
      lock: a file that it locks while it runs, as `wait_for_workers` looks at.
    """
    with lock.open("rb") as lock_file, output.open("wb") as file:
        try_lock(lock_file, shared=True)
        options: dict[str, Any] = {"pass_fds": [lock_file.fileno()]} if os.name == "posix" else {}
        with subprocess.Popen(
            [sys.executable, "-c", WATCH, *words],
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=file,
            start_new_session=True,  # Ctrl-C reaches this process alone
            **options,
        ) as process:
            process.wait()


def wait_for_workers(lock: Path) -> None:
    """Wait until no worker holds the lock: after kill -9 of their parent they end within a moment."""
    with lock.open("a") as file:
        for _ in range(round(30 / POLL_SECONDS)):
            if try_lock(file):
                return
            time.sleep(POLL_SECONDS)
    raise RetryableError(f"{lock}: workers of an earlier start are still running; wait for them, or end them")
