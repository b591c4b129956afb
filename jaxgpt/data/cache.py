"""The cache folder: whatever it holds can be made again."""

import os
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """$JAXGPT_CACHE, or ~/.cache/jaxgpt: the tokens of texts, and compiled programs. It may not exist yet."""
    if "JAXGPT_CACHE" in os.environ:
        return Path(os.environ["JAXGPT_CACHE"])
    try:
        return Path.home() / ".cache" / "jaxgpt"
    except RuntimeError:  # a user without a home, as in some containers
        return Path(tempfile.gettempdir()) / "jaxgpt"
