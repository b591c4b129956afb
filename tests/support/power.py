"""A power cut: of a folder there remains what was synced, and of the rest what chance leaves.

`Disk` takes the place of os.fsync, in this process or, by its `environment`, in others. A file keeps the bytes, and a
folder the names, that it had when it was synced. Of the bytes written later there survive none, or the first half, or
zeros in their place, or all; of the changes of names (new, renamed, deleted) all or none, as of a file system's
journal. Only Python's calls are seen, not tensorstore's.
"""

import contextlib
import json
import os
import random
import stat
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
SITE = """
import os, sys
from pathlib import Path
sys.path.append({root!r})
from tests.support.power import Disk
os.fsync = Disk(Path({store!r})).sync
"""


class Disk:
    """Keeps what was synced, by inode: a file's bytes; a folder's names, with their inodes and which are folders."""

    def __init__(self, store: Path):
        self._store = store
        self._folders: dict[int, int] = {}  # open, so that nothing else gets their inodes
        store.mkdir(exist_ok=True)

    def environment(self) -> dict[str, str]:
        """The variables with which Python and its children sync to this disk."""
        site = self._store / "site"
        site.mkdir(exist_ok=True)
        (site / "sitecustomize.py").write_text(SITE.format(root=str(ROOT), store=str(self._store)))
        return {"PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}

    def sync_all(self, folder: Path) -> None:
        """From now on the disk has all that is in a folder, and nothing else."""
        for path in self._store.glob("[0-9]*"):
            path.unlink()
        while self._folders:
            os.close(self._folders.popitem()[1])
        for path in (folder, *folder.rglob("*")):
            file = os.open(path, os.O_RDONLY)
            self.sync(file)
            os.close(file)

    def sync(self, file: int) -> None:
        """In place of os.fsync."""
        status, path = os.fstat(file), f"/proc/self/fd/{file}"
        if stat.S_ISDIR(status.st_mode):
            if status.st_ino not in self._folders:
                self._folders[status.st_ino] = os.dup(file)
            with os.scandir(file) as entries:
                content = json.dumps({each.name: (each.inode(), each.is_dir()) for each in entries}).encode()
        else:
            content = Path(path).read_bytes()
            with contextlib.suppress(FileExistsError, FileNotFoundError):  # and no other file its inode
                os.link(os.readlink(path), self._store / f"{status.st_ino}.same")
        part = self._store / f"{status.st_ino}.{os.getpid()}"
        part.write_bytes(content)
        part.replace(self._store / f"{status.st_ino}{'.names' if stat.S_ISDIR(status.st_mode) else ''}")

    def cut_power(self, folder: Path, draw: random.Random) -> None:
        """Leave of a folder what survives, which the disk has from then on."""
        restore(folder, self.survivors(folder, draw))
        self.sync_all(folder)

    def survivors(self, folder: Path, draw: random.Random) -> dict[str, bytes | None]:
        """The files that a power cut leaves in a folder, and None for each folder, by their names there."""
        paths = {path.lstat().st_ino: path for path in (folder, *folder.rglob("*"))}
        keeps_names, left = draw.random() < 0.6, {}

        def visit(name: str, inode: int, is_folder: bool) -> None:
            path, file, names = paths.get(inode), self._store / f"{inode}", self._store / f"{inode}.names"
            if path and path.is_dir() != is_folder:  # it was deleted, and another has its inode
                path = None
            if is_folder:
                left[name] = None
                synced = json.loads(names.read_bytes()) if names.exists() else {}
                if path and keeps_names:
                    synced = {child.name: (child.lstat().st_ino, child.is_dir()) for child in path.iterdir()}
                for child, entry in synced.items():
                    visit(os.path.join(name, child), *entry)
            else:
                synced = file.read_bytes() if file.exists() else None
                now = path.read_bytes() if path else synced or b""
                left[name] = now if now == synced else draw.choice(_remains(now, synced or b""))

        visit("", folder.stat().st_ino, True)
        return left


def _remains(now: bytes, synced: bytes) -> list[bytes]:
    """What may remain of a file that has changed since it was synced."""
    half = now[: (len(synced) + len(now)) // 2]
    return [synced, synced, half, synced + bytes(max(len(now) - len(synced), 0)), now]


def restore(folder: Path, left: dict[str, bytes | None]) -> None:
    """Make a folder what a power cut has left; a file that is the same is not touched."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if str(path.relative_to(folder)) not in left:
            path.rmdir() if path.is_dir() else path.unlink()
    for name, content in left.items():
        path = folder / name
        if content is None:
            path.mkdir(exist_ok=True)
        elif not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)


class PowerCut(BaseException):
    """Ends a function where the power is cut."""


_on_change: Callable[[], None] | None = None


def _watch(event: str, args: tuple) -> None:
    changes = args[2] & os.O_ACCMODE if event == "open" else event in ("os.mkdir", "os.remove", "os.rename", "os.rmdir")
    if changes and _on_change:
        _on_change()


sys.addaudithook(_watch)


def cut(folder: Path, disk: Disk, draw: random.Random, changes: int, action: Callable[[], object]) -> bool:
    """Cut the power of a folder's disk after so many changes that an action makes in file systems.

    Returns:
      Whether it was cut: else the action has ended before.
    """
    global _on_change
    left = None

    def count() -> None:
        nonlocal changes, left
        global _on_change
        changes -= 1
        if changes < 0:
            _on_change = None
            left = disk.survivors(folder, draw)
            raise PowerCut

    _on_change = count
    try:
        action()
    except PowerCut:
        restore(folder, left)
        disk.sync_all(folder)
    finally:
        _on_change = None
    return left is not None
