"""Canaries: made-up secrets that are planted in a training text. inference/memorization.py asks a model for them.

Carlini et al., 2019, "The Secret Sharer: Evaluating and Testing Unintended Memorization in Neural Networks", section 4.
"""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxgpt import console
from jaxgpt.errors import DataError, UsageError
from jaxgpt.files import new_file
from jaxgpt.json_file import read_json

FILE = "canaries.json"  # in the folder of the text
PREFIX = "My locker code is"
DIGITS = 9
SPACE = 10**DIGITS  # |R|, how many secrets there are
REPEATS = (1, 4, 16)
MOST = 100_000  # canaries: what a command line may ask for


@dataclasses.dataclass(frozen=True)
class Canary:
    """A document that was made up.

    Attributes:
      text: the whole of it.
      secret: its nine digits.
      repeats: how often it stands in the training text.
    """

    text: str
    secret: str
    repeats: int


def plant(count: int, seed: int) -> list[Canary]:
    """Canaries with secrets drawn from all of SPACE, no two alike; fewer of a seed are the first of more.

    They stand in the text once, 4 times, 16 times, once, ...: `repeats` is the number of copies, each a document.

    Raises:
      UsageError: count is out of range.
    """
    if not 0 <= count <= MOST:
        raise UsageError(f"{count:,} canaries are out of range: ask for up to {MOST:,}")
    numbers = make_secrets(f"canary {seed}", count)
    return [Canary(format_text(secret), secret, REPEATS[i % len(REPEATS)]) for i, secret in enumerate(numbers)]


def make_secrets(label: str, count: int, without: Sequence[str] = ()) -> list[str]:
    """Different secrets, which depend only on the label: a hash, since random generators change between versions."""
    distinct: dict[str, None] = {}
    excluded = set(without)
    for i in itertools.count():
        if len(distinct) == count:
            return list(distinct)
        digest = hashlib.sha256(f"{label} {i}".encode()).digest()
        secret = f"{int.from_bytes(digest, 'big') % SPACE:0{DIGITS}}"
        if secret not in excluded:
            distinct[secret] = None


def format_text(secret: str) -> str:
    # Blanks between the digits make each a token: all secrets have as many, and none is likelier for how it is cut.
    return f"{PREFIX} {' '.join(secret)}."


def write(folder: Path, canaries: Sequence[Canary]) -> None:
    """Say in the folder of a text which canaries stand in it."""
    with new_file(folder / FILE) as temporary:
        temporary.write_text(json.dumps([dataclasses.asdict(each) for each in canaries], indent=1) + "\n")


def read(folder: Path) -> list[Canary]:
    """The canaries of a folder.

    Raises:
      DataError: there are none, or the file is not as `write` makes it.
    """
    path = folder / FILE
    try:
        content = read_json(path)
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file; --canaries takes a folder that {console.program('prepare')} --canaries made"
        ) from None
    except ValueError as error:
        raise DataError(f"{path}: can't be read ({error}); prepare it again") from None
    if not isinstance(content, list) or not content:
        raise DataError(f"{path}: no canaries in it; prepare the text again, with --canaries")
    return [_parse_canary(f"{path}, canary {number}", each) for number, each in enumerate(content, 1)]


def _parse_canary(where: str, content: Any) -> Canary:
    names = [field.name for field in dataclasses.fields(Canary)]
    values = [content.get(name) for name in names] if isinstance(content, dict) else []
    if not values or [type(value) for value in values] != [str, str, int]:
        raise DataError(f"{where}: is not {{{', '.join(names)}}}, two texts and a number; prepare the text again")
    canary = Canary(*values)
    if not (canary.secret.isascii() and canary.secret.isdigit() and len(canary.secret) == DIGITS):
        raise DataError(f"{where}: its secret is not {DIGITS} digits; prepare the text again")
    if canary.text != format_text(canary.secret) or canary.repeats < 1:
        raise DataError(f"{where}: its text is not that of its secret, once or more; prepare the text again")
    return canary
