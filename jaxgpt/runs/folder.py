"""Folders: a run's, held by one process at a time and described by config.json; new ones for exports; the cache."""

import contextlib
import importlib.metadata
import json
import os
import platform
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from jaxgpt.errors import TryAgainError, UsageError

try:
    import fcntl
except ImportError:  # Windows has no such locks: there, two runs in one folder are not noticed
    fcntl = None


def cache_folder() -> Path:
    """$JAXGPT_CACHE, or ~/.cache/jaxgpt: downloads, the tokens of texts, compiled programs. It may not exist yet."""
    if "JAXGPT_CACHE" in os.environ:
        return Path(os.environ["JAXGPT_CACHE"])
    try:
        return Path.home() / ".cache" / "jaxgpt"
    except RuntimeError:  # a user without a home, as in some containers
        return Path(tempfile.gettempdir()) / "jaxgpt"


@contextlib.contextmanager
def open_run(out: Path) -> Iterator[Callable[[], bool]]:
    """Make the folder of a run and hold it: a context. The system lets go of it when the process ends, however it ends.

    It gives a function that makes and holds the folder again if it was moved or deleted, and says whether it was.

    Raises:
      UsageError: the folder can't be written.
      TryAgainError: another process holds it.
    """
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context(_lock(out))

        def hold_again() -> bool:
            nonlocal lock
            if is_at(lock.fileno(), out / ".lock"):
                return False
            lock = stack.enter_context(_lock(out))
            return True

        yield hold_again


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Make a folder and hold it as `open_run` does, without a run's log in it."""
    with _lock(folder, probe=".lock"):
        yield


def _lock(out: Path, probe: str = "log.jsonl") -> TextIO:
    with _writing(out), contextlib.ExitStack() as if_it_fails:
        out.mkdir(parents=True, exist_ok=True)
        lock = if_it_fails.enter_context((out / ".lock").open("a+"))
        if fcntl:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                holder = lock.read().strip()
                raise TryAgainError(
                    f"{out}: another run is at work there ({holder}); wait for it or use another folder"
                ) from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        lock.flush()
        with (out / probe).open("ab"):  # what can't be written shall show now, not after the first step
            pass
        if_it_fails.pop_all()
        return lock


def is_at(file: int, path: Path) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except OSError:
        return False


def row_of(line: bytes) -> dict[str, Any] | None:
    """A row of log.jsonl; None for a line that is none: damaged, or not ours."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and type(row.get("step")) is int else None


def start_over(out: Path) -> bool:
    """Delete the checkpoints and the log that a run has left in its folder, and nothing else. False if there were none.

    Raises:
      UsageError: there are checkpoints, but no config.json that says that they are a run's.
    """
    checkpoints = out / "checkpoints"
    if checkpoints.is_dir() and any(checkpoints.iterdir()) and not (out / "config.json").exists():
        raise UsageError(f"--fresh: {out} has checkpoints/ but no config.json: not a run of ours; choose another --out")
    with _writing(out):
        old = list(checkpoints.iterdir()) if checkpoints.exists() else []
        for child in old:
            shutil.rmtree(child) if child.is_dir() else child.unlink()
        (out / "log.jsonl").write_bytes(b"")
    return bool(old)


def make_new(folder: Path) -> None:
    """Make a folder for files that shall not meet others.

    Raises:
      UsageError: there are files in it, or it can't be written.
    """
    if folder.is_file():
        raise UsageError(f"{folder}: is a file, not a folder; choose a new folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        used = any(folder.iterdir())
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror or error}; choose a folder that can be written") from None
    if used:
        raise UsageError(f"{folder}: there are files in it already; choose a new folder")


def require_writable(flag: str, path: Path, new: bool = False) -> None:
    """Refuse a file that a command shall write at its end, before it begins; no trace is left of having tried.

    Args:
      flag: that names the file.
      new: whether one that exists is refused too.

    Raises:
      UsageError: it can't be written, or it exists.
    """
    there = os.path.lexists(path)
    if new and there:
        raise UsageError(f"{flag} {path}: exists already; choose another file")
    try:
        path.open("ab").close()
        if not there:
            path.unlink()
    except OSError as error:
        raise UsageError(f"{flag} {path}: {error.strerror or error}; choose a file that can be written") from None


def write_config(out: Path, facts: dict[str, Any], start: dict[str, Any]) -> None:
    """Write config.json: `facts`, the versions that go with them, and the starts of the run, of which this is the last.

    Args:
      start: of this process: `step`, its first, and what is not the same at each start.
    """
    try:
        before = [
            each for each in json.loads((out / "config.json").read_text())["starts"] if each["step"] < start["step"]
        ]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):  # the first start, or a file that was damaged
        before = []
    facts = facts | {"starts": [*before, start]}
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tiktoken")
    versions = {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}
    temporary = out / ".config.json.tmp"
    with _writing(out):
        temporary.write_text(json.dumps(facts | {"versions": versions}, indent=2, default=str) + "\n")
        temporary.replace(out / "config.json")


@contextlib.contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename or out
        raise UsageError(f"{where}: {error.strerror or error}; choose a folder that can be written") from None
