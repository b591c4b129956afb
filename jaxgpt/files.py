"""What commands write: checked before they begin, without a trace; and such that no kill or power cut leaves a half.

A refusal touches nothing: no name, byte, mode or time of the user's files.
"""

import contextlib
import errno
import filecmp
import functools
import itertools
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from jaxgpt import signals
from jaxgpt.errors import UsageError

try:
    import fcntl
except ImportError:  # Windows, as in locks.py
    fcntl = None

_user_umask: int | None = None  # while `owner_only` has another one: the process has only one too
FRAGILE = ("checkpoints", "index", "work")  # subfolders of a run or a prepared folder, in which a new file is harm


# ---- Links


def open_nofollow(path: Path, mode: str, **options: Any) -> IO:
    """As `open`, for a file in a run's or a prepared folder: a link there, which may name any file, is refused."""
    safe = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # nor does it wait for a pipe's other end
    try:
        return open(path, mode, opener=lambda path, flags: os.open(path, flags | safe, 0o666), **options)
    except OSError:
        require_no_link(path)
        raise


def require_no_link(path: Path) -> None:
    """Refuse a link where a command shall write."""
    if path.is_symlink():
        raise UsageError(
            f"{path} is a symbolic link, and jaxgpt writes through none in a folder; "
            "move its target to its place, or move the whole folder and link that"
        )


def require_no_links(folder: Path) -> None:
    """Refuse links at and below a folder in which libraries shall write."""
    require_no_link(folder)
    for parent, *names in os.walk(folder):
        for name in itertools.chain(*names):
            require_no_link(Path(parent, name))


def is_path(name: str) -> bool:
    """Whether a name that anyone may have written can be a path: not too long, without a zero byte, of characters."""
    try:
        os.lstat(name)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return True
    except (OSError, ValueError):
        return False
    return True


def is_same_file(file: int, path: Path) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except OSError:
        return False


# ---- Refusals


@contextlib.contextmanager
def report_write_errors(folder: Path) -> Iterator[None]:
    """A context in which an error of the system is one line."""
    try:
        yield
    except OSError as error:
        where = error.filename or folder
        raise UsageError(f"{where}: {error.strerror or error}; choose a folder that can be written") from None


def require_folder(folder: Path) -> None:
    """Refuse a folder that can't be made, or not be written."""
    with report_write_errors(folder):
        nearest = next((path for path in (folder, *folder.parents) if os.path.lexists(path)), Path())
        if nearest == folder and not folder.is_dir():
            raise UsageError(f"{folder}: is a file, not a folder; choose a new folder")
        if not nearest.is_dir():
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def require_empty(folder: Path, except_for: Iterable[str] = ()) -> None:
    """Refuse a folder, for files that shall not meet others, that has any `except_for` these, or can't be made."""
    require_folder(folder)
    with report_write_errors(folder):
        if folder.is_dir() and not set(os.listdir(folder)).issubset(except_for):
            raise UsageError(f"{folder}: there are files in it already; choose a new folder")


def require_new(flag: str, path: Path) -> None:
    """Refuse a file with something in it, which would be lost. A pipe or a device loses nothing."""
    if path.is_file() and path.stat().st_size:
        raise UsageError(f"{flag} {path}: exists already; choose another file")


def require_writable(flag: str, path: Path) -> None:
    """Refuse a file that a command shall write at its end and can't; `flag` names it."""
    exists = os.path.lexists(path)
    try:
        if not exists:
            os.stat(os.path.join(path.parent, "."))  # raises what is wrong with it
            if not os.access(path.parent, os.W_OK | os.X_OK):
                raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        elif not path.exists() or path.is_file() or path.is_dir():  # no pipe: its reader would take this for the end
            os.close(os.open(path, os.O_WRONLY))
            if path.is_file() and not os.access(path.resolve().parent, os.W_OK | os.X_OK):  # it is written beside it
                raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(path.parent))
    except OSError as error:
        raise UsageError(f"{flag} {path}: {error.strerror or error}; choose a file that can be written") from None


def require_separate(
    flag: str,
    output: Path,
    inputs: Iterable[tuple[str, str | Path | None]],
    parts: tuple[str, ...] = ("",),
    rewrites: Callable[[Path], bool] = lambda file: False,
    nested: bool = True,
) -> None:
    """Refuse an output by which a command would change an input, under whatever name: a link, or another spelling.

    Args:
      flag: that names the output.
      output: a file, or a folder.
      inputs: flags, and what they name; what is no file or folder, such as gpt2, can't be changed.
      parts: what the command writes or deletes in an output folder; by default anything.
      rewrites: the files of an input folder that it may write again.
      nested: whether an output in an input folder is all right where it overwrites nothing.

    Raises:
      UsageError: it names both.
    """
    written, subfolders = [output / part for part in parts], FRAGILE if nested else ("",)
    files = {identity: file for path in written for identity, file in _files(path)}
    for name, value in inputs:
        path = Path(value or "")
        if not value or not os.path.exists(path):
            continue
        if path.parent.name == "checkpoints" and path.name.isdecimal():  # a part of a run
            path = path.parent.parent
        if os.path.exists(output) and os.path.samefile(path, output):
            relation = "is"
        elif _is_within(path, *written) or _is_within(output, *(path / name for name in subfolders)):
            relation = "overlaps with"
        elif files and any(identity in files and not rewrites(file) for identity, file in _files(path)):
            relation = "would overwrite a file of"
        elif output.is_symlink() and _is_within(output.parent, path):
            relation = "is a symbolic link in"
        else:
            continue
        raise UsageError(f"{flag} {output} {relation} {name} {value}, which must stay; choose another {flag}")


def _is_within(path: Path, *folders: Path) -> bool:
    real = Path(os.path.realpath(path))
    return any(Path(os.path.realpath(folder)) in (real, *real.parents) for folder in folders)


def _files(path: Path) -> Iterator[tuple[tuple[int, int], Path]]:
    """The files at and below a path, each with what is the same for all its names; links are followed."""
    seen, waiting = set(), [path]
    while waiting:
        path = waiting.pop()
        with contextlib.suppress(OSError):  # what can't be looked at is reported where it is read
            status = path.stat()
            identity = status.st_dev, status.st_ino
            if not path.is_dir():
                yield identity, path
            elif identity not in seen:
                seen.add(identity)
                waiting += path.iterdir()


# ---- Writing


@contextlib.contextmanager
def owner_only(folder: Path | None = None) -> Iterator[None]:
    """A context in which new files and folders are this user's alone: 0600 and 0700, or what the umask leaves.

    Every command runs in one. In another within it the umask is the user's again, but for what the folder forbids.

    Args:
      folder: where they are made; if it is there, they may be open to whom its owner has opened it.
    """
    global _user_umask
    others = 0o077 & ~(folder.stat().st_mode if folder and folder.is_dir() else 0)
    umask, outer = os.umask(0o077), _user_umask
    _user_umask = umask if outer is None else outer
    os.umask(_user_umask | others)
    try:
        yield
    finally:
        os.umask(umask)
        _user_umask = outer


def write_whole(path: Path, content: str, new: bool = False) -> None:
    """Write a text as a file that is there in whole or not at all; what is no regular file is written as it is.

    Args:
      new: whether one that has something in it meanwhile is an error.

    Raises:
      FileExistsError: it is new, and has something in it.
      OSError: it can't be written.
    """
    if path.exists() and not path.is_file():  # such as /dev/stdout
        path.write_text(content, encoding="utf-8")
        return
    path = path.resolve()  # a link stays one
    _delete_leftovers(path)
    with contextlib.ExitStack() as until_renamed, new_file(path) as temporary:
        temporary.touch()
        until_renamed.enter_context(_locked(temporary))
        try:
            temporary.write_text(content, encoding="utf-8")
        except OSError as error:  # a full disk, which has no name
            raise OSError(error.errno, error.strerror, str(path)) from None
        if path.exists():
            if new and path.stat().st_size:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
            shutil.copymode(path, temporary)


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A context that gives a file to write, which gets the name of `path` at its end, when it is on the disk.

    A link of that name is replaced.

    After an error or a signal that ends the process, there is what was there before.
    """
    temporary = _temporary(path)
    temporary.unlink(missing_ok=True)  # a link, in a folder from elsewhere
    with signals.before_exit(lambda: temporary.unlink(missing_ok=True)):
        try:
            yield temporary
            sync(temporary)
            temporary.replace(path)
            sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    """A hidden name beside a path, which is this process's alone: hosts may share the folder."""
    return path.with_name(f".{path.name[:100]}.{socket.gethostname()}-{os.getpid()}.tmp")


@contextlib.contextmanager
def new_folder(folder: Path, names: Iterable[str]) -> Iterator[Path]:
    """A context that gives a folder to fill with files of these names; at its end that gets the name of `folder`.

    That is new, or empty, or has the same files with the same bytes, since a kill may come when all is done. An error
    or a signal leaves nothing, a kill a hidden folder beside it, which the next call for the same folder deletes.

    Raises:
      UsageError: there are other files in it, or it can't be made.
    """
    require_empty(folder, except_for=names)
    folder = folder.resolve()
    part = _temporary(folder)
    with report_write_errors(folder), contextlib.ExitStack() as cleanup:
        _delete_leftovers(folder)  # of a process of the same number, too
        part.mkdir(parents=True)
        remove = functools.partial(shutil.rmtree, part, ignore_errors=True)
        cleanup.callback(remove)
        cleanup.enter_context(signals.before_exit(remove))
        cleanup.enter_context(_locked(part))
        yield part
        if not folder.is_dir() or filecmp.cmpfiles(part, folder, os.listdir(part), shallow=False)[1:] != ([], []):
            require_empty(folder)
            sync(*part.rglob("*"), part)
            part.replace(folder)
            sync(*folder.parents)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """A context with the lock that a living process holds on its temporary file or folder; whether this one has it.

    NFS has none for a folder, or for a file that is open for reading: what a kill leaves there stays.
    """
    with contextlib.ExitStack() as cleanup:
        held = False
        with contextlib.suppress(OSError):
            if fcntl:
                file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # no pipe's other end is waited for
                cleanup.callback(os.close, file)
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held = True
        yield held


def _delete_leftovers(path: Path) -> None:
    """Delete what killed processes have left beside a path, under the names that `_temporary` gives it."""
    name = re.compile(re.escape(f".{path.name[:100]}.") + r".+-\d+\.tmp")
    with contextlib.suppress(OSError):  # what is in the way is reported by what comes next
        for leftover in [path.with_name(each) for each in os.listdir(path.parent) if name.fullmatch(each)]:
            with _locked(leftover) as is_abandoned:
                if is_abandoned:
                    shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def sync(*paths: Path) -> None:
    """Wait until the bytes of files, and the names in folders, are on the disk, where a power cut leaves them.

    A folder that the system can't sync, such as any on Windows, is left to it.

    Raises:
      OSError: a file can't be written to the disk.
    """
    for path in paths:
        is_folder = path.is_dir()
        with contextlib.suppress(OSError) if is_folder else contextlib.nullcontext():
            file = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
            try:
                os.fsync(file)
            finally:
                os.close(file)
