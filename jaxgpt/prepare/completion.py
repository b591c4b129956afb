"""What marks a task as done: the size and SHA-256 of each file that it wrote, all of which the disk had before.

datatrove's own mark is an empty file. It may survive a power cut that what it vouches for does not: an empty list of
duplicates, for example, would keep all copies.
"""

import contextlib
import functools
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxgpt.files import new_file, sync
from jaxgpt.json_file import try_read_json

_opened: set[str] | None = None  # by the task at work in this process, for writing


class MarksTasks:
    """The part of an executor of datatrove that marks a task as done; work/stages/NAME is its folder."""

    def _run_for_rank(self, rank: int, *args: Any, **kwargs: Any) -> Any:
        with _watch_writes():
            return super()._run_for_rank(rank, *args, **kwargs)

    def mark_rank_as_completed(self, rank: int) -> None:
        mark = Path(os.path.abspath(self.logging_dir.resolve_paths(f"completions/{rank:05d}")))
        logs, work = mark.parents[1] / "logs", mark.parents[3]
        mark.parent.mkdir(exist_ok=True)
        written = [path for path in map(Path, sorted(_opened)) if path.is_file() and logs not in path.parents]
        written = [path for path in written if work in path.parents]
        folders = {folder for path in (*written, mark.parent) for folder in path.parents if folder.is_relative_to(work)}
        sync(*written, *folders)
        with new_file(mark) as temporary:
            temporary.write_text(json.dumps({str(path.relative_to(work)): describe(path) for path in written}))


def delete_false_marks(work: Path) -> None:
    """Delete the mark of each task whose files are not what it wrote, so that it is done again."""
    for mark in (work / "stages").glob("*/completions/*"):
        written = try_read_json(mark)
        if not isinstance(written, dict) or any(describe(work / name) != each for name, each in written.items()):
            mark.unlink()


def describe(path: Path) -> list[int | str] | None:
    """A file's size in bytes and its SHA-256; None if it can't be read."""
    try:
        with path.open("rb") as file:
            return [path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()]
    except (OSError, ValueError):  # ValueError: no file can have such a name
        return None


@contextlib.contextmanager
def _watch_writes() -> Iterator[None]:
    """Collect the names of the files that this process opens for writing, whichever library does."""
    global _opened
    _add_hook()
    _opened = set()
    try:
        yield
    finally:
        _opened = None


@functools.cache
def _add_hook() -> None:
    sys.addaudithook(_collect)  # for the rest of the process: one can't be removed


def _collect(event: str, args: tuple[Any, ...]) -> None:
    if _opened is None:
        return
    if event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR) and not isinstance(args[0], int):
        _opened.add(os.path.abspath(os.fsdecode(args[0])))
    elif event == "os.rename":
        _opened.add(os.path.abspath(os.fsdecode(args[1])))
