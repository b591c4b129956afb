"""What every reader gives for a record: its text, or why it has none."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from jaxgpt.data.records import RECORD_BYTES, find_name, is_unicode


class LineCounter:
    """Counts the lines, or rows, of a unit that were read."""

    count = 0


class Broken(NamedTuple):
    """A record that is no document: the reason, which the report counts, and details about this record."""

    reason: str
    detail: str = ""


Records = Iterator[tuple[int, str | Broken]]  # each with its line in the unit, from 1


def get_text(record: dict[str, Any], field: str) -> str | Broken:
    """A record's field, as `find_name` finds it."""
    if (name := find_name(field, record)) is None:
        return Broken("no text", f"{len(record)} fields, and none is {field!r}")
    text = record[name]  # a report shows nothing of it: it may be private
    if not isinstance(text, str):
        return Broken("not a text", f"{field!r} is a {type(text).__name__}")
    if len(text) > RECORD_BYTES:
        return Broken("text too long", f"more than {RECORD_BYTES:,} characters")
    return text if is_unicode(text) else Broken("not Unicode", "a lone surrogate, half of a \\u pair")


def describe_names(field: str, names: list[str], listed: str) -> Broken:
    """Why a table has no texts: none of its fields, or more than one, has the name."""
    number = "no" if find_name(field, names) is None else "more than one"
    return Broken("no text", f"{number} field {field!r} among {listed}"[:200])
