"""The flags of `jaxgpt erase`."""

import dataclasses
import re
from pathlib import Path
from typing import Annotated

from jaxgpt.commands.flags import positional
from jaxgpt.errors import UsageError, require


@dataclasses.dataclass(frozen=True)
class EraseConfig:
    """Erase documents from a prepared folder, and from what was trained on it.

    Without --apply and --delete it only lists: the documents, the runs that have read them, from which step on, and
    what is to be trained again. Without documents it lists what still has those of earlier erasures.
    """

    folder: Annotated[Path, *positional("FOLDER")]
    """A folder that `jaxgpt prepare` made."""
    doc: tuple[str, ...] = ()
    """Documents by their names in this command's list: train:17."""
    pattern: str | None = None
    """Documents in which this regular expression of Python's matches something; (?i) at its beginning ignores case."""
    spans: bool = False
    """Of the documents that match --pattern, erase only the tokens of the matches."""
    file: tuple[Path, ...] = ()
    """Documents that are like the text of a file, which is UTF-8."""
    similar: float = 0.8
    """How much like a text of --file, or like a document of --doc: the share of its sequences of five words that a
    document must have; 0: only what is named."""
    runs: tuple[Path, ...] = (Path("."),)
    """Folders under which runs and exports are looked for."""
    apply: bool = False
    """Erase the tokens from the folder: end tokens take their places, which nothing learns."""
    delete: bool = False
    """Delete what has read them: checkpoints, rows of logs, runs that began with such weights, exports, caches."""

    def __post_init__(self):
        require(0 <= self.similar <= 1, "similar", self.similar, "from 0 to 1")
        if self.spans and self.pattern is None:
            raise UsageError("--spans has nothing to cut out; name it with --pattern")
        _ = self.regex

    @property
    def regex(self) -> re.Pattern | None:
        """--pattern, compiled; UsageError: it is no regular expression."""
        try:
            return None if self.pattern is None else re.compile(self.pattern)
        except (re.error, OverflowError, RecursionError, ValueError) as error:
            raise UsageError(
                f"--pattern: no regular expression ({error}); put a backslash before . ( [ * + ?"
            ) from None
