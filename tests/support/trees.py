"""What is in a folder, to the last bit: for tests that nothing there was touched."""

import os
from pathlib import Path


def snapshot(folder: Path) -> list[tuple]:
    """The path, type and mode, time of change in ns, and bytes or target of all that is at and below a path, sorted."""
    paths = [folder, *sorted(folder.rglob("*"))] if folder.is_dir() and not folder.is_symlink() else [folder]
    entries = []
    for path in paths:
        status = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        entries.append((str(path), status.st_mode, status.st_mtime_ns, content))
    return entries
