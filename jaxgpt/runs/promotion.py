"""The link that names the run in use: it is moved in one step, and never off a run that is no ancestor of the new one.

A kill or a power cut leaves the link to the old run or that to the new one.
"""

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from jaxgpt.errors import UsageError
from jaxgpt.files import new_file, report_write_errors, require_folder

DEFAULT_NAME = "promoted"  # of the link, in the folder of the runs


def require_promotable(link: Path, run: Path, ancestors: Iterable[Path]) -> None:
    """Refuse a link that can't be moved to a run.

    Args:
      ancestors: the runs that the new one comes from, those that were deleted too.

    Raises:
      UsageError: it is no link, its folder can't be written, or it names a run that is no ancestor of the new one,
        whose data would be lost.
    """
    require_folder(link.parent)
    if os.path.abspath(link) == os.path.abspath(run):
        raise UsageError(f"--promoted {link} is --out, too; choose another name")
    if not os.path.lexists(link):
        return
    if not link.is_symlink():
        raise UsageError(f"--promoted {link}: exists, and is no link; choose another name")
    target = Path(os.path.realpath(link))
    if target not in {Path(os.path.realpath(path)) for path in (run, *ancestors)}:
        raise UsageError(
            f"--promoted {link}: links to {target}, and {run} does not come from that run; "
            f"update that one, or choose another --promoted"
        )


def promote(link: Path, run: Path, ancestors: Iterable[Path]) -> None:
    """Have a link name a run. What `require_promotable` refuses is refused."""
    require_promotable(link, run, ancestors)
    with report_write_errors(link.parent):
        link.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(os.path.realpath(link.parent))
        for leftover in folder.glob(f".{glob.escape(link.name)}.*.tmp"):  # of a kill, as files.new_file names it
            if leftover.is_symlink():
                leftover.unlink(missing_ok=True)
        with new_file(folder / link.name) as temporary:
            temporary.symlink_to(os.path.relpath(os.path.realpath(run), folder), target_is_directory=True)
