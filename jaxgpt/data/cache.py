"""The cache folder. Everything in it can be computed again, and only what no other user can have written is read."""

import contextlib
import functools
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import NoReturn

from jaxgpt.console import note
from jaxgpt.files import new_file, owner_only

# What is kept: tokens and references, under the hash of what they were made of, and JAX's compiled programs.
ENTRY = re.compile(
    r"(gpt2|bytes|chars|bpe|reference)-.*[0-9a-f]{64}(\.bin)?|.*-[0-9a-f]{64}-(cache|atime)|xla_gpu_\w+_cache_dir"
)
OTHERS_WRITE = 0o022


def cache_folder() -> Path:
    """$JAXGPT_CACHE, or ~/.cache/jaxgpt: tokens, references, and compiled programs. It may not exist yet."""
    if named := os.environ.get("JAXGPT_CACHE"):  # empty is as good as unset
        return Path(named)
    try:
        return Path.home() / ".cache" / "jaxgpt"
    except RuntimeError:  # a user without a home, as in some containers
        return Path(tempfile.gettempdir()) / "jaxgpt"


def make_folder(folder: Path) -> None:
    """Make a folder of the cache, or `make_private` it; OSError: it can't be made, or as `make_private`."""
    with owner_only():
        folder.mkdir(parents=True, exist_ok=True)
    make_private(folder)


def make_private(folder: Path) -> None:
    """Take from other users what they may do in a folder of the cache, and delete entries that they can have written.

    A hash beside the tokens, or within a compiled program, protects from a bad disk, not from who writes both.

    Raises:
      OSError: it is missing; or, which is noted, it belongs to another user, or others keep the right to write to it:
        where chmod has no effect, and in a folder that $JAXGPT_CACHE names, which is left as it is.
    """
    if not hasattr(os, "geteuid"):  # Windows has no such modes
        return
    status = folder.stat()
    if status.st_uid != os.geteuid():
        _refuse(f"{folder} belongs to another user", "set JAXGPT_CACHE to a folder of your own")
    was_open = status.st_mode & OTHERS_WRITE
    if was_open and (named := os.environ.get("JAXGPT_CACHE")) and folder.is_relative_to(named):  # perhaps to share it
        _refuse(f"others can write to {folder}", "delete it, or set JAXGPT_CACHE to a folder of your own")
    if status.st_mode & 0o077:
        with contextlib.nullcontext() if was_open else contextlib.suppress(OSError):  # on a read-only disk
            folder.chmod(status.st_mode & 0o700)
    if was_open and folder.stat().st_mode & OTHERS_WRITE:  # as on CIFS
        _refuse(f"others can write to {folder}, and chmod changes nothing there", "set JAXGPT_CACHE to another disk")
    entries = [entry for entry in folder.iterdir() if ENTRY.fullmatch(entry.name)]
    doubtful = [entry for entry in entries if was_open or not _is_own(entry.lstat())]
    for entry in doubtful:
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink(missing_ok=True)
    if doubtful:
        _note_once(f"{folder}: others could write to it, or to files in it; what was cached there is rebuilt")


def _refuse(problem: str, remedy: str) -> NoReturn:
    _note_once(f"{problem}; nothing is cached: {remedy}")
    raise PermissionError(problem)


def _is_own(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & OTHERS_WRITE


_note_once = functools.cache(note)


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Write a file of the cache, and the folders above it, such that no process ever reads a part of it.

    Raises:
      OSError: it can't be written.
    """
    make_folder(path.parent)
    with owner_only(), new_file(path) as temporary:
        temporary.write_bytes(content)
