"""Folders: a run's, held by one process at a time and described by config.json; new ones for exports."""

import contextlib
import importlib.metadata
import json
import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from jaxgpt.console import say
from jaxgpt.errors import RetryableError, UsageError

try:
    import fcntl
except ImportError:  # Windows has no such locks: there, two runs in one folder are not noticed
    fcntl = None


class RunLock:
    """A run's folder, made and locked: a context. The system unlocks it when the process ends, however it ends.

    Raises:
      UsageError: the folder can't be written, or no checkpoint in it.
      RetryableError: another process holds it.
    """

    def __init__(self, out: Path):
        require_utf8(out)
        self._out, self._files = out, [_lock(out)]

    def __enter__(self) -> "RunLock":
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()

    def reacquire_if_moved(self) -> bool:
        """Make and lock the folder anew if it was moved or deleted, and say whether it was."""
        if is_same_file(self._files[-1].fileno(), self._out / ".lock"):
            return False
        self._files.append(_lock(self._out))
        return True


class FolderGuard:
    """Keeps a run in its folder: when that was moved or deleted, the run continues in a new one of that name.

    Args:
      lock: of the folder.
      out: its name for the user.
      describe: writes config.json anew.
    """

    def __init__(self, lock: RunLock, out: Path, describe: Callable[[], None]):
        self._lock, self._out, self._describe = lock, out, describe

    def before_step(self, run: Any) -> None:
        pass

    def after_step(self, run: Any, metrics: dict[str, Any]) -> None:
        with contextlib.suppress(UsageError):  # a new folder can't be made now: what can't be saved is reported
            if self._lock.reacquire_if_moved():
                say("note", f"{self._out} was moved or deleted, with all in it; the run continues in a new one")
                self._describe()


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Make a folder and hold it as `RunLock` does, without a run's log in it."""
    with _lock(folder, probe=".lock"):
        yield


def _lock(out: Path, probe: str = "log.jsonl") -> TextIO:
    with _report_write_errors(out), contextlib.ExitStack() as cleanup:
        out.mkdir(parents=True, exist_ok=True)
        lock = cleanup.enter_context((out / ".lock").open("a+"))
        if fcntl:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                holder = lock.read().strip()
                raise RetryableError(
                    f"{out}: another run is training there ({holder}); wait for it or use another folder"
                ) from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        lock.flush()
        with (out / probe).open("ab"):  # what can't be written shall show now, not after the first step
            pass
        cleanup.pop_all()
        return lock


def is_same_file(file: int, path: Path) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except OSError:
        return False


def parse_row(line: bytes) -> dict[str, Any] | None:
    """A row of log.jsonl; None for a line that is none: corrupt, or not ours."""
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
    with _report_write_errors(out):
        children = list(checkpoints.iterdir()) if checkpoints.exists() else []
        for child in children:
            shutil.rmtree(child) if child.is_dir() else child.unlink()
        (out / "log.jsonl").write_bytes(b"")
    return bool(children)


def require_utf8(folder: Path) -> None:
    """Refuse a folder whose path is not UTF-8 here: tensorstore and safetensors can't open files in it.

    In a locale that is not UTF-8 Python can't decode another letter of a path, and keeps its bytes as surrogates.
    """
    path = folder.absolute()
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        locale = f"set LC_ALL=C.UTF-8 or PYTHONUTF8=1 (names are {sys.getfilesystemencoding()} now)"
        raise UsageError(f"{path}: checkpoints and weights need a path in UTF-8; {locale}, or rename it") from None


def make_empty_folder(folder: Path) -> None:
    """Make a folder for files that shall not meet others.

    Raises:
      UsageError: there are files in it, or it can't be written.
    """
    require_utf8(folder)
    if folder.is_file():
        raise UsageError(f"{folder}: is a file, not a folder; choose a new folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        nonempty = any(folder.iterdir())
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror or error}; choose a folder that can be written") from None
    if nonempty:
        raise UsageError(f"{folder}: there are files in it already; choose a new folder")


def require_writable(flag: str, path: Path, new: bool = False) -> None:
    """Refuse a file that a command shall write at its end, before it begins; no trace is left of having tried.

    Args:
      flag: that names the file.
      new: whether one that exists is refused too.

    Raises:
      UsageError: it can't be written, or it exists.
    """
    exists = os.path.lexists(path)
    if new and exists:
        raise UsageError(f"{flag} {path}: exists already; choose another file")
    try:
        path.open("ab").close()
        if not exists:
            path.unlink()
    except OSError as error:
        raise UsageError(f"{flag} {path}: {error.strerror or error}; choose a file that can be written") from None


def write_config(out: Path, facts: dict[str, Any], start: dict[str, Any]) -> None:
    """Write config.json: `facts`, the versions that go with them, and the starts of the run, of which this is the last.

    Args:
      start: of this process: `step`, its first, and what is not the same at each start.
    """
    try:
        earlier = [
            entry for entry in json.loads((out / "config.json").read_text())["starts"] if entry["step"] < start["step"]
        ]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):  # the first start, or a corrupt file
        earlier = []
    facts = facts | {"starts": [*earlier, start]}
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tiktoken")
    versions = {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}
    temporary = out / ".config.json.tmp"
    with _report_write_errors(out):
        temporary.write_text(json.dumps(facts | {"versions": versions}, indent=2, default=str) + "\n")
        temporary.replace(out / "config.json")


@contextlib.contextmanager
def _report_write_errors(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename or out
        raise UsageError(f"{where}: {error.strerror or error}; choose a folder that can be written") from None
