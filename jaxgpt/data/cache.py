"""The cache folder. Everything in it can be computed again."""

import os
import socket
import tempfile
from pathlib import Path


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
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.tmp")  # hosts may share the folder
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
