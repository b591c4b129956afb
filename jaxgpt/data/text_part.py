"""A part of a text, by its name: `text.txt[:-0.1]`, all but the last tenth of its tokens, or `text.txt[-0.1:]`."""

import dataclasses
import os
import re

PART = re.compile(r"(?P<name>.+)\[(?P<start>:?)-(?P<share>0?\.\d{1,12})(?P<end>:?)\]", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class TextPart:
    """A text that is cut in two.

    Attributes:
      name: of the whole text.
      share: of its tokens that are in the second part, 0 to 1.
      is_end: whether this is the second part.
    """

    name: str
    share: float
    is_end: bool

    def __str__(self) -> str:
        share = f"{self.share:.12f}".rstrip("0")
        return f"{self.name}[-{share}:]" if self.is_end else f"{self.name}[:-{share}]"


def parse_part(name: str) -> TextPart | None:
    """The part that a name asks for; None: a whole text. A file of just that name is one."""
    match = PART.fullmatch(name)
    if not match or bool(match["start"]) == bool(match["end"]) or not float(match["share"]) or os.path.exists(name):
        return None
    return TextPart(match["name"], float(match["share"]), bool(match["end"]))


def name_of_whole(name: str) -> str:
    """The name of the text that a name is a part of, or a part of a part; or the same name."""
    while part := parse_part(name):
        name = part.name
    return name


def place_of(name: str, count: int) -> tuple[int, int]:
    """Which of the `count` tokens of the whole text a name asks for: the first, and the one after the last."""
    part = parse_part(name)
    if part is None:
        return 0, count
    first, end = place_of(part.name, count)
    border = end - round(part.share * (end - first))
    return (border, end) if part.is_end else (first, border)
