"""Where a preparation's temporary files lie, the cleaned text among them: in its folder, or, by --work-dir, elsewhere.

OUT/work is there either way: it marks the folder as half prepared. With --work-dir it has only POINTER, which names
the place, so that the next start finds what a killed one has left there.
"""

import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

from jaxgpt.errors import UsageError
from jaxgpt.files import new_file, require_no_links, require_separate
from jaxgpt.json_file import try_read_json
from jaxgpt.prepare.config import PrepareConfig

MARK = "workers"  # the file that marks a folder as ours, and that each worker holds
ASKED = "asked.json"  # what was asked for, in OUT/work
POINTER = "elsewhere.json"
NAME = re.compile(r"jaxgpt-[0-9a-f]{16}")


def locate(out: Path, work_dir: Path | None) -> Path:
    """The folder of the temporary files: one in `work_dir` that has the output's name, or OUT/work."""
    if work_dir is None:
        return out / "work"
    return work_dir.resolve() / f"jaxgpt-{hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:16]}"


def require_usable(config: PrepareConfig, inputs: Iterable[tuple[str, str | Path | None]]) -> None:
    """Refuse a --work-dir that is no folder, or in which this preparation can't write alone; nothing is touched.

    Args:
      inputs: flags, and the files that they name, which must be apart from it.

    Raises:
      UsageError: as said; or a start that was interrupted has its temporary files elsewhere.
    """
    place, before = locate(config.out, config.work_dir), _find_unfinished(config.out)
    if before not in (None, place) and not config.fresh:
        flag = "without --work-dir" if before == config.out / "work" else f"--work-dir {before.parent}"
        raise UsageError(
            f"{config.out} is half prepared already, with its temporary files in {before}; resume {flag}, or --fresh "
            "deletes them and starts over"
        )
    if config.work_dir is None:
        return
    flag = f"--work-dir {config.work_dir}"
    if not config.work_dir.is_dir() or not os.access(config.work_dir, os.W_OK | os.X_OK):
        raise UsageError(f"{flag}: no folder that can be written; make it, or mount it, first")
    require_separate("--work-dir", place, [("--out", config.out), *inputs], nested=False)
    require_separate("--out", config.out, [("--work-dir", config.work_dir)], parts=("work", "index"))
    if os.path.lexists(place):
        status = place.lstat()
        others = stat.S_IMODE(status.st_mode) & 0o077
        if not stat.S_ISDIR(status.st_mode) or others or (hasattr(os, "geteuid") and status.st_uid != os.geteuid()):
            raise UsageError(f"{flag}: {place} is no folder of yours alone; delete it, or choose another --work-dir")
        if any(place.iterdir()) and not (place / MARK).is_file():
            raise UsageError(f"{flag}: no preparation has written {place}; move it away, or choose another --work-dir")
        require_no_links(place)


def require_room(config: PrepareConfig, size: int) -> None:
    """Refuse a --work-dir that has too little room; in memory it would be found too late.

    Args:
      size: of the input, in bytes: less is sure to be too little for plain text.
    """
    if config.work_dir is not None and (free := shutil.disk_usage(config.work_dir).free) < size:
        needed = f"has {free / 1e6:,.0f} MB free, and the input has {size / 1e6:,.0f}"
        raise UsageError(
            f"--work-dir {config.work_dir}: {needed}, which its cleaned text may take; choose a larger one"
        )


def open_place(out: Path, work_dir: Path | None) -> Path:
    """Make the folder of the temporary files in which OUT/work has what it needs; returns it."""
    work, place = out / "work", locate(out, work_dir)
    if place == work:
        return work
    if (before := _find_unfinished(out)) not in (None, place):  # --fresh
        delete_place(before)
        work.mkdir(exist_ok=True)
        (work / MARK).touch()
    with new_file(work / POINTER) as temporary:  # first: the folder is found whatever comes
        temporary.write_text(json.dumps({"work": str(place)}) + "\n")
    place.mkdir(mode=0o700, exist_ok=True)
    (place / MARK).touch()
    return place


def delete_elsewhere(work: Path) -> None:
    """Delete the temporary files that OUT/work points to, if it does."""
    if (place := _read_pointer(work)) is not None:
        delete_place(place)
        (work / POINTER).unlink()


def delete_place(place: Path) -> None:
    """Delete a folder of temporary files, the mark last, so that the next start knows it after a kill."""
    is_ours = (place / MARK).is_file() or (place.is_dir() and not any(place.iterdir()))
    if not is_ours or place.is_symlink():
        return
    for child in place.iterdir():
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        elif child.name != MARK:
            child.unlink()
    (place / MARK).unlink(missing_ok=True)
    place.rmdir()


def _find_unfinished(out: Path) -> Path | None:
    """Where an interrupted start has its temporary files; None: there was none."""
    if (place := _read_pointer(out / "work")) is not None:
        return place
    return out / "work" if (out / "work" / ASKED).exists() else None


def _read_pointer(work: Path) -> Path | None:
    content = try_read_json(work / POINTER)
    path = content.get("work") if isinstance(content, dict) else None
    return Path(path) if isinstance(path, str) and NAME.fullmatch(Path(path).name) else None
