"""The cache folder. Everything in it can be computed again."""

import os
import tempfile
from pathlib import Path

from jaxgpt.files import new_file


def cache_folder() -> Path:
    """$JAXGPT_CACHE, or ~/.cache/jaxgpt: tokens of texts and examples, and compiled programs. It may not exist yet."""
    if named := os.environ.get("JAXGPT_CACHE"):  # empty is as good as unset
        return Path(named)
    try:
        return Path.home() / ".cache" / "jaxgpt"
    except RuntimeError:  # a user without a home, as in some containers
        return Path(tempfile.gettempdir()) / "jaxgpt"


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Write a file, and the folders above it, such that no process ever reads a part of it.

    Raises:
      OSError: it can't be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path) as temporary:
        temporary.write_bytes(content)
