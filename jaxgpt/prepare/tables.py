"""The rows of CSV and TSV files."""

import csv
import io
from collections.abc import Iterator
from typing import Any

from jaxgpt.data.records import RECORD_BYTES, RECORD_PARTS

LINE_BYTES = 8  # which an empty line counts for: it takes memory too
TOO_LONG = csv.Error(f"a row of more than {RECORD_BYTES:,} characters or {RECORD_PARTS:,} delimiters")


def read_rows(file: io.TextIOBase, counter: Any, **dialect: Any) -> Iterator[tuple[int, list[str] | csv.Error]]:
    """A table's rows, or what is wrong with them, each with the line on which it begins.

    A row that can't be parsed costs its first line only, and the next row begins on the line after it: a quote that is
    never closed would take all that follows into its cell. The lines between its first and its last are parsed alone:
    a quote that one of them leaves open would be closed where the row's was not.

    Args:
      counter: a readers.LineCounter.
      dialect: of csv.reader.
    """
    first, taken, pushed_back = 1, [], ""  # the lines of a row; a broken one's last, which the next begins with

    def next_lines() -> Iterator[str]:
        nonlocal pushed_back
        size = delimiters = 0
        while line := pushed_back or file.readline(RECORD_BYTES):
            if not taken:
                size = delimiters = 0
            pushed_back = ""
            taken.append(line)
            counter.count = max(counter.count, first + len(taken) - 1)
            size += len(line) + LINE_BYTES
            if size > RECORD_PARTS:  # fewer characters have fewer delimiters
                delimiters += line.count(dialect["delimiter"])
                if size > RECORD_BYTES or delimiters > RECORD_PARTS:
                    raise TOO_LONG
            yield line

    while True:
        try:
            for row in csv.reader(next_lines(), strict=True, **dialect):
                yield first, row
                first += len(taken)
                taken.clear()
            return
        except csv.Error as error:
            yield first, error
            lines = taken[1:]
            if len(taken[-1]) == RECORD_BYTES and not _ends(taken[-1]):
                while (part := file.readline(1 << 20)) and not _ends(part):
                    pass
            elif lines:
                pushed_back = lines.pop()
            taken.clear()
            for line in lines:
                first += 1
                yield first, _parse_line(line, dialect)
            first += 1


def _ends(line: str) -> bool:
    return line.endswith(("\n", "\r"))


def _parse_line(line: str, dialect: dict[str, Any]) -> list[str] | csv.Error:
    if len(line) >= RECORD_BYTES:
        return TOO_LONG
    try:
        return next(csv.reader([line], strict=True, **dialect), [])
    except csv.Error as error:
        return error
