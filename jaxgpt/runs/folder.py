"""A run's folder: recognized, held by one process at a time, described by config.json, and emptied for a new start."""

import contextlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxgpt.console import say
from jaxgpt.data.open_tokenizer import FILES as TOKENIZER_FILES
from jaxgpt.errors import RetryableError, UsageError
from jaxgpt.files import (
    new_file,
    open_nofollow,
    report_write_errors,
    require_folder,
    require_no_link,
    require_no_links,
)
from jaxgpt.json_file import read_json, try_read_json
from jaxgpt.locks import Lock
from jaxgpt.runs.rows import parse_row

TRACKED = ("tensorboard", "wandb", "mlflow", "trackio")  # trackers, and their folders
LINEAGE = "lineage.json"  # of a run that `jaxgpt update` has made
ROWS = ("log.jsonl", "samples.jsonl", "answers.jsonl")  # files of rows
SECRET = "privacy.key"  # of a private run
PARTS = (
    "config.json",
    LINEAGE,
    "checkpoints",
    "profile",
    SECRET,
    *TOKENIZER_FILES,
    *ROWS,
    *TRACKED,
)  # what a run writes
CONFIG_KEYS = {"B", "T", "steps", "block_size", "fingerprint", "versions"}  # which any run's config.json has
PROGRESS_KEYS = {"position", "tokens_seen", "identity"}  # and the JSON of any of its checkpoints
CHECKPOINT_PARTS = frozenset({"state", "progress", "_CHECKPOINT_METADATA", "commit_success.txt"})
STATE_PART = re.compile(r"_METADATA|_sharding|array_metadatas|commit_success\.txt|d|manifest\.ocdbt|ocdbt\.process_\d+")
# What a start can have left that was killed before it had described the run.
EARLY = re.compile(r"\.lock(-\d+)?|\.process-id-twice|\.config\.json\.(.*\.)?tmp|\.shared-\d+|runtime-\d+\.log")
TMP = ".orbax-checkpoint-tmp"  # in the name of a checkpoint that is half written, or half deleted
LEFTOVER = re.compile(rf"\d+(\.damaged\+*|{re.escape(TMP)}.*)")


def list_steps(folder: Path) -> list[int]:
    """Steps done in the checkpoints of a folder, corrupt or not, the newest first."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted((int(name) for name in names if name.isdecimal() and str(int(name)) == name), reverse=True)


def split_checkpoint(path: Path) -> tuple[Path, int | None]:
    """The run and the steps of RUN/checkpoints/N; of another path itself and None."""
    is_checkpoint = path.parent.name == "checkpoints" and path.name.isdecimal()
    return (path.parents[1], int(path.name)) if is_checkpoint else (path, None)


def require_run_folder(out: Path) -> None:
    """Refuse a folder that contains files which are not from a run, or that can't be written.

    Raises:
      UsageError: the files of another program are in it, which a run would overwrite; or a link, or a folder, has the
        name of a file that a run writes.
    """
    require_utf8(out)
    require_folder(out)
    require_no_link(out / "checkpoints")
    for name in ROWS:
        require_no_link(out / name)
        if (out / name).is_dir():
            raise UsageError(f"{out / name}: is a folder, and a run writes a file there; move it away")
    require_no_links(out / "profile")
    with report_write_errors(out):
        if not out.is_dir() or _is_run(out):
            return
        foreign = sorted(child.name for child in out.iterdir() if not _is_early(child))
    if "config.json" in foreign and (missing := describe_missing(try_read_json(out / "config.json"))):
        raise UsageError(
            f"{out}: contains config.json, which is not from a jaxgpt run: {missing}; "
            "choose a new folder, or, where it was a run's, delete that file"
        )
    if foreign:
        raise UsageError(f"{out}: contains {foreign[0]}, which is not from a jaxgpt run; choose a new folder")


def describe_missing(config: Any) -> str:
    """What a config.json lacks that any run's has, in words; "" if it is no object, or lacks nothing."""
    missing = sorted(CONFIG_KEYS - config.keys()) if isinstance(config, dict) else []
    return f"it has no {', '.join(missing)}" if missing else ""


def _is_run(out: Path) -> bool:
    """Whether config.json is a run's, or, where it is missing or corrupt, a checkpoint is."""
    config = try_read_json(out / "config.json")
    if isinstance(config, dict):
        return config.keys() >= CONFIG_KEYS
    progress = map(try_read_json, (out / "checkpoints").glob("*/progress/metadata"))
    return any(isinstance(each, dict) and each.keys() >= PROGRESS_KEYS for each in progress)


def _is_early(child: Path) -> bool:
    if child.is_symlink():
        return False
    if child.is_dir():
        if child.name in TRACKED:  # after a move of the folder, a tracker may make its own before that
            return True
        return child.name == "checkpoints" and all(LEFTOVER.fullmatch(each.name) for each in child.iterdir())
    if child.name in ROWS:  # after a move of the folder, the next row or save makes it before it is described
        with child.open("rb") as file:
            first = file.readline(1 << 20)
        return not first or not {"tokens_seen", "prompt"}.isdisjoint(parse_row(first) or {})
    return bool(EARLY.fullmatch(child.name))


def is_checkpoint(folder: Path) -> bool:
    """Whether a run of ours wrote this folder, which has the name of a checkpoint: all of it, or what a kill left."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    progress = try_read_json(folder / "progress" / "metadata")
    if isinstance(progress, dict):
        return progress.keys() >= PROGRESS_KEYS
    inside = [child.name for child in folder.glob("state/*")]  # of what a kill has left, by the names that orbax gives
    return CHECKPOINT_PARTS.issuperset(child.name for child in folder.iterdir()) and all(
        map(STATE_PART.fullmatch, inside)
    )


class RunLock:
    """A run's folder, locked: a context. Nothing is made before `make`: a start that is refused leaves no trace.

    Raises:
      UsageError: the folder can't be written, or no checkpoint in it.
      RetryableError: another process holds it.
    """

    def __init__(self, out: Path):
        require_utf8(out)
        self._out, self._made, self._was_run = out, False, _is_run(out)
        with report_write_errors(out):
            self._locks = [Lock(out)] if os.path.lexists(out / ".lock") else []

    def __enter__(self) -> "RunLock":
        return self

    def __exit__(self, *_: object) -> None:
        for lock in self._locks:
            lock.release(restore=not self._made)

    def make(self) -> None:
        """Make the folder where it is not there, and lock it, for a run that begins.

        Raises:
          UsageError: it can't be written.
          RetryableError: another process holds it, or has trained in it since this lock was made.
        """
        self._made = True
        if self.reacquire_if_moved() and _is_run(self._out) and not self._was_run:
            raise RetryableError(f"{self._out}: another run has trained there meanwhile; run the same command again")
        with report_write_errors(self._out):
            for leftover in self._out.glob(".config.json.*tmp"):  # a start was killed while it wrote config.json
                if leftover.is_file():
                    leftover.unlink(missing_ok=True)
            for name in ROWS:  # what can't be written shall show now, not after the first step
                if (self._out / name).exists():
                    open_nofollow(self._out / name, "ab").close()

    def reacquire_if_moved(self) -> bool:
        """Make and lock the folder anew if it was moved or deleted, and say whether it was."""
        if self._locks and self._locks[-1].is_at(self._out):
            return False
        require_run_folder(self._out)  # not another program's, which has that name by now
        with report_write_errors(self._out):
            self._out.mkdir(parents=True, exist_ok=True)
            self._locks.append(Lock(self._out))
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


def find_old_run(out: Path) -> tuple[list[Path], list[Path]]:
    """What --fresh deletes of the checkpoints/ in a run's folder, and what it leaves.

    Raises:
      UsageError: checkpoints/ is a link, or something has the name of a checkpoint and is none of ours: the new run
        would take it for its own.
    """
    require_no_link(out / "checkpoints")
    children = sorted((out / "checkpoints").iterdir()) if (out / "checkpoints").is_dir() else []
    named = [child for child in children if re.fullmatch(r"0|[1-9]\d*", child.name)]
    if foreign := [child for child in named if not is_checkpoint(child)]:
        raise UsageError(f"--fresh: {foreign[0]} is not a jaxgpt checkpoint; move it away, or choose another --out")
    leftovers = (child for child in children if LEFTOVER.fullmatch(child.name))
    old = [*named, *(child for child in leftovers if child.is_dir() and not child.is_symlink())]
    return old, [child for child in children if child not in old]


def start_over(out: Path) -> str:
    """Delete the checkpoints and the log that a run has left in its folder, and nothing else.

    A kill leaves each checkpoint as it was, or under a name that the next start deletes.

    Returns:
      What was deleted, and what was left, in words; "" if there was no checkpoint.

    Raises:
      UsageError: as `find_old_run`, before anything is deleted; or something can't be deleted.
    """
    old, left = find_old_run(out)
    with report_write_errors(out):
        for child in old:
            if LEFTOVER.fullmatch(child.name):
                shutil.rmtree(child)
        named = [child for child in old if not LEFTOVER.fullmatch(child.name)]
        doomed = [child.rename(child.with_name(f"{child.name}{TMP}-old")) for child in named]
        open_nofollow(out / "log.jsonl", "wb").close()
        for name in (*ROWS[1:], LINEAGE):
            (out / name).unlink(missing_ok=True)
        for child in doomed:
            shutil.rmtree(child)
    names = ", ".join(f"checkpoints/{child.name}" for child in left[:3]) + ", ..." * (len(left) > 3)
    rest = f"; left what no run wrote: {names}" * bool(left)
    return f"deleted the run that was in {out}{rest}" * bool(old)


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


def write_config(
    out: Path, facts: dict[str, Any], start: dict[str, Any], others: Mapping[str, str] | None = None
) -> None:
    """Write config.json: `facts`, the versions that go with them, and the starts of the run, of which this is the last.

    Args:
      start: of this process: `step`, its first, and what is not the same at each start.
      others: the texts of further files, by their names, written after it, which marks the folder as a run's.
    """
    try:
        earlier = [entry for entry in read_json(out / "config.json")["starts"] if entry["step"] < start["step"]]
    except (OSError, ValueError, TypeError, KeyError):  # the first start, or a corrupt file
        earlier = []
    facts = facts | {"starts": [*earlier, start]}
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tiktoken")
    versions = {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}
    with report_write_errors(out), new_file(out / "config.json") as temporary:
        temporary.write_text(json.dumps(facts | {"versions": versions}, indent=2, default=str) + "\n")
    for name, text in (others or {}).items():
        with report_write_errors(out), new_file(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
